"""A policy named on the command line, and options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clawmw.policy.models import Policy

__all__ = ["DEFAULT", "json_flag", "kept_by", "read_policy"]

DEFAULT = "clawmw.yaml"
"""What `init` writes, and what a command that may go without a policy looks for."""

kept_by = click.option(
    "--policy",
    "source",
    metavar="P",
    default=DEFAULT,
    show_default=True,
    envvar="CLAWMW_POLICY",
    help="The policy whose store, tenant and limits are meant.",
)
json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def read_policy(path: str) -> Policy:
    """The policy at `path`, or on standard input for `-`. Raises `PolicyError`."""
    from clawmw.policy.document import MAX_BYTES
    from clawmw.policy.load import load_policy, parse_policy

    if path == "-":
        text = sys.stdin.buffer.read(MAX_BYTES + 1)
        policy = parse_policy(text, name="-")
        return policy.model_copy(update={"folder": str(Path.cwd())})
    return load_policy(Path(path))
