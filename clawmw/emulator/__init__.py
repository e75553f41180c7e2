"""A model provider on loopback, for tests, demos and benchmarks.

::

    with Emulator(bill="anthropic", brain=script(["Hello."])) as emu:
        client = OpenAI(base_url=emu.base_url, api_key="any")

It speaks chat completions, OpenAI's Responses and Anthropic's messages (streaming, tool calls,
and what each provider remembers or refuses), bills like a chosen provider (`bill`), answers
from a scripted brain (`brains`), and misbehaves on request (`faults`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clawmw.emulator.brains import echo, loop, script, turns
    from clawmw.emulator.faults import Fault
    from clawmw.emulator.reply import Brain, Reply, ToolUse
    from clawmw.emulator.server import Emulator, PortInUse

__all__ = [
    "Brain",
    "Emulator",
    "Fault",
    "PortInUse",
    "Reply",
    "ToolUse",
    "echo",
    "loop",
    "script",
    "turns",
]

_HOME = {
    "Brain": "reply",
    "Emulator": "server",
    "Fault": "faults",
    "PortInUse": "server",
    "Reply": "reply",
    "ToolUse": "reply",
    "echo": "brains",
    "loop": "brains",
    "script": "brains",
    "turns": "brains",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: the web server is not needed for brains."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"clawmw.emulator.{_HOME[name]}"), name)
