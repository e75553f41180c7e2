"""Which scopes a call draws from, how much, and what a scope is called."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, get_args

from clawmw.core.effects import Above, Charge, Meter
from clawmw.core.identity import Identity
from clawmw.core.money import NANO
from clawmw.core.stage import Context
from clawmw.stages.callers import Callers
from clawmw.stages.guard.budget.limits import BudgetConfig, CallLimits, Daily
from clawmw.stages.units import show_duration

__all__ = ["METERS", "Books", "Named", "Rule", "day_of", "key_of", "named", "parsed", "shown"]

METERS: tuple[Meter, ...] = get_args(Meter)
_SPENT: frozenset[Meter] = frozenset({"calls", "input_tokens", "output_tokens", "usd"})
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LEVELS = ("chain", "session", "agent", "tenant", "derived", "rule")


class Named(NamedTuple):
    """A scope as people know it."""

    level: str
    """chain, session, agent, tenant, derived or rule."""
    name: str
    """Its id; "" for the tenant."""
    day: str
    """The day it is about, "" for good."""

    def __str__(self) -> str:
        return f"{self.level}:{self.name}" if self.name else self.level


def key_of(tenant: str, scope: Named) -> str:
    """The store's key of a scope."""
    parts = [tenant, *([scope.name] if scope.level != "tenant" else []), *filter(None, [scope.day])]
    return f"{scope.level}:" + "\x1f".join(parts)


def named(key: str) -> Named | None:
    """The scope of a store's key; None where it is none of ours."""
    level, _, rest = key.partition(":")
    _, *parts = rest.split("\x1f")
    if level not in _LEVELS:
        return None
    day = ""
    if len(parts) == (1 if level == "tenant" else 2) and _DAY.fullmatch(parts[-1]):
        day = parts.pop()
    return Named(level, "\x1f".join(parts), day)


def parsed(text: str, day: str) -> Named | None:
    """A scope as it is written: `chain:c1`, `agent:main`, `tenant`; None: it is none."""
    level, _, name = text.partition(":")
    if level not in _LEVELS or bool(name) == (level == "tenant"):
        return None
    return Named(level, name, day)


@lru_cache(maxsize=8)
def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))


def day_of(now: float) -> str:
    """The day of a moment, UTC."""
    return _date(int(now // 86_400))


def shown(meter: str, amount: int) -> str:
    """An amount as a policy's reader writes it, without its unit."""
    if meter == "usd":
        return f"{Decimal(max(amount, 0)) / NANO:.4f}".rstrip("0").rstrip(".") or "0"
    return show_duration(max(amount, 1) / 1000) if meter == "wall" else str(amount)


class _Line(NamedTuple):
    """A limit of some level."""

    meter: Meter
    limit: int
    soft: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """Limits of a rule under `agents`, and whom it is about."""

    name: str
    about: Callers
    limits: Daily | None


class _Level(NamedTuple):
    """The limits of a level: for good, and of each day."""

    good: tuple[_Line, ...]
    daily: tuple[_Line, ...]

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.good or self.daily)


class Books:
    """The limits of a policy, laid out so that a call's charges are made quickly."""

    def __init__(self, config: BudgetConfig, rules: Sequence[Rule]) -> None:
        soft = config.soft
        self.call = limits_of(config.call)
        self._chain = tuple(_lines(config.chain, soft))
        self._levels = {
            name: _level(getattr(config, name), soft)
            for name in ("session", "agent", "tenant", "derived")
        }
        self._named = [n for n in ("session", "agent", "tenant") if self._levels[n].any]
        self._rules = [(r, _level(r.limits, soft) if r.limits else _Level((), ())) for r in rules]
        levels = (*self._levels.values(), *(level for _, level in self._rules))
        self.any = bool(self._chain or self.call) or any(level.any for level in levels)

    def charges(
        self, ctx: Context, amounts: Mapping[Meter, int], *, settling: bool = False
    ) -> tuple[Charge, ...]:
        """What to draw for a call; with `settling`, only what is spent for good."""
        identity = ctx.identity
        found = _drawn(identity.scope("chain"), self._chain, amounts, settling)
        for scope, level in self._used(identity):
            if level.good:
                found += _drawn(scope, level.good, amounts, settling)
            if level.daily:
                day = f"{scope}\x1f{day_of(ctx.now)}"
                found += _drawn(day, level.daily, amounts, settling)
        return tuple(found)

    def above(self, identity: Identity) -> Above | None:
        """Who started the call's chain: what the chain is charged, those above it are, too."""
        if not self._chain:
            return None
        parent = f"chain:{identity.tenant}\x1f{identity.parent}" if identity.parent else ""
        return Above(identity.scope("chain"), parent)

    def in_usd(self, identity: Identity) -> bool:
        """Whether a limit in USD holds for a call."""
        lines = [*self._chain]
        for _, level in self._used(identity):
            lines += (*level.good, *level.daily)
        return "usd" in self.call or any(line.meter == "usd" for line in lines)

    def limits(self, scope: Named) -> dict[Meter, int]:
        """The limits that a policy sets for a scope, by meter."""
        level = self._levels.get(scope.level)
        if scope.level == "rule":
            level = next((lines for r, lines in self._rules if r.name == scope.name), None)
        if scope.level == "chain":
            lines = self._chain
        else:
            lines = () if level is None else level.daily if scope.day else level.good
        return {line.meter: line.limit for line in lines}

    def _used(self, identity: Identity) -> Iterator[tuple[str, _Level]]:
        """The levels that have limits for a call, but for its chain."""
        for name in self._named:
            yield identity.scope(name), self._levels[name]
        if identity.derived >= _NAMELESS:
            yield f"derived:{identity.tenant}\x1f{identity.agent}", self._levels["derived"]
        for rule, level in self._rules:
            if rule.about.include(identity):
                if level.any:
                    yield f"rule:{identity.tenant}\x1f{rule.name}", level
                return


_NAMELESS = frozenset({"session", "chain"})


def _drawn(
    scope: str, lines: Iterable[_Line], amounts: Mapping[Meter, int], settling: bool
) -> list[Charge]:
    return [
        Charge(scope, meter, amount, limit, soft)
        for meter, limit, soft in lines
        if (not settling or meter in _SPENT) and (amount := amounts[meter]) >= 0
    ]


def limits_of(limits: CallLimits) -> dict[Meter, int]:
    """The limits that are set, as the ledger counts."""
    found: dict[Meter, int] = {}
    for meter in METERS:
        limit = getattr(limits, meter, None)
        if limit is not None:
            found[meter] = round(limit * 1000) if meter == "wall" else limit
    return found


def _lines(limits: CallLimits, soft: float) -> Iterator[_Line]:
    for meter, limit in limits_of(limits).items():
        warns = soft and meter not in ("hops", "concurrent")
        yield _Line(meter, limit, int(limit * soft) if warns else None)


def _level(limits: Daily, soft: float) -> _Level:
    return _Level(tuple(_lines(limits, soft)), tuple(_lines(limits.day, soft)))
