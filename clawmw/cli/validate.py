"""`clawmw validate`: check policies."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmw.cli.source import read_policy

if TYPE_CHECKING:
    from clawmw.errors import PolicyError
    from clawmw.policy.models import Policy

__all__ = ["command"]


@click.command()
@click.argument("paths", metavar="P...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="The results as JSON.")
def command(paths: tuple[str, ...], as_json: bool) -> int:
    """Check policies; say what is wrong and where.

    P is a policy file, or - for standard input. Exit code 0 when all are right, else 1.
    """
    results = [_check(path) for path in paths]
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False, indent=2))
    else:
        for result in results:
            _say(result)
    return 0 if all(result["ok"] for result in results) else 1


def _check(path: str) -> dict[str, Any]:
    from clawmw.errors import PolicyError
    from clawmw.policy.load import digest
    from clawmw.policy.spoken import reached

    try:
        policy = read_policy(path)
        _check_flows(policy)
    except PolicyError as e:
        return {"path": path, "ok": False, "problems": _problems(e), "text": str(e)}
    return {
        "path": path,
        "ok": True,
        "digest": digest(policy),
        "stages": [s for s, config in policy.stages.items() if config.enabled],
        "models": list(policy.models),
        "reached": {name: reached(entry) for name, entry in policy.models.items()},
        "flows": list(policy.flows),
    }


def _check_flows(policy: Policy) -> None:
    """That every flow can be planned; its tools are left alone, since they are code to import."""
    if not policy.flows:
        return
    from clawmw.flow.plan import make_plan

    base = Path(policy.folder) if policy.folder else None
    for name, flow in policy.flows.items():
        make_plan(name, flow, models=policy.models, tools=None, base=base)


def _problems(error: PolicyError) -> list[dict[str, Any]]:
    from clawmw.policy.problems import InvalidPolicyError

    if isinstance(error, InvalidPolicyError):
        return [asdict(problem) for problem in error.problems]
    message = str(error).removeprefix(f"{error.where}: ")
    return [{"where": error.where, "line": error.line, "message": message}]


def _say(result: dict[str, Any]) -> None:
    path = result["path"]
    if not result["ok"]:
        # Files and lines are named as compilers name them, so that editors can jump there.
        for line in result["text"].splitlines():
            click.echo(line if line.startswith(f"{path}:") else f"{path}: {line}", err=True)
        return
    parts = [
        _count(len(result["stages"]), "stage"),
        *(_count(len(result[kind]), kind[:-1]) for kind in ("models", "flows") if result[kind]),
        f"digest {result['digest']}",
    ]
    click.echo(f"{path}: ok ({', '.join(parts)})")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
