"""`clawmw explain`: what a policy does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from clawmw.cli.source import DEFAULT, read_policy

__all__ = ["command"]


@click.command()
@click.argument("path", metavar="[P]", required=False)
@click.option("--agent", metavar="A", help="Only the rules that can hold for this agent.")
@click.option("--json", "as_json", is_flag=True, help="The explanation as JSON.")
def command(path: str | None, agent: str | None, as_json: bool) -> None:
    """Show what a policy does, defaults included.

    P is a policy file, or - for standard input. Default: clawmw.yaml in this folder, or
    where there is none what holds without any policy.
    """
    from clawmw.policy.explain import explain
    from clawmw.policy.explain_text import render
    from clawmw.policy.load import load_policy

    if path is None and Path(DEFAULT).exists():
        path = DEFAULT
    policy = load_policy({"version": 1}) if path is None else read_policy(path)
    explanation = explain(policy, agent=agent)
    if as_json:
        click.echo(json.dumps(asdict(explanation), ensure_ascii=False, indent=2))
    else:
        click.echo(render(explanation, path or "no policy (all defaults)"), nl=False)
