"""The limits of a policy as the budgets page shows them."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawmw.budgets import Budgets, Row, plain, said
from clawmw.errors import ClawmwError
from clawmw.policy.load import load_policy

__all__ = ["Books", "Line", "Resume", "read_books"]

_MOST = 300
"""Rows of one page."""
_NEAR = 80
"""Per cent from which on a limit is near."""


@dataclass(frozen=True, slots=True)
class Line:
    """One meter of one scope, for people."""

    id: str
    scope: str
    day: str
    meter: str
    used: str
    """By calls that are over."""
    reserved: str
    """By calls under way."""
    limit: str
    left: str
    raised: str
    share: float | None
    """Per cent of the limit that is used."""
    state: str
    """`full`, `near` or `fine`."""
    parents: tuple[str, ...]
    first: bool
    """Whether it is the first line of its scope."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A scope that is at its limit, and the command that lets it go on."""

    id: str
    scope: str
    day: str
    used: str
    limit: str
    meter: str
    when: str
    command: str


@dataclass(frozen=True, slots=True)
class Books:
    """Everything on the page."""

    policy: str
    today: str
    problem: str
    """Why there is nothing to show; empty where there is."""
    rows: tuple[Line, ...] = ()
    more: bool = False
    stopped: tuple[Resume, ...] = ()
    plain: tuple[Any, ...] = ()
    """The rows for programs."""


def read_books(policy: Path | None) -> Books:
    """The limits of a policy file, as they are now. What is wrong is said in `problem`."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    if policy is None:
        return Books("", today, "Budgets are kept in a policy's store, and no policy was named.")
    try:
        with Budgets.of(load_policy(policy), time.time) as budgets:
            rows = budgets.rows()
    except ClawmwError as error:
        return Books(str(policy), today, str(error))
    shown = rows[:_MOST]
    lines = tuple(
        [_line(row, first=n == 0 or row.scope != shown[n - 1].scope) for n, row in enumerate(shown)]
    )
    return Books(
        str(policy),
        today,
        "",
        lines,
        len(rows) > _MOST,
        tuple(_resumes(rows, policy)),
        tuple([plain(row) for row in rows]),
    )


def _line(row: Row, *, first: bool) -> Line:
    limit, used = row.limit, row.used
    share = None if limit is None else 100.0 if limit <= 0 else round(100 * used / limit, 1)
    state = "fine" if share is None or share < _NEAR else "near" if share < 100 else "full"
    return Line(
        _id(row),
        str(row.scope),
        row.scope.day,
        row.meter.replace("_", " "),
        _said(row.meter, max(used - row.reserved, 0)),
        _said(row.meter, row.reserved),
        "no limit" if limit is None else _said(row.meter, limit),
        "-" if limit is None else _said(row.meter, max(limit - used, 0)),
        _said(row.meter, row.raised) if row.raised else "",
        share,
        state,
        row.parents,
        first,
    )


def _resumes(rows: Sequence[Row], policy: Path) -> list[Resume]:
    """Scopes that are full; hops and calls under way free themselves or need another policy."""
    found = []
    for row in rows:
        if row.limit is None or row.used < row.limit or row.meter in ("hops", "concurrent"):
            continue
        amount = said(row.meter, max(row.limit - row.raised, 1)).lstrip("$")
        words = ["clawmw", "budget", "raise", str(row.scope), row.meter, amount]
        words += ["--day"] if row.scope.day else []
        words += ["--policy", str(policy)]
        when = "It goes on tomorrow (UTC), or after:" if row.scope.day else "It goes on after:"
        found.append(
            Resume(
                _id(row),
                str(row.scope),
                row.scope.day,
                _said(row.meter, row.used),
                _said(row.meter, row.limit),
                row.meter.replace("_", " ") if row.meter != "usd" else "",
                when,
                shlex.join(words),
            )
        )
    return found[:50]


def _said(meter: str, amount: int) -> str:
    if meter in ("usd", "wall"):
        return said(meter, amount) if amount else "$0" if meter == "usd" else "0s"
    return f"{amount:,}"


def _id(row: Row) -> str:
    key = f"{row.scope}|{row.scope.day}|{row.meter}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
