"""The demo's world: a Saturday at Shanghai Disneyland for a family, planned by four agents.

`TOOLS` are the tool schemas, `call_tool` answers them with large, messy, fixed outputs, `brain`
plays the model for the agents plan, gather, check and report, and `check` says what is wrong with
the final plan. The brain sees only the request it is sent: what a middleware hid, it must ask
back or fail. What the agents are told stands in the flow that runs them.
"""

from __future__ import annotations

from clawmw.emulator.trip.brain import brain
from clawmw.emulator.trip.check import check
from clawmw.emulator.trip.tools import TOOLS, call_tool

__all__ = ["TOOLS", "brain", "call_tool", "check"]
