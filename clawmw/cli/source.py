"""A policy named on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clawmw.policy.models import Policy

__all__ = ["DEFAULT", "read_policy"]

DEFAULT = "clawmw.yaml"
"""What `init` writes, and what a command that may go without a policy looks for."""


def read_policy(path: str) -> Policy:
    """The policy at `path`, or on standard input for `-`. Raises `PolicyError`."""
    from clawmw.policy.document import MAX_BYTES
    from clawmw.policy.load import load_policy, parse_policy

    if path == "-":
        text = sys.stdin.buffer.read(MAX_BYTES + 1)
        policy = parse_policy(text, name="-")
        return policy.model_copy(update={"folder": str(Path.cwd())})
    return load_policy(Path(path))
