"""Whom a rule under `agents` is about, as stages read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clawmw.core.identity import Identity

__all__ = ["Callers"]


@dataclass(frozen=True, slots=True)
class Callers:
    """The calls of some agents, or of some kinds; with both, those of both."""

    agents: frozenset[str]
    kinds: frozenset[str]
    """Empty: any."""

    @classmethod
    def of(cls, name: str, rule: Mapping[str, Any]) -> Callers:
        """Those of the rule `name`: by its `match`, else the agent of that name."""
        match = rule.get("match") or {}
        kinds = _names(match.get("kind"))
        return cls(_names(match.get("agent")) or frozenset(() if kinds else (name,)), kinds)

    def include(self, who: Identity) -> bool:
        """Whether a call is one of those."""
        return (not self.agents or who.agent in self.agents) and (
            not self.kinds or who.kind in self.kinds
        )


def _names(value: Any) -> frozenset[str]:
    return frozenset((value,) if isinstance(value, str) else value or ())
