"""What a budget says: why a call was stopped, how to go on, and that the end is near."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from clawmw.core.decisions import Because, Halt
from clawmw.core.effects import Meter, Near, Reserved
from clawmw.core.identity import Identity
from clawmw.core.types import Message, Role, Text
from clawmw.stages.guard.budget.scopes import Books, Named, named, shown

__all__ = ["Words", "unknown_price"]

_NOUNS: Mapping[str, str] = {
    "usd": "USD",
    "wall": "since its first call",
    "concurrent": "calls under way",
}
_LONGER = frozenset({"output_tokens", "usd"})
"""Meters of which a shorter answer needs less."""


@dataclass(frozen=True, slots=True)
class Words:
    """Knows the limits, and whether `clawmw budget` can reach the ledger."""

    books: Books
    durable: bool

    def spent(self, refused: Reserved, need: Mapping[Meter, int], who: Identity) -> Halt:
        """The refusal of a call that does not fit."""
        meter = refused.meter
        noun = _noun(meter)
        scope = named(refused.scope)
        limit = f"{shown(meter, refused.limit)} {noun}"
        done = f"{shown(meter, refused.used)} {noun}"
        if meter == "wall":
            said = f"{shown(meter, refused.used)} have passed {noun}"
        elif meter == "concurrent":
            said = f"{done}, and this would be one more"
        elif meter == "hops":
            said = f"this call is {need['hops']} hops deep"
        else:
            asked = next((n for m, n in need.items() if m == meter), 0)
            said = f"{done} are used or reserved, and this call may need {shown(meter, asked)}"
        because, of = _rule(scope, meter)
        if scope is not None and scope.level == "chain" and scope.name != who.chain:
            of = f"chain {scope.name}, which this one belongs to"
        return Halt(because, of, limit, said, self._resume(scope, meter))

    def _resume(self, scope: Named | None, meter: str) -> str:
        less = " or lower budget.min_output" if meter in _LONGER else ""
        if scope is None:
            knob = f"raise budget.call.{meter} in the policy{less}"
            return f"Ask for less, or {knob} and restart what runs it."
        first = {"concurrent": "Wait until one of them ends, or raise", "hops": "Raise"}.get(
            meter, "Go on tomorrow (UTC), or raise" if scope.day else "Raise"
        )
        if not self.durable:
            return f"{first} the limit in the policy{less}, and restart what runs it."
        more = shown(meter, self.books.limits(scope).get(meter) or 1)  # type: ignore[call-overload]
        day = " --day" if scope.day else ""
        command = f"clawmw budget raise {shlex.quote(str(scope))} {meter} {more}{day}"
        return f"{first} it and make the same call again: {command}"

    def near(self, near: Near, who: Identity) -> Message:
        """What the model is told once when a scope nears its limit."""
        scope = named(near.scope) or Named("call", "", "")
        subject = {
            "chain": "This task" if scope.name == who.chain else "The task this one belongs to",
            "session": "This conversation",
            "tenant": "All work here together",
        }.get(scope.level, "This agent")
        if near.meter == "wall":
            amounts = f"has taken {shown('wall', near.used)} of its {shown('wall', near.limit)}"
        else:
            of = f"{shown(near.meter, near.limit)} {_noun(near.meter)}"
            amounts = f"has used {shown(near.meter, near.used)} of its {of}"
        when = " for today" if scope.day else ""
        text = (
            f"[clawmw] {subject} {amounts}{when}; at the limit it is stopped. "
            "Come to an end: do what matters most, then answer."
        )
        return Message(Role.USER, (Text(text),))


def unknown_price(model: str) -> Halt:
    """The refusal of a model whose money cannot be counted."""
    return Halt(
        Because("budget", "unknown_price"),
        "",
        "only models of a known price where USD are limited",
        f"the price of {model!r} is not known",
        f"Name a profile for it (models: {{mine: {{model: {model}, profile: ...}}}}), or set "
        "budget.unknown_price: allow.",
    )


def _noun(meter: str) -> str:
    return _NOUNS.get(meter, meter.replace("_", " "))


def _rule(scope: Named | None, meter: str) -> tuple[Because, str]:
    """The key of the policy that binds, and what it is about."""
    if scope is None:
        return Because("budget", f"call.{meter}"), "call"
    day = ".day" if scope.day else ""
    per = " and day" if scope.day else ""
    if scope.level == "rule":
        return Because("agents", f"{scope.name}.budget{day}.{meter}"), f"rule {scope.name}{per}"
    about = "agent without session and chain" if scope.level == "derived" else scope.level
    return Because("budget", f"{scope.level}{day}.{meter}"), f"{about}{per}"
