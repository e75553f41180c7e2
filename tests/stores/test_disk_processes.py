"""Several processes on one disk store, and what is left of one that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clawmw.core.effects import Charge, Note
from clawmw.stores.disk import disk_stores

_WORKER = Path(__file__).with_name("worker.py")


def start(command: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(_WORKER), command, str(folder), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(*workers: subprocess.Popen[str]) -> list[str]:
    out = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return out


def test_four_processes_admit_exactly_the_limit(tmp_path: Path) -> None:
    """They also make the store at the same time."""
    folder = tmp_path / "store"
    workers = [start("reserve", folder, f"w{i}", 250, 400) for i in range(4)]
    granted = [int(line) for line in finish(*workers)]
    assert sum(granted) == 400
    stores = disk_stores(folder)
    assert stores.ledger.used("chain:a") == {"usd": 400}
    stores.close()


def test_several_processes_lose_no_evidence_and_no_update(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    workers = [start("append", folder, f"w{i}", 100) for i in range(3)]
    workers += [start("count_up", folder, 50) for _ in range(2)]
    workers += [start("blobs", folder, f"b{i}", 60) for i in range(2)]
    finish(*workers)
    stores = disk_stores(folder)
    held = stores.evidence.append("end", "c", (), 1000, 0.0)
    for name in ("w0", "w1", "w2"):
        mine = [note for note in held if note.kind == name]
        assert mine == [Note(name, str(number)) for number in range(100)]
    assert stores.slots.load([("s", "counter")])[0].value == 100
    stores.close()


def test_a_killed_reservation_is_spent_once(tmp_path: Path) -> None:
    worker = start("hold", tmp_path / "store")
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    worker.stdout.close()
    stores = disk_stores(tmp_path / "store")
    charge = [Charge("chain:a", "usd", 7, 10)]
    assert not stores.ledger.reserve("next", charge, 99.0, 1.0).granted, "before it expires"
    assert not stores.ledger.reserve("later", charge, 99.0, 9.0).granted, "and after"
    assert stores.ledger.reserve("held", charge, 99.0, 9.0).granted, "resumed: drawn already"
    assert stores.ledger.used("chain:a") == {"usd": 7}
    stores.close()


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_a_forked_child_may_use_the_stores(tmp_path: Path) -> None:
    finish(start("fork", tmp_path / "store"))
