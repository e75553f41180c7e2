"""The task and the four agents' system prompts.

All four share a long common part and end in a short one that names the agent, so that
providers that match prefixes token by token can keep the common part.
"""

from __future__ import annotations

import json

from clawmw.emulator.trip.texts import text

__all__ = ["AGENTS", "TASK"]

TASK = text("task.md").strip()
"""What the family asks for."""


def _prompt(role: str, part: str) -> str:
    common = f"{text('common.md')}\n{text('handbook.md')}"
    return f"{common}\n# Your part\nAgent: {role}\n{part}"


AGENTS: dict[str, str] = {
    role: _prompt(role, part) for role, part in json.loads(text("roles.json")).items()
}
"""System prompts by agent: plan, gather, check, report, in the order they work."""
