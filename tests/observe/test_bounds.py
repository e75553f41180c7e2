"""The store stays within its size: the oldest chains go first, whole, and the file shrinks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawmw.observe.reading.chains import chains
from clawmw.observe.store.bounds import prune, used_bytes
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from tests.observe.test_spanstore import row, run

NOW = time.time_ns()
MINUTE = 60 * 10**9
PADDING = {"x": "y" * 1000}


def spans_of(chain: int, number: int, ago: int = 0) -> list[SpanRow]:
    """A chain of so many spans, a kilobyte and a half each, last active `ago` minutes ago."""
    end = NOW - ago * MINUTE
    return [
        row(chain, n + 1, start_ns=end - n, end_ns=end - n, attributes=PADDING)
        for n in range(number)
    ]


def ids(store: SpanStore) -> list[str]:
    return [chain.chain_id for chain in chains(store, limit=1000)]


def details(store: SpanStore) -> int:
    return int(store.query("SELECT count(*) FROM details")[0][0])


@pytest.fixture
def store(store_path: Path) -> Iterator[SpanStore]:
    found = SpanStore.open(store_path, size=None)
    yield found
    found.close()


def file_size(store: SpanStore) -> int:
    return store.path.stat().st_size


def test_the_oldest_chains_go_first_and_the_file_shrinks(store: SpanStore) -> None:
    for chain in range(1, 41):
        store.write(spans_of(chain, 50, ago=41 - chain))
    before = used_bytes(store)
    assert before > 3_000_000
    found = prune(store, size=before // 4)
    assert found.bytes_before == before
    assert found.bytes_after == used_bytes(store) <= before // 4
    assert file_size(store) <= before // 4 + 100_000
    left = ids(store)
    assert left == [f"c{chain}" for chain in range(40, 40 - len(left), -1)]
    assert 5 <= len(left) <= 10
    assert {chain.calls for chain in chains(store)} == {50}  # whole ones
    assert found.chains == 40 - len(left)
    assert found.spans == 50 * found.chains
    assert details(store) == 50 * len(left)


def test_a_chain_that_is_active_again_is_not_old(store: SpanStore) -> None:
    store.write(spans_of(1, 50, ago=100))
    store.write(spans_of(2, 50, ago=50))
    store.write([row(1, 99, attributes=PADDING)])
    found = prune(store, before_ns=NOW - 40 * MINUTE)
    assert ids(store) == ["c1"]
    assert (found.chains, found.spans) == (1, 50)
    assert chains(store)[0].calls == 51


def test_a_dry_run_says_about_what_is_done(store: SpanStore) -> None:
    for chain in range(1, 21):
        store.write(spans_of(chain, 50, ago=21 - chain))
    size = used_bytes(store) // 2
    said = prune(store, size=size, before_ns=NOW - 18 * MINUTE, dry_run=True)
    assert len(ids(store)) == 20
    done = prune(store, size=size, before_ns=NOW - 18 * MINUTE)
    assert abs(said.chains - done.chains) <= 1
    assert abs(said.bytes_after - done.bytes_after) < size / 5
    assert said.first_ns == done.first_ns == NOW - 20 * MINUTE


def test_of_a_chain_that_fills_the_store_the_beginning_goes(store: SpanStore) -> None:
    end = NOW + 2000
    for at in range(0, 2000, 500):
        store.write(
            [row(1, n + 1, end_ns=NOW + n, attributes=PADDING) for n in range(at, at + 500)]
        )
    found = prune(store, size=1_000_000)
    assert (found.chains, found.first_ns) == (0, None)
    (chain,) = chains(store)
    assert chain.end_ns == end - 1
    assert 0 < chain.calls == 2000 - found.spans
    assert details(store) == chain.calls
    assert used_bytes(store) <= 1_000_000


def test_it_is_bounded_while_it_is_written(store_path: Path) -> None:
    store = SpanStore.open(store_path, size=1_000_000)
    largest = 0
    for chain in range(200):
        store.write(spans_of(chain + 1, 20, ago=300 - chain))
        largest = max(largest, used_bytes(store))
    assert largest < 2_500_000  # what is written between two looks comes on top
    assert ids(store)[0] == "c200"
    store.close()
    store = SpanStore.open(store_path, size=100_000)
    store.write(spans_of(999, 1))
    store.close()
    assert store_path.stat().st_size < 200_000


def test_several_processes_bound_one_store(store_path: Path) -> None:
    """One writes, the other drops; none gets an error, none waits for long."""
    store = SpanStore.open(store_path, size=None)
    for chain in range(1, 61):
        store.write(spans_of(chain, 50, ago=100 + chain))
    writers = [run(store_path, name, 200) for name in ("a", "b")]
    for _ in range(3):
        prune(store, size=used_bytes(store) * 2 // 3)
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    newest = chains(store, limit=1)[0]
    assert (newest.chain_id, newest.calls) == ("shared", 400)
    assert store.query("PRAGMA integrity_check")[0][0] == "ok"
    store.close()


def test_what_belongs_to_a_call_goes_with_it(store: SpanStore) -> None:
    for chain in (1, 2):
        store.write([row(chain, 1, exchange=f"x{chain}", end_ns=NOW - chain * 100 * MINUTE)])
    store.query("BEGIN")
    for chain in (1, 2):
        store.query(
            "INSERT INTO outlines VALUES (?, ?, NULL, '', ?, '{}')", (f"x{chain}", chain, NOW)
        )
    store.query("COMMIT")
    prune(store, before_ns=NOW - 150 * MINUTE)
    assert [r["exchange"] for r in store.query("SELECT exchange FROM outlines")] == ["x1"]


def test_opening_to_read_an_earlier_release_drops_nothing(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    store.write([row(1, end_ns=NOW - 90 * 86_400 * 10**9)])
    store.close()
    store = SpanStore.open(store_path, keep=None)
    assert ids(store) == ["c1"]
    store.close()


def test_dropping_is_quick(store: SpanStore) -> None:
    """20,000 spans in well under ten seconds on a slow machine; other writers get in between."""
    for chain in range(1, 41):
        store.write(spans_of(chain, 500, ago=41 - chain))
    began = time.monotonic()
    prune(store, size=1_000_000)
    assert time.monotonic() - began < 10
