"""`clawmw mcp`: what was cut, as a tool of the Model Context Protocol."""

from __future__ import annotations

from typing import Any

import click

from clawmw.cli.source import DEFAULT, read_policy

__all__ = ["command"]


@click.command()
@click.option(
    "--policy",
    "path",
    metavar="P",
    default=DEFAULT,
    show_default=True,
    envvar="CLAWMW_POLICY",
    help="The policy whose store is read; its `store` must be a folder.",
)
@click.option(
    "--session",
    metavar="S",
    envvar="CLAWMW_SESSION",
    help="The session whose references are served, as in x-clawmw-session.",
)
@click.option(
    "--parent",
    metavar="C",
    envvar="CLAWMW_PARENT",
    help="The chain that started this session, whose references it may read, too.",
)
def command(path: str, session: str | None, parent: str | None) -> None:
    """Serve clawmw_expand over MCP on standard input and output, for one session.

    An agent host starts it, such as with: clawmw mcp --policy clawmw.yaml --session S.
    P, S and C may also come from CLAWMW_POLICY, CLAWMW_SESSION and CLAWMW_PARENT. Needs
    the extra: pip install "clawmw[mcp]".
    """
    if not session:
        raise click.UsageError("name the session: --session S, or CLAWMW_SESSION")
    from clawmw.adapters.mcp import serve
    from clawmw.originals import Originals
    from clawmw.policy import build

    policy = read_policy(path)
    originals = Originals.of(policy)
    traces: list[Any] = [one for one in build.observers(policy) if hasattr(one, "tool")]
    try:
        serve(originals, originals.session(session, parent=parent), *traces[:1])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise click.ClickException(
            'the Python package mcp is not installed; run: pip install "clawmw[mcp]"'
        ) from None
    finally:
        originals.close()
        for one in traces:
            one.close()
