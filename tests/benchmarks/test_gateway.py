"""The gateway's benchmark in small: its provider and its callers."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.gateway.load import Job, Load, bodies
from benchmarks.gateway.provider import Provider


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rate", [None, 200.0])
def test_callers_get_their_answers_and_tell_how_long_it_took(
    stream: bool, rate: float | None
) -> None:
    async def go() -> dict[str, Any]:
        server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            job = Job(f"http://127.0.0.1:{port}/v1", 2000, stream, 0.0, rate, 2, calls=20)
            return await Load(job).run()

    found = asyncio.run(go())
    assert found["calls"] >= 20
    assert found["failed"] == 0
    assert 0 < found["first_p50"] <= found["p50"] <= found["p99"]


def test_a_session_goes_on_from_call_to_call_and_is_of_its_size() -> None:
    made = [json.loads(body) for body in bodies(Job("", 60_000, True, 1.0, None), 3, 40)]
    for one, other in pairwise(made):
        assert other["messages"][: len(one["messages"])] == one["messages"]
    assert made[0]["stream"] is True
    assert 54_000 < len(json.dumps(made[20])) < 66_000
