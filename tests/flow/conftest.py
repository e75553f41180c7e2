from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.flow_bench import Bench, Provider


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state" / "flows.sqlite")


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    yield server
    server.close()
