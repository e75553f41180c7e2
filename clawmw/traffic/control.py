"""`Traffic`: performs the effects that are about other calls of this process.

Safe to share between threads and event loops. A waiter holds neither a thread of a pool nor a
store; whoever leaves, by an answer, an error, a cancellation or the garbage collector, leaves
nothing behind (`over`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, assert_never

from clawmw.core.effects import (
    Admit,
    Join,
    Leave,
    Permit,
    Publish,
    Report,
    Sense,
    Sensed,
    Share,
    Sleep,
    Wait,
    Withdraw,
)
from clawmw.traffic.flights import Flights, Led
from clawmw.traffic.gates import Gates, Held
from clawmw.traffic.health import Begun, Health
from clawmw.traffic.leaders import Lead, Leaders

__all__ = ["Guest", "Traffic"]


class Guest:
    """One exchange, as traffic knows it."""

    def __init__(self, traffic: Traffic, exchange: str) -> None:
        self._traffic = traffic
        self.exchange = exchange
        self.lead: Lead = traffic.leaders.lead()
        self.held: Held = {}
        self.led: Led = {}
        self.let_through: Begun = {}

    def begun(self) -> None:
        """A streamed answer has begun."""
        self.lead.begun()
        self._traffic.health.begun(self.exchange)

    def over(self, *, ok: bool = False, failed: bool = False) -> None:
        """The exchange is over: give back what it still holds. May be told twice.

        `failed`: its model call did, for good; neither given means that it was left.
        """
        self.lead.over(ok=ok)
        if self.held:
            self._traffic.gates.over(self.held)
        self._traffic.health.over(self.exchange)
        if self.led:
            self._traffic.flights.over(self.led, failed=failed)

    def __del__(self) -> None:
        """It was dropped: whoever comes next gives back what it held."""
        self._traffic.gates.gone(self.held)
        self._traffic.flights.gone(self.led)


class Traffic:
    """See the module."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._sleep = sleep
        self.leaders = Leaders(clock)
        self.gates = Gates(clock)
        self.health = Health(clock, dice)
        self.flights = Flights(clock)

    def guest(self, exchange: str) -> Guest:
        """For an exchange that begins."""
        return Guest(self, exchange)

    def wait(self, guest: Guest, effect: Wait) -> Any:
        """Wait in this thread."""
        match effect:
            case Sleep(seconds):
                return self._sleep(seconds)
            case Join():
                return self.leaders.join(guest.lead, effect)
            case Admit():
                return self.gates.admit(guest.held, effect)
            case Share():
                return self.flights.share(guest.led, effect)
            case _:
                assert_never(effect)

    async def await_(self, guest: Guest, effect: Wait) -> Any:
        """Wait without holding up the event loop."""
        match effect:
            case Sleep(seconds):
                return await self._asleep(seconds)
            case Join():
                return await self.leaders.ajoin(guest.lead, effect)
            case Admit():
                return await self.gates.aadmit(guest.held, effect)
            case Share():
                return await self.flights.ashare(guest.led, effect)
            case _:
                assert_never(effect)

    async def _asleep(self, seconds: float) -> None:
        if self._sleep is time.sleep:
            await asyncio.sleep(seconds)
        else:
            self._sleep(seconds)

    def perform(
        self, guest: Guest, effect: Leave | Permit | Report | Sense | Withdraw | Publish
    ) -> Any:
        """What needs no waiting."""
        match effect:
            case Leave():
                return self.gates.leave(guest.held, effect)
            case Permit():
                return self.health.permit(effect, guest.let_through)
            case Report():
                turned = self.health.report(effect, guest.let_through)
                if turned == "closed":
                    self.gates.afresh(effect.upstream)
                return turned
            case Publish():
                return self.flights.publish(guest.led, effect)
            case Sense(upstream):
                waited = self.gates.waited(upstream)
                return Sensed(self.health.is_open(upstream), waited)
            case Withdraw():
                return self.health.withdraw(effect)
            case _:
                assert_never(effect)

    def census(self) -> dict[str, int]:
        """How many hold and wait for what: all zero when nothing is under way."""
        return {
            "leaders": self.leaders.waiting(),
            "probes": self.health.probes(),
            "flights": self.flights.count(),
            **self.gates.census(),
        }
