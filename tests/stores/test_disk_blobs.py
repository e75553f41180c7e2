"""Blobs on disk: nothing is unpickled, nothing of others is read or deleted, room is bounded."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clawmw.errors import UnsafeStore
from clawmw.stores.base import Stores
from clawmw.stores.disk import disk_stores
from tests.stores.contract import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def stores(folder: Path) -> Iterator[Stores]:
    stores = disk_stores(folder, blob_bytes=2 * 2**20, blob_age=100.0)
    yield stores
    stores.close()


# -- pickle --------------------------------------------------------------------------------


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that makes a folder when read; it must not have."""
    path = tmp_path / "boom"
    data = pickle.dumps(_Bomb(path))
    pickle.loads(data)
    path.rmdir()
    yield data
    assert not path.exists()


def plant(folder: Path, **columns: object) -> None:
    row = {"key": '["s", "r"]', "raw": 1, "store_time": 1.0, "tag": 1.0, "mode": 1} | columns
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection = sqlite3.connect(folder / "blobs" / "cache.db")
    with connection:
        connection.execute(
            f"INSERT OR REPLACE INTO Cache ({names}) VALUES ({marks})", tuple(row.values())
        )
    connection.close()


def test_a_pickled_value_is_refused(folder: Path, stores: Stores, bomb: bytes) -> None:
    plant(folder, mode=4, value=bomb)
    with pytest.raises(UnsafeStore, match="foreign blob"):
        stores.blobs.get("s", "r", 1.0)
    stores.blobs.put("s", "r", b"ours", 1.0)
    assert stores.blobs.get("s", "r", 1.0) == b"ours", "written over, never read"


def test_a_pickled_value_in_a_file_is_refused(folder: Path, stores: Stores, bomb: bytes) -> None:
    name = "aa/bb/" + "c" * 28 + ".val"
    (folder / "blobs/aa/bb").mkdir(parents=True)
    (folder / "blobs" / name).write_bytes(bomb)
    plant(folder, mode=4, filename=name)
    with pytest.raises(UnsafeStore):
        stores.blobs.get("s", "r", 1.0)


def test_a_pickled_key_is_refused(folder: Path, stores: Stores, bomb: bytes) -> None:
    plant(folder, key=bomb, raw=0, value=b"data")
    cache = stores.blobs._cache  # type: ignore[attr-defined]
    for walk in (iter, reversed, cache.__class__.iterkeys):
        with pytest.raises(UnsafeStore, match="pickled key"):
            list(walk(cache))
    with pytest.raises(UnsafeStore, match="pickled key"):
        cache.peekitem()
    stores.blobs.put("s", "r", b"ours", 1.0)
    assert stores.blobs.get("s", "r", 1.0) == b"ours"


def test_nothing_is_ever_pickled(stores: Stores) -> None:
    cache = stores.blobs._cache  # type: ignore[attr-defined]
    for key, value in (((1, 2), b"x"), ("k", {"a": 1}), ("k", "text"), ("k", 1.5), (1, b"x")):
        with pytest.raises(UnsafeStore):
            cache.set(key, value)


@pytest.mark.parametrize("name", ["../state.sqlite", "/etc/passwd", "cache.db", "aa/../x.val"])
def test_a_row_cannot_name_files_of_others(folder: Path, stores: Stores, name: str) -> None:
    plant(folder, mode=2, filename=name)
    with pytest.raises(UnsafeStore):
        stores.blobs.get("s", "r", 1.0)
    plant(folder, mode=3, filename=name)
    with pytest.raises(UnsafeStore):
        stores.blobs.get("s", "r", 1.0)
    stores.blobs.put("s", "r", b"ours", 1.0)
    assert (folder / "state.sqlite").exists(), "replacing the row deleted nothing of others"
    assert (folder / "blobs/cache.db").exists()


def test_a_link_in_place_of_a_blob_is_not_followed(folder: Path, stores: Stores) -> None:
    stores.blobs.put("s", "r", b"x" * 50_000, 1.0)
    [file] = folder.rglob("*.val")
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert stores.blobs.get("s", "r", 1.0) is None


def test_a_lost_file_is_put_again(folder: Path, stores: Stores) -> None:
    stores.blobs.put("s", "r", b"x" * 50_000, 1.0)
    [file] = folder.rglob("*.val")
    file.unlink()
    assert stores.blobs.get("s", "r", 1.0) is None
    stores.blobs.put("s", "r", b"x" * 50_000, 1.0)
    assert stores.blobs.get("s", "r", 1.0) == b"x" * 50_000


def test_no_file_is_left_without_its_row(folder: Path, stores: Stores) -> None:
    connection = sqlite3.connect(folder / "blobs" / "cache.db")
    with connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    connection.close()
    refused(lambda: stores.blobs.put("s", "r", b"x" * 50_000, 1.0))
    assert not list(folder.rglob("*.val"))


# -- bounds --------------------------------------------------------------------------------


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in {".val", ".db"})


@pytest.mark.parametrize("length", [3_000, 100_000])
def test_blobs_stay_within_their_size(folder: Path, stores: Stores, length: int) -> None:
    count = 6_000_000 // length
    for number in range(count):
        stores.blobs.put("s", str(number), os.urandom(length), float(number) / count)
    assert size(folder / "blobs") < 2.3 * 2**20
    kept = [stores.blobs.get("s", str(number), 1.0) is not None for number in range(count)]
    assert kept == sorted(kept), "the oldest went first"
    assert sum(kept) * length > 1.2 * 2**20, "and not more than needed"
    assert "exceeds" in refused(lambda: stores.blobs.put("s", "huge", bytes(3 * 2**20), 1.0))


def test_what_was_asked_for_outlives_what_was_not(stores: Stores) -> None:
    for number in range(20):
        stores.blobs.put("s", str(number), bytes(100_000), float(number))
    assert stores.blobs.get("s", "0", 30.0) is not None
    assert stores.blobs.get("s", "1", 31.0) is not None
    for number in range(20, 60):
        stores.blobs.put("s", str(number), bytes(30_000), 40.0)
    left = [number for number in range(20) if stores.blobs.get("s", str(number), 41.0)]
    assert {0, 1} <= set(left), "the longest unused goes first"
    assert len(left) < 20
    assert 2 not in left


def test_old_blobs_make_room(folder: Path, stores: Stores) -> None:
    for number in range(40):
        stores.blobs.put("s", str(number), bytes(40_000), 0.0)
    stores.blobs.put("s", "0", bytes(40_000), 100.0)
    for number in range(40, 80):
        stores.blobs.put("s", str(number), b"new", 150.0)
    assert len(list(folder.rglob("*.val"))) == 1
    assert stores.blobs.get("s", "0", 150.0) == bytes(40_000)


@pytest.mark.parametrize("name", ["get", "_one", "_disk", "disk_extra", "eviction_policy"])
def test_planted_settings_change_nothing_or_are_reported(folder: Path, name: str) -> None:
    disk_stores(folder).close()
    connection = sqlite3.connect(folder / "blobs" / "cache.db")
    with connection:
        connection.execute("INSERT OR REPLACE INTO Settings VALUES (?, 'planted')", (name,))
    connection.close()

    def use() -> None:
        stores = disk_stores(folder)
        try:
            stores.blobs.put("s", "r", b"data", 1.0)
            assert stores.blobs.get("s", "r", 1.0) == b"data"
        finally:
            stores.close()

    if name == "eviction_policy":
        use()
    else:
        assert "cache.db" in refused(use)
