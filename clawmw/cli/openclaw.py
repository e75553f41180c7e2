"""`clawmw openclaw`: have OpenClaw call its models through clawmw, and see whether it does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from clawmw.cli.source import DEFAULT

if TYPE_CHECKING:
    from clawmw.openclaw.config import Record
    from clawmw.openclaw.plan import Plan
    from clawmw.openclaw.text import Document

__all__ = ["command"]

_URL = "http://127.0.0.1:4000"
_SECRET = re.compile(r"(?i)(\w*(?:key|token|secret|password)\w*[\"']?\s*:\s*)(\"[^\"]*\"|'[^']*')")
_POLICY = """\
# Written by `clawmw openclaw setup`; `clawmw explain` shows what holds besides.
version: 1
compress: balanced
budget:
  chain: {calls: 60, input_tokens: 2M}   # of one turn of OpenClaw, its sub-agents included
store: {disk: ~/.local/share/clawmw}
"""

_config = click.option(
    "--config",
    "given",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Default: $OPENCLAW_CONFIG_PATH, else openclaw.json in $OPENCLAW_STATE_DIR.",
)
_where = click.option(
    "--url",
    metavar="URL",
    help=f"Where `clawmw serve` answers. Default: as set up before, else {_URL}.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def command() -> None:
    """Have OpenClaw call its models through clawmw.

    `setup` changes OpenClaw's config (a backup is kept), `check` says what is right and wrong
    with it, `undo` takes the change back.
    """


@command.command()
@_config
@_where
@click.option("--provider", "only", metavar="NAME", multiple=True, help="Only this one.")
@click.option("--policy", metavar="P", default=DEFAULT, show_default=True, help="Of the gateway.")
@click.option("--token-env", metavar="NAME", help="Variable with the gateway's token.")
@click.option("--dry-run", is_flag=True, help="Show the change; make none.")
@_as_json
def setup(
    given: Path | None, url: str | None, policy: str, dry_run: bool, as_json: bool, **chosen: Any
) -> int:
    """Have the providers of OpenClaw's config lead to the gateway.

    Sets their base URLs, and the keys without which a provider behind a proxy loses its prompt
    cache. Comments and all else stay. It can be run again; `undo` leads back to the start.
    """
    from clawmw.openclaw import config

    path, document, record, place = _opened(given, url)
    plan = _made(document, place, record, policy=str(Path(policy).absolute()), **chosen)
    new = document
    for edit in plan.edits:
        new = new.set(edit.path, edit.value)
    lines = []
    if dry_run:
        lines += _diff(document.text, new.text, path)
    elif new is not document:
        backup = config.write(path, document, new, plan.edits, place)
        lines.append(f"{path}: changed; as it was: {backup.name}")
    else:
        lines.append(f"{path}: nothing to change")
    done = config.Record("", "", (*plan.edits, *(record.edits if record else ())), place)
    left = _made(new, place, done, **chosen)
    _look(left, place)
    lines += _next(plan, policy, place, chosen["token_env"], dry_run=dry_run)
    lines += [f"{f.level:<6}{f.where}: {f.what}" for f in left.findings if f.level != "ok"]
    if as_json:
        changes = [{**asdict(e), "path": list(e.path)} for e in plan.edits]
        found = {"config": str(path), "changes": changes, "findings": _plain(left)}
        found["upstreams"] = sorted({url for url, _ in plan.upstreams})
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(lines))
    return 0


@command.command()
@_config
@_where
@_as_json
def check(given: Path | None, url: str | None, as_json: bool) -> int:
    """Say what is right and wrong with OpenClaw's config. Exit code 1 when something is wrong."""
    path, document, record, place = _opened(given, url)
    plan = _made(document, place, record)
    _look(plan, place)
    _reached(plan, place)
    if as_json:
        click.echo(json.dumps({"config": str(path), "findings": _plain(plan)}, indent=2))
    else:
        for one in plan.findings:
            click.echo(f"{one.level:<6}{one.where}: {one.what}")
    return 1 if any(one.level == "wrong" for one in plan.findings) else 0


@command.command()
@_config
def undo(given: Path | None) -> int:
    """Take back what `setup` changed."""
    from clawmw.openclaw import config

    for line in config.undo(given or config.config_path(os.environ)):
        click.echo(line)
    return 0


def _opened(given: Path | None, url: str | None) -> tuple[Path, Document, Record | None, str]:
    """The config, what was changed in it before, and where the gateway is."""
    from clawmw.openclaw import config

    path = (given or config.config_path(os.environ)).resolve()
    document = config.read(path)
    record = config.Record.read(path)
    place = (url or (record.url if record else _URL)).rstrip("/").removesuffix("/v1")
    parts = urlsplit(place)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path:
        raise click.BadParameter(
            f"expected the gateway's address, such as {_URL}", param_hint="--url"
        )
    return path, document, record, place


def _made(document: Document, url: str, record: Record | None, **more: Any) -> Plan:
    from clawmw.openclaw.plan import made

    return made(document, url, record=record, **more)


def _look(plan: Plan, url: str) -> None:
    from clawmw.openclaw.agents import look
    from clawmw.openclaw.config import state_folder

    look(plan, state_folder(os.environ), url)


def _diff(old: str, new: str, path: Path) -> list[str]:
    """What would change, without what surrounds it; keys are not shown."""
    from difflib import unified_diff

    lines = unified_diff(
        old.splitlines(), new.splitlines(), str(path), "with clawmw", n=0, lineterm=""
    )
    return [_SECRET.sub(r'\1"***"', line) for line in lines] or [f"{path}: nothing to change"]


def _next(
    plan: Plan, policy: str, url: str, token_env: str | None, *, dry_run: bool
) -> Iterator[str]:
    """What is to be done now: the policy, and the gateway's very command."""
    upstreams = plan.upstreams
    if not upstreams:
        return
    models = _models(upstreams) if len({url for url, _ in upstreams}) > 1 else ""
    if not Path(policy).exists():
        text = _POLICY + models
        if dry_run:
            yield f"{policy}: would be written"
        else:
            Path(policy).write_text(text)
            yield f"{policy}: written"
    elif models:
        yield f"put into {policy}, where it is not there yet:"
        yield from ("  " + line for line in models.splitlines())
    parts = urlsplit(url)
    words = ["clawmw", "serve", "--policy", policy, "--port", str(parts.port or 80)]
    if not models:
        words += ["--upstream", next(iter(upstreams))[0]]
    if token_env is not None:
        words += ["--token-env", token_env]
    yield f"run: {' '.join(words)}"


def _models(upstreams: dict[tuple[str, str], list[str]]) -> str:
    """The `models` of a policy under which each model's calls go where they went before."""
    seen: dict[str, str] = {}
    lines = ["models:"]
    for (url, dialect), models in upstreams.items():
        spoken = f", dialect: {dialect}" if dialect else ""
        for model in models:
            if model in seen:
                raise click.ClickException(
                    f"{model} is asked for at {seen[model]} and at {url}, which the gateway cannot "
                    "tell apart; choose with --provider"
                )
            seen[model] = url
            name = json.dumps(model)
            lines.append(f"  {name}: {{model: {name}, base_url: {json.dumps(url)}{spoken}}}")
    return "\n".join(lines) + "\n"


def _reached(plan: Plan, url: str) -> None:
    """Whether a gateway answers."""
    import httpx

    try:
        with httpx.Client(trust_env=False, timeout=5) as client:
            answer = client.get(f"{url}/healthz")
        there = answer.status_code in (200, 401)
    except httpx.HTTPError:
        there = False
    if there:
        plan.say("ok", "gateway", f"answers at {url}")
    else:
        plan.say("wrong", "gateway", f"nothing answers at {url}; start it with `clawmw serve`")


def _plain(plan: Plan) -> Sequence[dict[str, str]]:
    return [asdict(finding) for finding in plan.findings]
