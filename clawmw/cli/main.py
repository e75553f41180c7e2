"""The `clawmw` command. Each subcommand is a module, imported when it is called.

Exit codes: 0 done, 1 the input was wrong, 2 wrong usage, 3 stopped by a limit, 4 upstream
failed; 130 interrupted, 141 when whoever read the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple

import click

from clawmw.errors import ClawmwError, Refused

__all__ = ["COMMANDS", "cli", "main"]


class Entry(NamedTuple):
    """Where a subcommand lives, and its line in the help."""

    module: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "init": Entry("clawmw.cli.init", "Write a policy to start from."),
    "validate": Entry("clawmw.cli.validate", "Check policies; say what is wrong and where."),
    "explain": Entry("clawmw.cli.explain", "Show what a policy does, defaults included."),
    "schema": Entry("clawmw.cli.schema", "Print the JSON Schema of a policy, for editors."),
    "serve": Entry("clawmw.cli.serve", "Run the gateway: agents call it, it calls the models."),
    "run": Entry("clawmw.cli.run", "Run a program with its model calls under a policy."),
    "openclaw": Entry("clawmw.cli.openclaw", "Have OpenClaw call its models through clawmw."),
    "flow": Entry("clawmw.cli.flow", "Check, run and resume the flows of a policy."),
    "traces": Entry("clawmw.cli.traces", "List recorded chains; show one as a tree."),
    "collect": Entry("clawmw.cli.collect", "Take in spans that other programs send by OTLP."),
    "ui": Entry("clawmw.cli.ui", "Watch chains and budgets in the browser, live."),
    "explain-call": Entry(
        "clawmw.cli.explain_call", "Tell what happened to one call, rule by rule."
    ),
    "report": Entry("clawmw.cli.report", "Write a report of recorded chains, as an HTML page."),
    "expand": Entry("clawmw.cli.expand", "Show what was cut from a tool result."),
    "budget": Entry("clawmw.cli.budget", "Show, raise or reset what the limits allow."),
    "store": Entry("clawmw.cli.store", "Show or forget what is kept of conversations."),
    "mcp": Entry("clawmw.cli.mcp", "Serve what was cut as an MCP tool, on standard input."),
    "replay": Entry("clawmw.cli.replay", "Show what a policy would have saved on recorded runs."),
    "cache-doctor": Entry(
        "clawmw.cli.cache_doctor", "Show why the prompt cache was missed, and what to do."
    ),
    "notify": Entry("clawmw.cli.notify", "Send a test notice, as the policy's `notify:` says."),
    "emulate": Entry("clawmw.cli.emulate", "Run a model provider on loopback, for trying out."),
    "demo": Entry(
        "clawmw.cli.demo", "Do a long task with and without clawmw; show what both cost."
    ),
}
"""Name -> where it is. The module holds a click command called `command`."""

_INTERRUPTED = 130
_READER_GONE = 141


class _Lazy(click.Group):
    """Knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = import_module(COMMANDS[cmd_name].module)
        except ModuleNotFoundError as e:
            raise click.ClickException(
                f"`{cmd_name}` cannot run: the Python package {e.name} is not installed"
            ) from e
        command = getattr(module, "command", None) or getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = get_close_matches(name, COMMANDS, 1)
            advice = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # it was closed before we began
                sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered has no reader; keep the interpreter from flushing it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_READER_GONE)
        return result


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version  # slow to import, rarely needed

        click.echo(f"clawmw {version('clawmw')}")
        ctx.exit()


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Policy-driven middleware for the model calls of AI agents."""


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's own); the exit code."""
    try:
        result = cli.main(args, prog_name="clawmw", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except ClawmwError as e:
        return _fail(str(e), getattr(e, "exit_code", 3 if isinstance(e, Refused) else 1))
    except OSError as e:
        said = e.strerror or str(e)
        return _fail(f"{e.filename}: {said}" if e.filename else said, 1)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"clawmw: {line}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
