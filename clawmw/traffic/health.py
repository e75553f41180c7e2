"""How the upstreams of this process are doing: a breaker and a retry budget each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from clawmw.core.effects import Permit, Permitted, Report, Withdraw
from clawmw.traffic.breaker import Breaker

__all__ = ["Begun", "Health"]

Begun = dict[str, float]
"""When the calls of an exchange were let through, by the id of their `Permit`."""

_UPSTREAMS = 256
"""Upstreams remembered; the one not used for the longest is forgotten."""


class Health:
    """See the module. `clock` is in seconds and never goes back; `dice` gives 0 to 1."""

    def __init__(self, clock: Callable[[], float], dice: Callable[[], float]) -> None:
        self._clock, self._dice = clock, dice
        self._lock = threading.Lock()
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()
        self._probes: dict[str, str] = {}
        """Upstreams by the id of a probe that is out."""
        self._turned: dict[str, str] = {}
        """What the beginning of a probe's answer has turned a breaker to, to be told."""

    def permit(self, permit: Permit, held: Begun) -> Permitted:
        """Ask an upstream's breaker; `held` keeps when a call was let through."""
        with self._lock:
            breaker, now = self._of(permit.upstream), self._clock()
            answer = breaker.permit(permit.id, now, self._dice())
            if answer.granted:
                held[permit.id] = now
            if answer.probe:
                self._probes[permit.id] = permit.upstream
            return answer

    def report(self, report: Report, held: Begun) -> str:
        """Tell it; the new state where that changed, else ""."""
        with self._lock:
            self._probes.pop(report.id, None)
            turned = self._turned.pop(report.id, "") if self._turned else ""
            breaker, now = self._of(report.upstream), self._clock()
            began = held.pop(report.id, now)
            if breaker.report(report.id, report.verdict, now, began, self._dice()):
                return breaker.state
            return turned

    def withdraw(self, withdraw: Withdraw) -> bool:
        """Take from an upstream's retry budget."""
        with self._lock:
            return self._of(withdraw.upstream).withdraw(withdraw.amount)

    def is_open(self, upstream: str) -> bool:
        """Whether a call would be refused now."""
        with self._lock:
            breaker = self._breakers.get(upstream)
            waits = breaker is not None and breaker.opened is not None
            return waits and breaker is not None and self._clock() < breaker.until

    def states(self) -> dict[str, str]:
        """Every upstream's breaker by the model's name; the worst, where several keys have one."""
        with self._lock:
            found = [(name.partition("\x1f")[0], b.state) for name, b in self._breakers.items()]
        order = {"closed": 0, "half_open": 1, "open": 2}
        return dict(sorted(found, key=lambda pair: order[pair[1]]))

    def begun(self, exchange: str) -> None:
        """An answer has begun: its upstream is back, however long the rest takes."""
        for name, upstream in self._out(exchange):
            with self._lock:
                breaker = self._of(upstream)
                now = self._clock()
                if breaker.report(name, "ok", now, now, self._dice()):
                    self._turned[name] = breaker.state

    def over(self, exchange: str) -> None:
        """An exchange is over: a probe of it that never reported was none."""
        for name, upstream in self._out(exchange):
            self.report(Report(upstream, "neutral", name), {})

    def _out(self, exchange: str) -> list[tuple[str, str]]:
        if not self._probes:  # almost always
            return []
        with self._lock:
            return [(n, u) for n, u in self._probes.items() if n.startswith(f"{exchange}/")]

    def probes(self) -> int:
        """Probes that are out."""
        return len(self._probes)

    def _of(self, upstream: str) -> Breaker:
        breaker = self._breakers.get(upstream)
        if breaker is None:
            breaker = self._breakers[upstream] = Breaker()
            if len(self._breakers) > _UPSTREAMS:
                self._breakers.popitem(last=False)
        else:
            self._breakers.move_to_end(upstream)
        return breaker
