"""Who calls, said by whoever is above the HTTP client: an agent framework, or the user.

::

    with clawmw.calling(session="ticket-17", agent="triage"):
        agent.run(...)            # every model call in here, in this task and those it starts
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any

from clawmw.core.identity import Identity

__all__ = ["caller", "calling"]

_NOBODY = Identity()
_current: ContextVar[Identity | None] = ContextVar("clawmw_calling", default=None)


@contextmanager
def calling(identity: Identity | None = None, **said: Any) -> Iterator[Identity]:
    """Model calls within the block are of this caller: an `Identity`, or fields of one.

    What is not said stays as a block around this one says. Holds for the current thread or
    task and for tasks started within. Raises TypeError for a field that `Identity` lacks.

    `joined`: the callers (as other `calling` blocks gave them) whose results come together in
    here; the trace then links to each of them.
    """
    if "joined" in said:
        said["joined"] = tuple(said["joined"])
    inner = _over(_current.get(), replace(identity or _NOBODY, **said))
    assert inner is not None
    mark = _current.set(inner)
    try:
        yield inner
    finally:
        _current.reset(mark)


def caller(configured: Identity | None) -> Identity | None:
    """Who calls here: what `calling` says, and for the rest what configuration says."""
    return _over(configured, _current.get())


def _over(base: Identity | None, said: Identity | None) -> Identity | None:
    if base is None or said is None:
        return said or base
    names = [field.name for field in fields(Identity)]
    given = {name: getattr(said, name) for name in names}
    return replace(base, **{n: v for n, v in given.items() if v != getattr(_NOBODY, n)})
