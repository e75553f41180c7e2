"""An upstream that misbehaves, through real sockets: in process and through the gateway.

R6: answers that are none. R7: first bytes that never come, and silence in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

import clawmw
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.core.events import Attempted, CallFinished, Event
from clawmw.emulator import Emulator, Fault
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

QUICK = {"base": "1ms", "longest": "2ms"}
BODY: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**BODY, "stream": True}
WAYS = ["transport", "gateway"]


class Case:
    """One upstream, one runtime, and a client of one kind or the other."""

    def __init__(self, upstream: Emulator, through: str, policy: dict[str, Any]) -> None:
        self.upstream, self.through = upstream, through
        self.events: list[Event] = []
        given = {"version": 1, "trace": "off", "retry": QUICK, **policy}
        self.runtime = Runtime.of(load_policy(given), observers=[self.events.append])

    @contextmanager
    def url(self) -> Iterator[tuple[str, Any]]:
        """Where to call, and the client to call with."""
        if self.through == "transport":
            with clawmw.http_client(self.runtime) as client:
                yield self.upstream.base_url, client
            return
        served = Served(Gateway(self.runtime, Places({}, self.upstream.base_url)))
        with served, httpx.Client(timeout=20) as client:
            yield served.base_url, client

    def post(self, body: dict[str, Any]) -> httpx.Response:
        with self.url() as (url, client):
            return client.post(f"{url}/chat/completions", json=body)  # type: ignore[no-any-return]

    def sdk(self, body: dict[str, Any]) -> Any:
        with self.url() as (url, client):
            sdk = openai.OpenAI(base_url=url, api_key="k", http_client=client)
            answer: Any = sdk.chat.completions.create(**body)
            return list(answer) if body.get("stream") else answer

    @property
    def failures(self) -> list[str | None]:
        """How the attempts failed."""
        return [e.failure for e in self.events if isinstance(e, Attempted) and e.failure]


@pytest.fixture
def server() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(params=WAYS)
def make(server: Emulator, request: pytest.FixtureRequest) -> Iterator[Callable[..., Case]]:
    cases: list[Case] = []

    def one(**policy: Any) -> Case:
        cases.append(Case(server, request.param, policy))
        return cases[-1]

    yield one
    for case in cases:
        assert set(case.runtime.traffic.census().values()) == {0}
        case.runtime.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [Fault(error=True), Fault(empty=True), Fault(html=True), Fault(reset_after=0)],
    ids=["error", "empty", "html", "reset"],
)
def test_an_answer_that_is_none_is_asked_for_again(
    make: Callable[..., Case], fault: Fault, stream: bool
) -> None:
    """R6: an error inside a 200, nothing, a page, a reset before the first byte."""
    case = make()
    case.upstream.fail_next(fault)
    done = case.post(STREAM if stream else BODY)
    assert done.status_code == 200
    assert "hello" in done.text
    assert "overloaded" not in done.text
    assert len(case.upstream.requests) == 2
    assert len(case.failures) == 1


def test_a_stream_of_nothing_is_asked_for_again(make: Callable[..., Case]) -> None:
    """R6: a stream that ends before its first event; comments alone do not count as one."""
    case = make()
    case.upstream.fail_next(Fault(truncate_after=0), Fault(comments=2, truncate_after=2))
    done = case.post(STREAM)
    assert done.text.endswith("data: [DONE]\n\n")
    assert done.text.count('"role"') == 1
    assert len(case.upstream.requests) == 3


def test_half_an_answer_is_asked_for_again(make: Callable[..., Case]) -> None:
    """R6: a body that ends in the middle."""
    case = make()
    case.upstream.fail_next(Fault(truncate_after=1))
    assert case.post(BODY).json()["choices"]
    assert len(case.upstream.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [Fault(error=True), Fault(empty=True), Fault(html=True)],
    ids=["error", "empty", "html"],
)
def test_what_stays_no_answer_is_one_clear_error(make: Callable[..., Case], fault: Fault) -> None:
    """R2, R6: three attempts in all, though the SDK would make three of each."""
    case = make()
    case.upstream.fail_next(*[fault] * 12)
    with pytest.raises(openai.InternalServerError) as caught:
        case.sdk(BODY)
    assert len(case.upstream.requests) == 3
    assert caught.value.response.headers["x-should-retry"] == "false"
    if not fault.error:
        assert "no model answer" in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_lost_connection_is_not_multiplied_by_an_sdk(
    make: Callable[..., Case], stream: bool
) -> None:
    """R2: an SDK tries exceptions again whatever they say, so it gets an answer."""
    case = make()
    case.upstream.fail_next(*[Fault(reset_after=0)] * 12)
    with pytest.raises(openai.InternalServerError, match="closed the connection"):
        case.sdk(STREAM if stream else BODY)
    assert len(case.upstream.requests) == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(pieces=1),
        Fault(pieces=7),
        Fault(crlf=True, pieces=3),
        Fault(comments=3),
        Fault(mislabel=True),
    ],
    ids=["bytes", "split data:", "CRLF", "comments", "content type"],
)
def test_odd_but_whole_streams_are_whole(make: Callable[..., Case], fault: Fault) -> None:
    """R6: split characters and `data:`, CRLF, comments, another content type: one attempt."""
    case = make()
    case.upstream.fail_next(fault)
    body = {**STREAM, "messages": [{"role": "user", "content": "zwölf Bäume, 木"}]}
    done = case.post(body)
    text = done.text.replace("\r\n", "\n")
    assert text.endswith("data: [DONE]\n\n")
    assert len(case.upstream.requests) == 1
    [finished] = [e for e in case.events if isinstance(e, CallFinished)]
    assert (finished.status, finished.finish_reason) == ("ok", "stop")


def test_a_line_of_ten_megabytes_passes(make: Callable[..., Case]) -> None:
    """R6: it is read once, in linear time, and handed on."""
    case = make()
    case.upstream.fail_next(Fault(big=10 * 2**20))
    began = time.perf_counter()
    done = case.post(STREAM)
    assert len(done.content) > 10 * 2**20
    assert done.text.endswith("data: [DONE]\n\n")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_first_byte_that_never_comes(make: Callable[..., Case], stream: bool) -> None:
    """R7: given up after `first_byte`, and asked for again."""
    case = make(timeout={"first_byte": "80ms"})
    case.upstream.fail_next(Fault(delay=1.0))
    began = time.perf_counter()
    assert "hello" in case.post(STREAM if stream else BODY).text
    assert time.perf_counter() - began < 0.9
    assert case.failures == ["timeout"]


def test_comments_are_no_first_byte(make: Callable[..., Case]) -> None:
    """R7: a server that only says it is alive is as late as one that says nothing."""
    case = make(timeout={"first_byte": "80ms"})
    case.upstream.fail_next(Fault(comments=100, chunk_delay=0.02))
    done = case.post(STREAM)
    assert done.text.endswith("data: [DONE]\n\n")
    assert case.failures == ["timeout"]


def test_silence_in_mid_stream_ends_it_and_replays_nothing(make: Callable[..., Case]) -> None:
    """R7: what was forwarded stays as it is, incomplete."""
    case = make(timeout={"idle": "80ms"})
    case.upstream.fail_next(Fault(stall_after=2))
    began = time.perf_counter()
    with pytest.raises((httpx.HTTPError, openai.APIError)):
        case.sdk(STREAM)
    assert time.perf_counter() - began < 3
    assert len(case.upstream.requests) == 1
    [finished] = [e for e in case.events if isinstance(e, CallFinished)]
    assert finished.status == "cancelled"


def test_an_error_in_mid_stream_passes_as_it_came(make: Callable[..., Case]) -> None:
    case = make()
    case.upstream.fail_next(Fault(reset_after=3))
    with pytest.raises((httpx.HTTPError, openai.APIError)):
        case.sdk(STREAM)
    assert len(case.upstream.requests) == 1


def test_a_slow_reader_is_not_a_silent_upstream(server: Emulator) -> None:
    """The time that a caller takes is its own."""
    case = Case(server, "transport", {"timeout": {"idle": "60ms"}})
    body = {**STREAM, "messages": [{"role": "user", "content": "word " * 40}]}
    with (
        case.url() as (url, client),
        client.stream("POST", f"{url}/chat/completions", json=body) as response,
    ):
        chunks = []
        for chunk in response.iter_bytes():
            time.sleep(0.03 if len(chunks) < 6 else 0)
            chunks.append(chunk)
    assert b"".join(chunks).endswith(b"data: [DONE]\n\n")
    case.runtime.close()
