"""A stage of your own: refuse heartbeats at night. Under 60 lines, tests included.

python examples/own_stage.py
"""

import time
from typing import ClassVar

from clawmw.core.decisions import Because, Decision, Halt, Pass
from clawmw.core.identity import Identity
from clawmw.core.stage import Context, StageTraits
from clawmw.core.types import Json, Outcome, Request
from clawmw.stages.base import Build, Registration, StageConfig, register
from clawmw.testing import Bench, check_session


class NightConfig(StageConfig):
    """Heartbeats are refused before this hour (UTC)."""

    until: int = 6


class Night:
    """Decides from values alone: the clock comes in as `ctx.now`."""

    traits: ClassVar[StageTraits] = StageTraits("night", runs="call")

    def __init__(self, config: NightConfig) -> None:
        self.config = config

    def before(self, request: Request, slot: Json | None, ctx: Context) -> Decision:
        hour = time.gmtime(ctx.now).tm_hour
        if ctx.identity.kind != "heartbeat" or hour >= self.config.until:
            return Pass()
        used = f"it is {hour:02d}h"
        resume = f"Heartbeats are sent again from {self.config.until:02d}h."
        return Halt(Because("night", "until"), "kind", "no heartbeats", used, resume)

    def after(
        self, request: Request, outcome: Outcome, slot: Json | None, ctx: Context
    ) -> Decision:
        return Pass()


def build(config: NightConfig, build: Build) -> Night:
    return Night(config)


register(Registration("night", NightConfig, build))

bench = Bench({"version": 1, "night": {"until": 24}})
bench.identity = Identity(session="s", chain="c", kind="heartbeat")
print(bench.send([{"role": "user", "content": "anything new?"}]).result.halt)
check_session({"version": 1, "night": True}, [[{"role": "user", "content": "hi"}]])
