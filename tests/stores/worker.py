"""One process of several that share a disk store: `worker.py COMMAND FOLDER ARGUMENT...`."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clawmw.core.effects import Charge, Note, Write
from clawmw.errors import StoreError
from clawmw.stores.base import Stores
from clawmw.stores.disk import disk_stores


def reserve(stores: Stores, name: str, count: int, limit: int) -> int:
    """How many of `count` reservations were admitted."""
    charges = [Charge("chain:a", "usd", 1, limit)]
    granted = 0
    for number in range(count):
        granted += stores.ledger.reserve(f"{name}/{number}", charges, 60.0, 0.0).granted
    return granted


def hold(stores: Stores) -> None:
    """Reserve 7 for 5 seconds of the store's time, then hang until killed."""
    assert stores.ledger.reserve("held", [Charge("chain:a", "usd", 7, 10)], 5.0, 0.0).granted
    print("held", flush=True)
    time.sleep(60)


def append(stores: Stores, name: str, count: int) -> None:
    for number in range(count):
        stores.evidence.append(f"{name}/{number}", "c", [Note(name, str(number))], 1000, 0.0)


def count_up(stores: Stores, count: int) -> None:
    key = ("s", "counter")
    for _ in range(count):
        while True:
            [slot] = stores.slots.load([key])
            if stores.slots.commit([Write(key, (slot.value or 0) + 1, slot.version)], 1.0):
                break


def blobs(stores: Stores, name: str, count: int) -> None:
    """Puts under shared and own references; whatever is there is whole."""
    for number in range(count):
        for ref in (str(number % 7), f"{name}/{number}"):
            size = 40_000 if number % 2 else 400
            stores.blobs.put("s", ref, ref.encode() * size, 1.0)
            data = stores.blobs.get("s", ref, 1.0)
            assert data is None or data.replace(ref.encode(), b"") == b""


def fork(stores: Stores) -> None:
    """A forked child uses the parent's stores; both keep working."""
    charge = [Charge("chain:a", "usd", 1)]
    stores.ledger.reserve("parent", charge, 60.0, 0.0)
    stores.blobs.put("s", "parent", b"p", 1.0)
    child = os.fork()
    if child == 0:
        stores.ledger.reserve("child", charge, 60.0, 0.0)
        stores.blobs.put("s", "child", b"c", 1.0)
        os._exit(0 if stores.blobs.get("s", "parent", 1.0) == b"p" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert stores.blobs.get("s", "child", 1.0) == b"c"
    assert stores.ledger.used("chain:a") == {"usd": 2}


def attempt(what: str, action: Callable[[], object]) -> None:
    try:
        action()
        print(f"{what}: done")
    except StoreError as error:
        print(f"{what}: {type(error).__name__}: {error}")


def limited(stores: Stores, size: int) -> None:
    """Write into files that may not grow beyond `size` bytes, then into ones that may."""
    big = "x" * 400_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    attempt("slots", lambda: stores.slots.commit([Write(("s", "big"), big, 0)], 1.0))
    attempt("blob row", lambda: [stores.blobs.put("s", f"{i}", os.urandom(30_000), 1.0)
                                 for i in range(40)])  # fmt: skip
    attempt("blob file", lambda: stores.blobs.put("s", "file", big.encode(), 1.0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    attempt("slots again", lambda: stores.slots.commit([Write(("s", "big"), big, 0)], 1.0))
    attempt("blob again", lambda: stores.blobs.put("s", "file", big.encode(), 1.0))


def as_nobody(folder: Path) -> None:
    """Open a folder that may only be read, with no rights to change that."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    attempt("open", lambda: disk_stores(folder))


def main(command: str, folder: str, *arguments: str) -> None:
    if command == "as_nobody":
        as_nobody(Path(folder))
        return
    stores = disk_stores(Path(folder), blob_bytes=2 * 2**20)
    numbers = [int(a) if a.isdigit() else a for a in arguments]
    print(globals()[command](stores, *numbers))
    stores.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
