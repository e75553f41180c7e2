"""The store on disk: rights, several processes, a killed one, age, and what is not a store."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from clawmw.errors import StoreError, UnsafeStore
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.store.spanstore import SpanRow, SpanStore, default_store_path

NOW = time.time_ns()
WRITER = """
import sys, time
from clawmw.core.identity import Identity
from clawmw.observe.otel import OtelObserver
from clawmw.observe.store.spanstore import SpanStore
from tests.observe.calls import Says

path, agent, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
observer = OtelObserver(store=SpanStore.open(path))
who = Identity(agent=agent, session=agent, chain="shared")
for number in range(calls):
    for event in Says(identity=who, at=time.time()).events():
        observer(event)
    if sys.argv[4:]:
        time.sleep(0.002)
        if number % 50 == 0:
            print(number, flush=True)
"""


def row(trace: int = 1, span: int = 1, **more: object) -> SpanRow:
    values = {
        "trace_id": f"{trace:032x}",
        "span_id": f"{span:016x}",
        "parent_id": None,
        "op": "chat",
        "name": "chat m",
        "start_ns": NOW,
        "end_ns": NOW + 10**9,
        "status": "ok",
        "chain_id": f"c{trace}",
        "agent": "a",
        "session_id": "s",
    } | more
    return SpanRow(**values)  # type: ignore[arg-type]


def run(path: Path, agent: str, calls: int, *more: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), agent, str(calls), *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_store_path() == tmp_path / "clawmw" / "traces.sqlite"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/paths/are/invalid")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_store_path() == tmp_path / "home/.local/state/clawmw/traces.sqlite"
    monkeypatch.setenv("CLAWMW_TRACES", "~/t.sqlite")
    assert default_store_path() == tmp_path / "home/t.sqlite"


def test_only_the_owner_can_read(store_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SpanStore.open(store_path)
        store.write([row()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(store_path.parent.stat().st_mode) == 0o700
    files = sorted(store_path.parent.iterdir())
    assert len(files) == 3  # with -wal and -shm
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_a_folder_that_was_there_keeps_its_rights(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    SpanStore.open(folder / "t.sqlite").close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_row_comes_back_as_it_was(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    whole = row(
        parent_id=f"{2:016x}",
        error_type="429",
        tenant="t",
        hop=1,
        seq=2,
        mode="enforce",
        requested_model="big",
        model="m",
        input_tokens=3,
        output_tokens=0,
        cache_read_tokens=0,
        usage_basis="measured",
        cost_nano=5,
        cost_basis="measured",
        baseline_nano=7,
        raw_tokens=8,
        sent_tokens=9,
        would_tokens=10,
        predicted_tokens=11,
        attempts=1,
        overhead_us=12,
        attributes={"gen_ai.response.id": "x", "n": [1, 2]},
        events=({"name": "e", "time_ns": 1},),
    )
    store.write([whole, row(span=2, op="invoke_agent"), row(span=3, op="invoke_workflow")])
    assert next(r for r in spans(store, whole.trace_id) if r.op == "chat") == whole
    store.close()


def test_a_span_taken_up_again_grows(store_path: Path) -> None:
    """A flow that failed and was resumed writes its root twice."""
    store = SpanStore.open(store_path)
    root: dict[str, Any] = {"op": "invoke_workflow", "name": "invoke_workflow trip"}
    store.write([row(**root, status="failed", error_type="KeyError")])
    store.write([row(**root, start_ns=NOW + 5 * 10**9, end_ns=NOW + 9 * 10**9)])
    (found,) = chains(store)
    assert (found.start_ns, found.end_ns, found.status) == (NOW, NOW + 9 * 10**9, "ok")
    store.close()


def test_old_spans_go(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    day = 86_400 * 10**9
    store.write([row(1, end_ns=NOW - 31 * day), row(2, end_ns=NOW - 29 * day)])
    store.close()
    store = SpanStore.open(store_path)
    assert [chain.chain_id for chain in chains(store)] == ["c2"]
    assert store.query("SELECT count(*) FROM details")[0][0] == 1
    store.close()
    store = SpanStore.open(store_path, keep=3600)
    assert chains(store) == []
    store.close()


def test_numbers_no_column_can_hold_are_unknown(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    store.write([row(input_tokens=2**70, output_tokens=5)])
    (found,) = chains(store)
    assert (found.input_tokens, found.output_tokens) == (None, 5)
    store.close()


def test_two_processes_write_one_chain(store_path: Path) -> None:
    writers = [run(store_path, agent, 150) for agent in ("planner", "writer")]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    store = SpanStore.read(store_path)
    (chain,) = chains(store)
    assert (chain.calls, chain.agents) == (300, 2)
    rows = spans(store, chain.trace_id)
    assert next(r.name for r in rows if r.synthetic) == "invoke_workflow shared"
    assert sum(r.op == "invoke_workflow" for r in rows) == 1
    agents = {r.agent: r.span_id for r in rows if r.op == "invoke_agent"}
    assert set(agents) == {"planner", "writer"}
    assert all(r.parent_id == agents[r.agent] for r in rows if r.op == "chat")
    store.close()


def test_many_processes_make_the_store_at_once(store_path: Path) -> None:
    store_path.parent.mkdir()
    writers = [run(store_path, f"a{n}", 3) for n in range(5)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    store = SpanStore.read(store_path)
    assert chains(store)[0].calls == 15
    store.close()


def test_a_killed_process_loses_its_last_batch_at_most(store_path: Path) -> None:
    writer = run(store_path, "planner", 100_000, "slowly")
    assert writer.stdout is not None
    told = 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = int(writer.stdout.readline())
        if told >= 500:
            break
    written_at = time.time_ns()
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=30)
    store = SpanStore.open(store_path)
    (chain,) = chains(store)
    assert store.query("PRAGMA integrity_check")[0][0] == "ok"
    lost_s = (written_at - (chain.end_ns - 2 * 10**9)) / 1e9  # a call takes two seconds
    assert chain.calls > 0
    assert lost_s < 2.5, f"the last {lost_s:.1f} s were lost"
    rows = spans(store, chain.trace_id)
    assert sum(r.op == "chat" for r in rows) == chain.calls
    store.write([row(9)])
    assert len(chains(store)) == 2
    store.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_for_itself(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    store.write([row(1)])
    child = os.fork()
    if child == 0:
        try:
            store.write([row(2)])
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    store.write([row(3)])
    assert len(chains(store)) == 3
    store.close()


def test_workers_of_multiprocessing_lose_nothing_when_they_end(store_path: Path) -> None:
    """They end without `atexit`; one got its observer from its parent, one made its own."""
    code = """
        import multiprocessing, sys, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from clawmw.core.identity import Identity
        from clawmw.observe.otel import OtelObserver
        from clawmw.observe.store.spanstore import SpanStore
        from tests.observe.calls import Says, tell
        def call(name, given=None):
            observer = given or OtelObserver(store=SpanStore.open(sys.argv[1]))
            who = Identity(agent=name, session=name, chain="shared")
            tell(observer, Says(identity=who, at=time.time()))
        if __name__ == "__main__":
            fork = multiprocessing.get_context("fork")
            mine = OtelObserver(store=SpanStore.open(sys.argv[1]))
            call("parent", mine)
            for args in (("inherits", mine), ("makes its own",)):
                worker = fork.Process(target=call, args=args)
                worker.start()
                worker.join()
                assert worker.exitcode == 0
    """
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(store_path)],
        check=True,
        cwd=root,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    store = SpanStore.read(store_path)
    (chain,) = chains(store)
    assert (chain.calls, chain.agents) == (3, 3)
    store.close()


def test_what_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are my notes, and they are long enough to look at " * 20)
    before = text.read_bytes()
    for opener in (SpanStore.open, SpanStore.read):
        with pytest.raises(StoreError, match="not a database"):
            opener(text)
    assert text.read_bytes() == before
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    for opener in (SpanStore.open, SpanStore.read):
        with pytest.raises(StoreError, match="not a trace store of this version"):
            opener(other)


def test_links_and_folders_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "target.sqlite"
    SpanStore.open(target).close()
    link = tmp_path / "link.sqlite"
    link.symlink_to(target)
    with pytest.raises(UnsafeStore, match="is a link"):
        SpanStore.open(link)
    with pytest.raises(StoreError):
        SpanStore.open(tmp_path)
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(StoreError, match="cannot be used"):
        SpanStore.open(blocker / "t.sqlite")


def test_a_closed_store_says_so(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.write([row()])
    with pytest.raises(StoreError, match="no trace store"):
        SpanStore.read(store_path.parent / "none.sqlite")


@pytest.mark.parametrize("what", ["the file", "with its log", "the folder"])
def test_a_store_that_was_deleted_is_made_anew(tmp_path: Path, what: str) -> None:
    """Who deletes it while a gateway runs gets a new one; nobody would read the old file."""
    place = tmp_path / "kept" / "traces.sqlite"
    store = SpanStore.open(place)
    store.write([row(1)])
    files = [place] if what == "the file" else list(place.parent.iterdir())
    for file in files:
        file.unlink()
    if what == "the folder":
        place.parent.rmdir()
    store.write([row(2)])
    store.write([row(3)])
    store.close()
    read = SpanStore.read(place)
    assert {one.trace_id for one in chains(read)} == {row(2).trace_id, row(3).trace_id}
    read.close()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_what_was_put_in_the_stores_place_is_left_alone(store_path: Path) -> None:
    store = SpanStore.open(store_path)
    store.write([row(1)])
    for file in store_path.parent.iterdir():
        file.unlink()
    store_path.write_text("my own notes, and not a database at all; " * 99)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            store.write([row(2)])
    store.close()
    assert store_path.read_text().startswith("my own notes")
