"""P1: killed with SIGKILL at any of its own writes, it goes on as if nothing had been."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.stores.disk import disk_stores
from tests.stores import kill_worker

CHAIN = Identity(session="s", chain="c").scope("chain")
SOME = [(3, "after"), (6, "before"), (9, "after"), (12, "before")]
ALL = [(number, when) for number in range(1, 26) for when in ("before", "after")]


@pytest.fixture
def provider() -> Iterator[Emulator]:
    """One a test: what it has in its prompt cache makes calls cheaper."""
    with Emulator(bill="openai") as emulator:
        yield emulator


def run(folder: Path, provider: Emulator, at: int = 0, when: str = "-") -> int:
    command = [sys.executable, "-m", kill_worker.__name__, str(folder), provider.base_url]
    done = subprocess.run([*command, str(at), when], capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-500:]
    return done.returncode


def bodies(provider: Emulator) -> dict[int, list[Any]]:
    """What was sent, by how long the history was."""
    found: dict[int, list[Any]] = {}
    for request in provider.requests:
        messages = request.body["messages"]
        found.setdefault(len(messages), []).append(json.dumps(messages))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Emulator(bill="openai") as provider:
        run(folder, provider)
        return bodies(provider), used(folder)


def used(folder: Path) -> dict[str, int]:
    stores = disk_stores(folder / "store")
    try:
        return dict(stores.ledger.used(CHAIN))
    finally:
        stores.close()


def hold(
    at: int, when: str, provider: Emulator, undisturbed: Any, tmp_path: Path, *, move: bool
) -> None:
    wanted, plain = undisturbed
    folder = tmp_path / "first"
    folder.mkdir()
    killed = run(folder, provider, at, when) != 0
    if move:  # another path, as on another host
        folder = Path(shutil.move(str(folder), str(tmp_path / "second")))
    run(folder, provider)
    sent = bodies(provider)
    assert sent.keys() == wanted.keys()
    for length, texts in sent.items():
        assert set(texts) == set(wanted[length]), "the same bytes, however often they were sent"
    repeated = sum(len(texts) for texts in sent.values()) - len(wanted)
    assert repeated <= killed
    now = used(folder)
    # At most the call that was under way is paid for twice; nothing that was settled is.
    assert plain["calls"] <= now["calls"] <= plain["calls"] + killed
    assert now["usd"] >= plain["usd"] * 0.9  # a call made again reads more from the cache


@pytest.mark.parametrize(("at", "when"), SOME)
def test_killed_at_a_write_it_goes_on(
    at: int, when: str, provider: Emulator, undisturbed: Any, tmp_path: Path
) -> None:
    """P1, B19."""
    hold(at, when, provider, undisturbed, tmp_path, move=at % 2 == 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("at", "when"), ALL)
def test_killed_at_any_write_it_goes_on(
    at: int, when: str, provider: Emulator, undisturbed: Any, tmp_path: Path
) -> None:
    """P1: every one of them."""
    hold(at, when, provider, undisturbed, tmp_path, move=True)
