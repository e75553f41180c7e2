"""What lies on disk: private, JSON only, bounded, one run at a time."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from clawmw.errors import Conflict, FlowError, StoreError, UnsafeStore
from clawmw.flow.langgraph import flow_of
from clawmw.flow.storage import JsonSerializer, default_path
from tests.flow.flow_bench import Bench

FLOW: dict[str, Any] = {
    "agents": {"a": {"model": "main"}},
    "steps": [{"id": "s", "agent": "a", "prompt": "go"}, {"id": "u", "agent": "a", "prompt": "on"}],
}
EXPLODED: list[str] = []


class Bomb:
    def __reduce__(self) -> Any:
        return (EXPLODED.append, ("boom",))


def failing(bench: Bench, at: int) -> None:
    """Let the model call of that number (from 0) fail, once."""

    def brain(_body: Any) -> str:
        if len(bench.calls) == at + 1:
            raise FlowError("upstream is down")
        return "ok"

    bench.brain = brain


def test_files_are_private(bench: Bench) -> None:
    failing(bench, 1)
    with pytest.raises(FlowError, match="upstream is down"):
        bench.run(FLOW)
    assert bench.checkpoints.parent.stat().st_mode & 0o777 == 0o700
    modes = {p.name: p.stat().st_mode & 0o777 for p in bench.checkpoints.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize(("table", "kind"), [("checkpoints", "checkpoint"), ("writes", "value")])
@pytest.mark.parametrize("tag", ["pickle", "msgpack", "json"])
def test_a_planted_row_is_refused(bench: Bench, table: str, kind: str, tag: str) -> None:
    failing(bench, 1)
    with pytest.raises(FlowError):
        bench.run(FLOW)
    with sqlite3.connect(bench.checkpoints) as db:
        db.execute(f"UPDATE {table} SET type = ?, {kind} = ?", (tag, pickle.dumps(Bomb())))
    db.close()
    calls = len(bench.calls)
    with pytest.raises(UnsafeStore, match=r"only JSON is read|broken JSON"):
        bench.runner(FLOW).resume("t")
    assert not EXPLODED
    assert len(bench.calls) == calls


def test_only_json_is_written(bench: Bench) -> None:
    failing(bench, 1)
    with pytest.raises(FlowError):
        bench.run(FLOW)
    with sqlite3.connect(bench.checkpoints) as db:
        rows = db.execute("SELECT type FROM checkpoints UNION SELECT type FROM writes").fetchall()
        text = b"".join(r[0] for r in db.execute("SELECT value FROM writes").fetchall())
    db.close()
    assert rows == [("json",)]
    assert b"FlowError" in text
    assert b"upstream is down" not in text
    with pytest.raises(TypeError, match="JSON only, not set"):
        JsonSerializer().dumps_typed({1, 2})


def test_a_symbolic_link_a_foreign_folder_and_no_database_are_refused(
    bench: Bench, tmp_path: Path
) -> None:
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "elsewhere")
    bench.checkpoints = link
    with pytest.raises(UnsafeStore, match="symbolic link"):
        bench.run(FLOW)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    bench.checkpoints = shared / "flows.sqlite"
    with pytest.raises(UnsafeStore, match="others can write"):
        bench.run(FLOW)
    bench.checkpoints = tmp_path / "text.sqlite"
    bench.checkpoints.write_text("not a database, but long enough to look like a file of one\n" * 9)
    with pytest.raises(StoreError, match=r"text\.sqlite: file is not a database"):
        bench.run(FLOW)
    bench.checkpoints = bench.checkpoints / "below"
    with pytest.raises(StoreError, match="cannot use the checkpoint file"):
        bench.run(FLOW)
    assert not bench.calls


def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **options)
        db.execute("PRAGMA max_page_count = 16")
        return db

    flow = {**FLOW, "steps": [{**FLOW["steps"][0], "for_each": "[1,2,3,4,5,6,7,8,9]"}]}
    bench.brain = lambda _body: "long " * 1000
    with monkeypatch.context() as patch:
        patch.setattr("clawmw.flow.storage.sqlite3.connect", small)
        with pytest.raises(StoreError, match="disk is full"):
            bench.run(flow)
    assert bench.runner(flow).resume("t").status == "done"
    assert len(bench.calls) in (9, 10)  # at most the interrupted call is made again


def test_a_finished_run_keeps_one_checkpoint(bench: Bench) -> None:
    bench.run(FLOW)
    with sqlite3.connect(bench.checkpoints) as db:
        counts = db.execute("SELECT count(*) FROM checkpoints").fetchone()
    db.close()
    assert counts == (1,)
    assert bench.runner(FLOW).resume("t").steps["u"]["output"] == "on"


def test_a_thread_is_run_once_at_a_time(bench: Bench) -> None:
    failures: list[Exception] = []

    def brain(_body: Any) -> str:
        runner = bench.runner(FLOW)
        with pytest.raises(Conflict, match="thread 't' is being run") as e:
            runner.resume("t")
        failures.append(e.value)
        return "ok"

    bench.brain = brain
    assert bench.run(FLOW).status == "done"
    assert len(failures) == 2
    assert [p.name for p in bench.checkpoints.parent.iterdir() if p.suffix == ".lock"] == []


def test_lone_surrogates_survive_the_checkpoint(bench: Bench) -> None:
    bench.brain = lambda _body: "\ud83d half"
    flow = {**FLOW, "steps": [{**FLOW["steps"][0], "repeat": {"max": 2, "until": "false"}}]}
    assert bench.run(flow).output == "? half"
    assert bench.sent() == ["go", "\ud83d half", "go"]


def test_the_flow_of_a_thread_is_found(bench: Bench, tmp_path: Path) -> None:
    bench.run(FLOW, thread="trip-1")
    assert flow_of(bench.checkpoints, "trip-1") == "f"
    with pytest.raises(Exception, match=r"no run 'trip-2' .*; did you mean 'trip-1'"):
        flow_of(bench.checkpoints, "trip-2")
    with pytest.raises(Exception, match="there is no checkpoint file"):
        flow_of(tmp_path / "none.sqlite", "trip-1")
    assert not (tmp_path / "none.sqlite").exists()


def test_the_default_file_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "clawmw" / "flows.sqlite"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "state" / "clawmw" / "flows.sqlite"
