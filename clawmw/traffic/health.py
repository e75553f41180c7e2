"""How the upstreams of this process are doing: a breaker and a retry budget each."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from clawmw.core.effects import Permit, Permitted, Report, Withdraw
from clawmw.traffic.breaker import Breaker

__all__ = ["Health"]

_UPSTREAMS = 256
"""Upstreams remembered, newest longest."""


class Health:
    """See the module. `clock` is in seconds and never goes back; `dice` gives 0 to 1."""

    def __init__(
        self, clock: Callable[[], float], dice: Callable[[], float] = random.random
    ) -> None:
        self._clock, self._dice = clock, dice
        self._lock = threading.Lock()
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()
        self._probes: dict[str, str] = {}

    def permit(self, permit: Permit) -> Permitted:
        """Ask an upstream's breaker."""
        with self._lock:
            answer = self._of(permit.upstream).permit(permit.id, self._clock())
            if answer.probe:
                self._probes[permit.id] = permit.upstream
            return answer

    def report(self, report: Report) -> str:
        """Tell it; the new state where that changed, else ""."""
        with self._lock:
            self._probes.pop(report.id, None)
            breaker = self._of(report.upstream)
            changed = breaker.report(report.id, report.verdict, self._clock(), self._dice())
            return breaker.state if changed else ""

    def withdraw(self, withdraw: Withdraw) -> bool:
        """Take from an upstream's retry budget."""
        with self._lock:
            return self._of(withdraw.upstream).withdraw(withdraw.amount)

    def over(self, exchange: str) -> None:
        """An exchange is over: a probe of it that never reported was none."""
        if not self._probes:
            return
        for name in [n for n in list(self._probes) if n.startswith(f"{exchange}/")]:
            with suppress(KeyError):
                self.report(Report(self._probes[name], "neutral", name))

    def probes(self) -> int:
        """Probes that are out."""
        return len(self._probes)

    def _of(self, upstream: str) -> Breaker:
        breaker = self._breakers.get(upstream)
        if breaker is None:
            breaker = self._breakers[upstream] = Breaker()
            if len(self._breakers) > _UPSTREAMS:
                self._breakers.popitem(last=False)
        return breaker
