"""The gates of a process, one an upstream: callers in threads and in event loops wait at the same.

A waiter looks up at least once a second: a slot whose holder was dropped without a word is
found then, and one more is let in when a rate allows it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from clawmw.core.effects import Admit, Admitted, Leave
from clawmw.traffic.gate import Gate, Ticket, Why

__all__ = ["Gates", "Held"]

Held = dict[str, str]
"""What an exchange holds: the upstream by the id of its `Admit`."""

_UPSTREAMS = 256
"""Upstreams told apart; the one not used for the longest is forgotten when nobody is there."""


class Gates:
    """See the module. `clock` is in seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._gates: OrderedDict[str, Gate] = OrderedDict()
        self._gone: deque[Held] = deque()

    def admit(self, held: Held, admit: Admit) -> Admitted:
        """Wait in this thread."""
        gate, ticket = self._enter(held, admit)
        if ticket.answer is None:
            return self._answer(held, ticket)
        try:
            while (pause := self._pause(gate, ticket)) > 0:
                with suppress(TimeoutError):
                    ticket.answer.result(pause)
        except BaseException:
            self._drop(held.pop(admit.id, admit.upstream), admit.id)
            raise
        return self._answer(held, ticket)

    async def aadmit(self, held: Held, admit: Admit) -> Admitted:
        """Wait without holding up the event loop."""
        gate, ticket = self._enter(held, admit)
        if ticket.answer is None:
            return self._answer(held, ticket)
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: Future[Why]) -> None:
            try:
                loop.call_soon_threadsafe(woken.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self.gone({admit.id: admit.upstream})

        ticket.answer.add_done_callback(wake)
        try:
            while (pause := self._pause(gate, ticket)) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):  # wait_for of 3.11 may lose a cancellation
                        await woken.wait()
        except GeneratorExit:  # by the garbage collector, perhaps within our own lock
            raise  # the exchange is gone with it, and is found then
        except BaseException:  # cancelled, perhaps just when it was let in
            self._drop(held.pop(admit.id, admit.upstream), admit.id)
            raise
        return self._answer(held, ticket)

    def leave(self, held: Held, leave: Leave) -> None:
        """Give a slot back."""
        upstream = held.pop(leave.id, None)
        with self._lock:
            gate = self._gates.get(upstream) if upstream is not None else None
            if gate is not None:
                gate.leave(leave, self._clock())

    def over(self, held: Held) -> None:
        """Give back all that is still held."""
        while held:
            with suppress(KeyError):
                name, upstream = held.popitem()
                self._drop(upstream, name)

    def gone(self, held: Held) -> None:
        """The same for an exchange that was dropped: takes no lock, so a finalizer may say it."""
        if held:
            self._gone.append(held)

    def afresh(self, upstream: str) -> None:
        """An upstream is back: its gate begins anew."""
        with self._lock:
            if (gate := self._gates.get(upstream)) is not None:
                gate.afresh()

    def waited(self, upstream: str) -> float:
        """Seconds that the call waiting longest at an upstream has waited so far."""
        with self._lock:
            gate = self._gates.get(upstream)
            lines = gate.waiting if gate is not None and gate.queued else {}
            came = [next(iter(line.values())).came for line in lines.values() if line]
            return max(self._clock() - min(came), 0.0) if came else 0.0

    def census(self) -> dict[str, int]:
        """Slots held and callers waiting."""
        self._sweep()
        with self._lock:
            gates = list(self._gates.values())
            return {
                "slots": sum(len(gate.running) for gate in gates),
                "queued": sum(gate.queued for gate in gates),
            }

    # --- one call ---------------------------------------------------------------------------

    def _enter(self, held: Held, admit: Admit) -> tuple[Gate, Ticket]:
        self._sweep()
        with self._lock:
            now = self._clock()
            gate = self._gates.get(admit.upstream)
            if gate is None:
                self._forget()
                gate = self._gates[admit.upstream] = Gate(admit.lanes, now)
            else:
                self._gates.move_to_end(admit.upstream)
            held[admit.id] = admit.upstream  # before it has anything: nothing is held unknown
            ticket = gate.enter(admit, now)
        return gate, ticket

    def _pause(self, gate: Gate, ticket: Ticket) -> float:
        """How long to wait before looking again; 0: the answer is there."""
        self._sweep()
        with self._lock:
            now = self._clock()
            gate.dispatch(now)
            if ticket.why is None and now >= ticket.until:
                gate.drop(ticket.admit.id, now)
            if ticket.why is not None:
                return 0.0
            return max(min(ticket.until - now, gate.pause(now)), 0.001)

    def _answer(self, held: Held, ticket: Ticket) -> Admitted:
        waited = max((ticket.began or self._clock()) - ticket.came, 0.0)
        if ticket.why == "granted":
            return Admitted(True, waited)
        held.pop(ticket.admit.id, None)
        return Admitted(False, waited, ticket.why or "", 1.0 + waited)

    def _drop(self, upstream: str, id: str) -> None:
        """Whether it has a slot or waits for one."""
        with self._lock:
            gate = self._gates.get(upstream)
            if gate is not None:
                gate.drop(id, self._clock())

    def _sweep(self) -> None:
        """Give back what dropped exchanges held."""
        while self._gone:
            with suppress(IndexError):
                self.over(self._gone.popleft())

    def _forget(self) -> None:
        if len(self._gates) >= _UPSTREAMS:
            idle = (n for n, gate in self._gates.items() if not gate.running and not gate.queued)
            with suppress(StopIteration):
                del self._gates[next(idle)]
