"""Whose originals a session may read: its own, and those of the sessions that started it.

A session notes itself in its chain's evidence, with the depth at which it runs and the
chain that began its own. Another of the chain reads it from further down; one of a chain
that names this one as its parent reads it, too. Nothing crosses the tenant: every key
begins with it. Identity comes with the call and never out of a text, so a reference that
a page or another session whispers to the model finds nothing. A session that nobody named
may hold several conversations that open alike: there a reference is good only where it stands
in the very history that is sent.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from clawmw.core.effects import Append, Effect, GetBlob, Note
from clawmw.core.fold import History
from clawmw.core.identity import Identity

__all__ = ["KIN", "kin", "original"]

KIN = 64
"""Sessions of one chain that are remembered, the newest."""
_GENERATIONS = 8
"""How far up a parent is looked for."""


def kin(identity: Identity) -> Append | None:
    """The note by which those that a session starts will find it; noted twice counts once.

    None where nobody can name it: a chain nobody named has no children, and what was made of
    several conversations that open alike is nobody's to read.
    """
    if identity.derived:
        return None
    scope, value = _scope(identity), f"{identity.hop}\x1f{identity.parent or ''}"
    return Append(scope, (Note(identity.session, value),), KIN, f"{identity.session}\x1f{value}")


def _scope(identity: Identity) -> str:
    return f"{identity.scope('chain')}\x1fsessions"


def original(
    identity: Identity, ref: str, history: History | None = None
) -> Generator[Effect, Any, str | None]:
    """The text kept under `ref`, for a call of that identity; None: there is none for it.

    `history` is the call's own.
    """
    if not ref or ("session" in identity.derived and not _stands(ref, history)):
        return None
    data: bytes | None = yield GetBlob(identity.scope("session"), ref)
    if data is None:
        elders = yield from _elders(identity)
        for session in elders:
            data = yield GetBlob(replace(identity, session=session).scope("session"), ref)
            if data is not None:
                break
    return None if data is None else _decoded(data)


def _stands(ref: str, history: History | None) -> bool:
    """Whether a cut of this very history bears that name."""
    for step in history.steps if history is not None else ():
        whole = step.form.whole if step.form is not None else None
        cuts = (*step.parts.values(), *(step.folded or {}).values(), *((whole,) if whole else ()))
        if any(cut.ref == ref for cut in cuts):
            return True
    return False


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # damaged on disk
        return data.decode("utf-8", "replace")


def _elders(identity: Identity) -> Generator[Effect, Any, list[str]]:
    """The sessions that a call's session descends from, nearest first."""
    found = [identity.parent_session or ""]
    if identity.hop and "chain" not in identity.derived:
        notes: tuple[Note, ...] = yield Append(_scope(identity), (), KIN)
        found += [n.kind for n in notes if _read(n)[0] < identity.hop]
    parent, seen = identity.parent, {identity.chain}
    while parent and parent not in seen and len(seen) <= _GENERATIONS:
        seen.add(parent)
        above = replace(identity, chain=parent)
        notes = yield Append(_scope(above), (), KIN)
        found += [parent, *(n.kind for n in notes)]  # some name the session, not the chain
        parent = next((up for n in notes if (up := _read(n)[1])), "")
    return [s for s in dict.fromkeys(found) if s and s != identity.session]


def _read(note: Note) -> tuple[int, str]:
    hop, _, parent = note.value.partition("\x1f")
    return int(hop) if hop.isdigit() else 0, parent
