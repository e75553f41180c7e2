"""What the memory store keeps, and for how long."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.effects import Charge, Slot, Write
from clawmw.stores.memory import REMEMBER, MemorySlots, memory_stores
from tests.stores.contract import refused

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
)  # fmt: skip


@given(value=_JSON)
def test_a_copy_is_what_json_would_give_back(value: object) -> None:
    stores = memory_stores()
    assert stores.slots.commit([Write(("s", "a"), value, 0)], 1.0)
    assert repr(stores.slots.load([("s", "a")])[0].value) == repr(json.loads(json.dumps(value)))


def test_the_least_recently_used_blob_goes_first() -> None:
    blobs = memory_stores(blob_bytes=3000).blobs
    for ref in "abc":
        blobs.put("s", ref, bytes(1000), 1.0)
    assert blobs.get("s", "a", 2.0) is not None
    blobs.put("s", "b", bytes(1000), 3.0)
    blobs.put("s", "d", bytes(1000), 4.0)
    assert [ref for ref in "abcd" if blobs.get("s", ref, 5.0)] == ["a", "b", "d"]
    assert "exceeds" in refused(lambda: blobs.put("s", "e", bytes(3001), 5.0))
    blobs.put("s", "e", bytes(3000), 6.0)
    assert [ref for ref in "abcde" if blobs.get("s", ref, 6.0)] == ["e"]


def test_old_blobs_make_room_unasked() -> None:
    blobs = memory_stores(blob_bytes=10_000, blob_age=100.0).blobs
    for number in range(9):
        blobs.put("s", str(number), bytes(1000), float(number))
    blobs.put("s", "new", bytes(1), 104.5)
    assert [number for number in range(9) if blobs.get("s", str(number), 8.0)] == [5, 6, 7, 8]


def test_ids_are_forgotten_once_nothing_runs_again_and_counters_are_not() -> None:
    ledger = memory_stores().ledger
    for number in range(100):
        ledger.reserve(str(number), [Charge("c", "usd", 1)], 60.0, 0.0)
    long = REMEMBER * 9
    ledger.reserve("long", [Charge("c", "usd", 1)], long, 0.0)
    later = 60.0 + 2 * REMEMBER
    for number in range(200):
        ledger.reserve(f"later{number}", [Charge("c", "usd", 1)], later, later)
    assert ledger.used("c") == {"usd": 301}
    ledger.settle("long", [], later)
    assert ledger.used("c") == {"usd": 300}, "a long lease outlives the others"
    assert len(ledger._leases) < 210  # type: ignore[attr-defined]


def test_memory_does_not_grow_with_the_sessions_of_a_long_life() -> None:
    """The session written longest ago is forgotten whole; one that goes on is not."""
    slots = MemorySlots(most=40)
    for n in range(4):
        for name in ("account", f"sent/{n}"):
            (seen,) = slots.load([("session:busy", name)])
            assert slots.commit([Write(("session:busy", name), n, seen.version)], float(n))
            assert slots.commit([Write((f"session:{n}", name), n, 0)], float(n))
    for n in range(4, 60):
        assert slots.commit([Write((f"session:{n}", "account"), n, 0)], float(n))
        (seen,) = slots.load([("session:busy", "account")])
        assert slots.commit([Write(("session:busy", "account"), n, seen.version)], float(n))
    assert sum(kept.items for kept in slots.kept()) <= 40
    assert slots.load([("session:0", "account")]) == [Slot(None, 0)]
    assert slots.load([("session:59", "account")])[0].value == 59
    assert slots.load([("session:busy", "sent/0")])[0].value == 0
    assert slots.purge(1e9) <= 40
    assert slots.commit([Write(("session:1", "account"), 1, 0)], 1e9)
