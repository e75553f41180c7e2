"""The demo's world: a Saturday at Shanghai Disneyland for a family, planned by four agents.

`TASK` is what the family asks, `AGENTS` the system prompts (plan, gather, check, report),
`TOOLS` the tool schemas, `call_tool` answers them with large, messy, fixed outputs, `brain`
plays the model, and `check` says what is wrong with the final plan. The brain sees only the
request it is sent: what a middleware hid, it must ask back or fail.
"""

from __future__ import annotations

from clawmw.emulator.trip.brain import brain
from clawmw.emulator.trip.check import check
from clawmw.emulator.trip.prompts import AGENTS, TASK
from clawmw.emulator.trip.tools import TOOLS, call_tool

__all__ = ["AGENTS", "TASK", "TOOLS", "brain", "call_tool", "check"]
