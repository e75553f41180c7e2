"""The disk store among hostile and broken things on disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clawmw.adapters.direct import Direct
from clawmw.core.effects import Charge, Note, Slot, Write
from clawmw.core.identity import Identity
from clawmw.errors import StoreBusy, StoreError, UnsafeStore
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stores import disk_blobs, disk_files
from clawmw.stores.base import Pace, Stores
from clawmw.stores.disk import disk_stores
from tests.stores.contract import refused
from tests.stores.test_disk_processes import finish, start

_CHARGE = [Charge("chain:a", "usd", 1, 10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def stores(folder: Path) -> Iterator[Stores]:
    stores = disk_stores(folder, blob_bytes=2 * 2**20, blob_age=100.0)
    yield stores
    stores.close()


def use(stores: Stores) -> None:
    """Touch all four, with blobs in a row and in a file."""
    assert stores.slots.commit([Write(("s", "a"), {"n": 1}, 0)], 1.0)
    assert stores.ledger.reserve("1", _CHARGE, 60.0, 0.0).granted
    stores.evidence.append("1", "c", [Note("call", "x")], 5, 0.0)
    stores.blobs.put("s", "small", b"small", 1.0)
    stores.blobs.put("s", "large", b"large" * 20_000, 1.0)


def edit(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


# -- kept ----------------------------------------------------------------------------------


def test_everything_outlives_the_process(folder: Path) -> None:
    stores = disk_stores(folder)
    use(stores)
    stores.close()
    stores = disk_stores(folder)
    assert stores.slots.load([("s", "a")])[0].value == {"n": 1}
    assert stores.ledger.used("chain:a") == {"usd": 1}
    assert stores.ledger.reserve("1", _CHARGE, 60.0, 0.0).usage == {("chain:a", "usd"): 1}
    assert stores.evidence.append("1", "c", [Note("call", "x")], 5, 0.0) == (Note("call", "x"),)
    assert stores.blobs.get("s", "small", 1.0) == b"small"
    assert stores.blobs.get("s", "large", 1.0) == b"large" * 20_000
    stores.close()


def test_a_closed_store_says_so(folder: Path) -> None:
    stores = disk_stores(folder)
    stores.close()
    assert "closed" in refused(lambda: stores.ledger.used("chain:a"))
    assert "closed" in refused(lambda: stores.slots.commit([], 1.0))
    assert "closed" in refused(lambda: stores.blobs.get("s", "r", 1.0))


def test_old_ids_are_forgotten_and_counters_are_not(folder: Path, stores: Stores) -> None:
    day = 86400.0
    for number in range(200):
        stores.ledger.reserve(f"old{number}", [Charge("chain:a", "usd", 1)], 60.0, 0.0)
        stores.evidence.append(f"old{number}", "c", [], 1, 0.0)
    for number in range(200):
        stores.ledger.reserve(f"new{number}", [Charge("chain:a", "usd", 1)], 3 * day, 2 * day)
        stores.evidence.append(f"new{number}", "c", [], 1, 2 * day)
    connection = sqlite3.connect(folder / "state.sqlite")
    for table in ("leases", "appended"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (200,)
    connection.close()
    assert stores.ledger.used("chain:a") == {"usd": 400}


# -- private -------------------------------------------------------------------------------


def test_all_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        stores = disk_stores(tmp_path / "a" / "b" / "store")
        use(stores)
        modes = {
            path.relative_to(tmp_path): stat.S_IMODE(path.lstat().st_mode)
            for path in tmp_path.rglob("*")
        }
        stores.close()
    finally:
        os.umask(before)
    names = {path.name for path in modes}
    assert {"state.sqlite-wal", "state.sqlite-shm", "cache.db-wal", "cache.db-shm"} <= names
    assert any(name.endswith(".val") for name in names)
    for path, mode in modes.items():
        assert mode == (0o700 if (tmp_path / path).is_dir() or "." not in path.name else 0o600)


def test_readable_files_are_tightened(folder: Path) -> None:
    disk_stores(folder).close()
    for name in ("state.sqlite", "blobs/cache.db"):
        (folder / name).chmod(0o644)
    disk_stores(folder).close()
    for name in ("state.sqlite", "blobs/cache.db"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("inside", ["", "blobs", "state.sqlite", "blobs/cache.db"])
@pytest.mark.parametrize("how", ["link", "group", "world", "owner"])
def test_what_others_may_change_is_refused(folder: Path, inside: str, how: str) -> None:
    disk_stores(folder).close()
    path = folder / inside
    if how == "link":
        moved = path.rename(folder.parent / "elsewhere")
        path.symlink_to(moved)
    elif how == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o770 if how == "group" else 0o707)
    with pytest.raises(UnsafeStore) as caught:
        disk_stores(folder)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


def test_a_folder_diskcache_would_rename_is_refused(tmp_path: Path) -> None:
    assert "variable" in refused(lambda: disk_stores(tmp_path / "$HOME"))


# -- broken --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.sqlite", "blobs/cache.db"])
def test_a_file_that_is_no_database(folder: Path, name: str) -> None:
    disk_stores(folder).close()
    (folder / name).write_bytes(b"hello, I am not a database\n" * 400)
    message = refused(lambda: disk_stores(folder))
    assert name in message
    assert "move it away" in message


def test_a_damaged_page_is_one_clear_line(folder: Path) -> None:
    stores = disk_stores(folder)
    for number in range(200):
        assert stores.slots.commit([Write(("s", str(number)), "x" * 500, 0)], 1.0)
    stores.close()
    path = folder / "state.sqlite"
    with path.open("r+b") as file:
        for page in range(10, 40):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    stores = disk_stores(folder)
    message = refused(lambda: stores.slots.load([("s", str(n)) for n in range(200)]))
    assert "damaged" in message
    stores.close()


def test_a_newer_schema_is_refused(folder: Path) -> None:
    disk_stores(folder).close()
    edit(folder / "state.sqlite", "UPDATE meta SET value = 99")
    assert "newer clawmw" in refused(lambda: disk_stores(folder))


def test_someone_elses_database_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    edit(folder / "state.sqlite", "CREATE TABLE theirs (x)")
    assert "not a store" in refused(lambda: disk_stores(folder))


def test_a_file_in_place_of_the_folder(folder: Path) -> None:
    folder.write_text("not a folder")
    refused(lambda: disk_stores(folder))
    refused(lambda: disk_stores(folder / "below"))


def test_a_locked_file_is_waited_for_then_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_files, "PATIENCE", 0.05)
    monkeypatch.setattr(disk_blobs, "PATIENCE", 0.05)
    stores = disk_stores(folder)
    other = sqlite3.connect(folder / "state.sqlite", isolation_level=None)
    blobs = sqlite3.connect(folder / "blobs" / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    blobs.execute("BEGIN IMMEDIATE")
    assert "locked" in refused(lambda: stores.ledger.reserve("1", _CHARGE, 60.0, 0.0))
    assert "locked" in refused(lambda: stores.blobs.put("s", "r", b"x" * 50_000, 1.0))
    assert not list(folder.rglob("*.val")), "no file without its row"
    assert stores.ledger.used("chain:a") == {}, "readers do not wait"
    other.close()
    blobs.close()
    use(stores)
    stores.close()


@pytest.fixture
def open_to_nobody() -> Iterator[Path]:
    """A store whose user root can become, for whom modes mean nothing; ours, for others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        disk_stores(folder).close()
        folder.parent.chmod(0o711)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, 65534, 65534)
        yield folder
        for path in (folder, folder / "blobs"):
            path.chmod(0o700)


def test_a_folder_that_may_only_be_read(open_to_nobody: Path) -> None:
    folder = open_to_nobody
    for path in (folder, folder / "blobs"):
        path.chmod(0o500)
    lines = finish(start("as_nobody", folder))
    for name in ("state.sqlite", "blobs/cache.db"):
        (folder / name).chmod(0o400)
    lines += finish(start("as_nobody", folder), start("as_nobody", folder / "below"))
    for line in lines:
        assert line.startswith("open: StoreError: ")
        assert "\n" not in line
        assert str(folder) in line
        assert "writable" in line or "permission" in line


def test_files_that_may_not_grow(folder: Path) -> None:
    disk_stores(folder).close()
    [text] = finish(start("limited", folder, 150_000))
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    for what in ("slots", "blob row", "blob file"):
        assert lines[what].startswith("StoreError: store "), what
    assert lines["slots again"] == "done"
    assert lines["blob again"] == "done"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    mount = tmp_path / "tiny"
    mount.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(mount)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("only root may mount a small file system")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk(tiny: Path) -> None:
    stores = disk_stores(tiny)
    assert stores.ledger.reserve("1", _CHARGE, 60.0, 0.0).granted
    filler = tiny / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    big = "x" * 100_000
    for action in (
        lambda: stores.slots.commit([Write(("s", "a"), big, 0)], 1.0),
        lambda: stores.ledger.reserve("2", [Charge(big, "usd", 1)], 60.0, 0.0),
        lambda: stores.evidence.append("1", "c", [Note("call", big)], 5, 0.0),
        lambda: stores.blobs.put("s", "r", big.encode(), 1.0),
        lambda: stores.blobs.put("s", "r", big[:30_000].encode(), 1.0),
    ):
        refused(action)
    assert stores.ledger.used("chain:a") == {"usd": 1}
    assert not list(tiny.rglob("*.val"))
    filler.unlink()
    assert stores.ledger.reserve("2", _CHARGE, 60.0, 0.0).granted
    assert stores.slots.commit([Write(("s", "a"), big, 0)], 1.0)
    stores.blobs.put("s", "r", big.encode(), 1.0)
    assert stores.blobs.get("s", "r", 1.0) == big.encode()
    stores.close()


def test_values_sqlite_cannot_hold(stores: Stores) -> None:
    refused(lambda: stores.ledger.reserve("1", [Charge("c", "usd", 2**63)], 60.0, 0.0))
    refused(lambda: stores.slots.commit([Write(("\ud800", "a"), 1, 0)], 1.0))
    assert stores.ledger.used("c") == {}


def test_errors_are_store_errors() -> None:
    assert issubclass(UnsafeStore, StoreError)


# --- asked from an event loop ----------------------------------------------------------------


def test_who_will_not_wait_is_told_at_once_and_nothing_is_done(tmp_path: Path) -> None:
    stores = disk_stores(tmp_path / "s")
    assert stores.at_once is not None
    other = sqlite3.connect(tmp_path / "s" / "state.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = [Write(("session:t\x1fs", "x"), 1, 0)]
    began = time.monotonic()
    with stores.at_once(), pytest.raises(StoreBusy):
        stores.slots.commit(write, 0.0)
    assert time.monotonic() - began < 1
    other.execute("ROLLBACK")
    with stores.at_once():
        assert stores.slots.commit(write, 0.0)
    assert stores.slots.load([write[0].key]) == [Slot(1, 1)]
    other.close()
    stores.close()


def test_a_writer_elsewhere_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    policy = {"version": 1, "trace": "off", "store": {"disk": str(tmp_path / "s")}}
    runtime = Runtime.of(load_policy(policy))
    path = tmp_path / "s" / "state.sqlite"
    done = {"choices": [{"message": {"role": "assistant", "content": "ok"}}], "model": "m"}
    lags: list[float] = []

    async def ticking() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began)

    async def send(_: Any) -> dict[str, Any]:
        return done

    async def main() -> None:
        direct = Direct(runtime, Identity(session="s", chain="c"))
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        await direct.acall(body, send)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(0.5, other.execute, "ROLLBACK")
        ticks = asyncio.create_task(ticking())
        assert (await direct.acall(body, send)).body == done
        ticks.cancel()
        other.close()

    asyncio.run(main())
    runtime.close()
    assert len(lags) > 10, "the loop went on while the store was written by another"
    assert max(lags) < 0.4


def test_a_slow_store_is_asked_by_threads_for_a_while() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.took(0.001)
    assert pace.quick()
    pace.took(0.05)
    assert not pace.quick()
    now[0] = Pace.WHILE
    assert pace.quick()
