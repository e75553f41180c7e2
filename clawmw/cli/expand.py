"""`clawmw expand`: what a marker left out, for a person."""

from __future__ import annotations

import json

import click

from clawmw.cli.source import DEFAULT, read_policy

__all__ = ["command"]


@click.command()
@click.argument("ref", metavar="REF")
@click.option(
    "--policy",
    "source",
    metavar="P",
    default=DEFAULT,
    show_default=True,
    envvar="CLAWMW_POLICY",
    help="The policy whose store is read.",
)
@click.option(
    "--session",
    metavar="S",
    envvar="CLAWMW_SESSION",
    help="The session in which the reference was seen. Default: $CLAWMW_SESSION.",
)
@click.option(
    "--parent",
    metavar="C",
    envvar="CLAWMW_PARENT",
    help="The chain that started the session, whose references it may read, too.",
)
@click.option("--query", default="", metavar="Q", help="Only what best holds these words.")
@click.option("--lines", default="", metavar="A-B", help="Only these lines, from 1.")
@click.option("--path", default="", metavar="P", help="Only this place in JSON: items[3].id.")
@click.option("--all", "whole", is_flag=True, help="All of it, as it came.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: ref, session, text.")
def command(
    ref: str,
    source: str,
    session: str | None,
    parent: str | None,
    as_json: bool,
    whole: bool,
    **asked: str,
) -> None:
    """Show what the marker [clawmw_expand REF: ...] left out, as the model is shown it.

    About 1,500 tokens at a time, with a note of what else there is; --all for the original
    itself. Exit code 1 when nothing is kept under REF for that session.
    """
    from clawmw.originals import Originals
    from clawmw.stages.context.slices import Asked

    wanted = Asked.of({"ref": ref, **asked})
    if whole and any(asked.values()):
        raise click.UsageError("--all goes without --query, --lines and --path")
    originals = Originals.of(read_policy(source))
    try:
        if not session:
            raise click.UsageError(_which(originals.sessions_with(wanted.ref), wanted.ref))
        who = originals.session(session, parent=parent)
        if whole:
            original = originals.whole(who, wanted.ref)
            text, found = original or "", original is not None
        else:
            text, found = originals.answer(who, wanted)
    finally:
        originals.close()
    if not found:
        raise click.ClickException(f"nothing is kept under {wanted.ref!r} for session {session!r}")
    text = text.encode("utf-8", "backslashreplace").decode()
    if as_json:
        text = json.dumps(
            {"ref": wanted.ref, "session": session, "text": text}, ensure_ascii=False, indent=2
        )
    click.echo(text)


def _which(sessions: list[str], ref: str) -> str:
    """What to say where no session is named: a reference is one session's own."""
    if not sessions:
        return f"name the session with --session (none keeps anything under {ref!r})"
    some = ", ".join(sessions[:5]) + (", ..." if len(sessions) > 5 else "")
    return f"name the session with --session; {ref!r} is kept for {some}"
