"""What a viewer holds of the task in `chain.py`, and what that must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.observe.backends.chain import MODEL

__all__ = ["Seen", "check"]

AGENTS = ("planner", "hotels", "flights", "merger", "looper")
ROOT = "invoke_workflow book a trip"


@dataclass(frozen=True)
class Seen:
    """A span as some viewer shows it."""

    trace: str
    id: str
    parent: str | None
    name: str
    kind: str
    """`chain`, `agent`, `llm`, `tool`."""
    session: str | None
    model: str | None = None
    cached: int | None = None
    joined: tuple[str, ...] = ()
    stopped: bool = False


def check(spans: Sequence[Seen]) -> None:
    """One trace, whole, and each span where it belongs."""
    assert len({span.trace for span in spans}) == 1
    ids = {span.id: span for span in spans}
    assert len(ids) == len(spans)
    (root,) = [s for s in spans if s.parent is None]
    assert (root.name, root.kind) == (ROOT, "chain")
    assert all(span.parent in ids for span in spans if span is not root)
    agents = {s.name: s for s in spans if s.kind == "agent"}
    assert set(agents) == {f"invoke_agent {name}" for name in AGENTS}
    assert {s.parent for s in agents.values()} == {root.id}
    below = Counter((ids[s.parent or ""].name, s.kind) for s in spans if s.kind in ("llm", "tool"))
    assert below == {
        ("invoke_agent planner", "llm"): 2,
        ("invoke_agent hotels", "llm"): 2,
        ("invoke_agent flights", "llm"): 2,
        ("invoke_agent merger", "llm"): 1,
        ("invoke_agent looper", "llm"): 3,
        ("invoke_agent looper", "tool"): 3,
    }
    for span in spans:
        agent = next(name for name in AGENTS if name in _agent_of(span, ids))
        assert span.session == f"s-{agent}"
    calls = [s for s in spans if s.kind == "llm"]
    assert {s.model for s in calls} == {MODEL}
    cached = [s.cached for s in calls if "planner" in _agent_of(s, ids)]
    assert min(c or 0 for c in cached) == 0
    assert max(c or 0 for c in cached) > 4_000, "the second call reads the first one's prompt"
    assert sum(s.stopped for s in calls) == 1
    branches = {agents["invoke_agent hotels"].id, agents["invoke_agent flights"].id}
    assert set(agents["invoke_agent merger"].joined) == branches


def _agent_of(span: Seen, ids: dict[str, Seen]) -> str:
    if span.kind == "chain":
        return "planner"
    return span.name if span.kind == "agent" else ids[span.parent or ""].name
