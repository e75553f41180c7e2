"""`clawmw schema`: the JSON Schema of a policy."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Print the JSON Schema of a policy, for editors.

    With the YAML language server, name the file it was saved to on the policy's first line:
    `# yaml-language-server: $schema=clawmw.schema.json`.
    """
    from clawmw.policy.schema import policy_schema

    click.echo(json.dumps(policy_schema(), ensure_ascii=False, indent=2))
