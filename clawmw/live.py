"""One exchange under way, and how its steps are taken from an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from clawmw.core.codec import Codec
from clawmw.core.drive import aadvance, advance_to
from clawmw.core.effects import WAITS, Call, Called, Effect, Emit, GetBlob, PutBlob, Wait
from clawmw.core.engine import Result, Run
from clawmw.core.types import Failure, Request
from clawmw.errors import StoreBusy
from clawmw.policy.models import ModelEntry, Policy, Timeouts
from clawmw.stores.base import Stores
from clawmw.traffic.control import Guest, Traffic

__all__ = ["Live", "Performer", "Terms"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy says of a call besides its stages."""

    refusal: Literal["auto", "message", "error"] = "auto"
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    """Models a stage may send to, by the policy's name."""
    timeout: Timeouts = Timeouts()  # noqa: RUF009 - frozen

    @classmethod
    def of(cls, policy: Policy) -> Terms:
        """A policy's."""
        return cls(policy.refusal, policy.models, policy.timeout)


class Performer(Protocol):
    """What an exchange needs of the runtime it belongs to."""

    stores: Stores
    traffic: Traffic

    def perform(self, live: Live, effect: Effect) -> Any:
        """Perform one effect."""
        ...

    def release(self, live: Live) -> None:
        """Give back what was reserved for an attempt that will never be sent."""
        ...

    def remember(self, live: Live, result: Result) -> None:
        """Keep what makes the session's next call cheap."""
        ...


@dataclass(slots=True)
class Live:
    """One exchange under way: its generator, and the two ways to perform its effects."""

    run: Run
    codec: Codec
    request: Request
    exchange: str
    _runtime: Performer
    policy: str
    """Digest of the policy it runs under; a reload changes it for later calls only."""
    began: float
    now: float
    """When it began, by the runtime's clock."""
    guest: Guest
    """What it holds of what the calls of this process share."""
    called: float = 0.0
    """Seconds spent in the model calls themselves."""
    terms: Terms = Terms()
    """Those of the policy it runs under."""
    failure: Failure | None = None
    """How the last attempt that was sent failed, if it did."""
    unsent: set[str] = field(default_factory=set)
    """Reservations of an attempt that was not sent so far."""

    def perform(self, effect: Effect) -> Any:
        """Perform one effect."""
        return self._runtime.perform(self, effect)

    async def aperform(self, effect: Effect) -> Any:
        """Perform one effect; a store that may wait does so in a thread."""
        if isinstance(effect, Wait):
            return await self._runtime.traffic.await_(self.guest, effect)
        stores = self._runtime.stores
        if not stores.blocking or isinstance(effect, Emit):
            return self._runtime.perform(self, effect)
        if stores.at_once is None or isinstance(effect, PutBlob | GetBlob):
            return await _whole(self._runtime.perform, self, effect)
        began = time.perf_counter()
        try:
            with stores.at_once():
                return self._runtime.perform(self, effect)
        except StoreBusy:  # somebody else is writing: a thread waits for it
            return await _whole(self._runtime.perform, self, effect)
        finally:
            stores.pace.took(time.perf_counter() - began)

    async def aadvance(self, answer: Called | None) -> Call | Result:
        """Go as far as the next model call; with a store that is slow, in one thread hop."""
        try:
            step = await self._aadvance(answer)
        except GeneratorExit:  # by the garbage collector, perhaps within a lock of ours: it can
            raise  # neither wait nor lock; the guest says so when it is collected, leases end
        except Exception:
            self.guest.over()
            raise
        except BaseException:  # cancelled: nobody may wait for it, and it is not sent
            self.guest.over()
            self.run.close()
            if self._runtime.stores.blocking:
                await _whole(self._runtime.release, self)
            else:
                self._runtime.release(self)
            raise
        if isinstance(step, Call):
            self.unsent.clear()
        return step

    async def _aadvance(self, answer: Called | None) -> Call | Result:
        stores = self._runtime.stores
        if stores.blocking and not (stores.at_once and stores.pace.quick()):
            # Whoever waits must not hold a thread that the one waited for may need.
            given: Any = answer
            while True:
                step = await _whole(advance_to, (Call, *WAITS), self.run, self.perform, given)
                if not isinstance(step, Wait):
                    return step
                given = await self._runtime.traffic.await_(self.guest, step)
        return await aadvance(self.run, self.aperform, answer)

    def ended(self, result: Result) -> Result:
        """Remember what makes the session's next call cheap."""
        self._runtime.remember(self, result)
        return result


async def _whole(function: Callable[..., T], *args: Any) -> T:
    """Run a step in a thread, to its end also when cancelled meanwhile.

    Half a step would be counted twice, or at its worst: the thread cannot be stopped, and what
    comes after must know how far it got. Bounded by the stores' patience, some seconds.
    """
    run = contextvars.copy_context().run
    step = asyncio.get_running_loop().run_in_executor(None, run, partial(function, *args))
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.shield(step)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:  # noqa: BLE001 - the step's own; raised below
            break
    if cancelled is not None:
        if not step.cancelled():
            step.exception()  # seen
        raise cancelled
    return step.result()
