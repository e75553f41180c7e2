"""What a hostile or broken caller can send the gateway, over a real socket."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from clawmw.core.identity import Identity
from clawmw.emulator import Emulator
from clawmw.testing import Bench
from tests.adapters.test_gateway import Case, body, gateway


@pytest.fixture(scope="module")
def provider() -> Any:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def case(provider: Emulator) -> Any:
    provider.requests.clear()
    with gateway(provider.base_url) as made:
        yield made


def raw(case: Case, data: bytes) -> bytes:
    """Bytes to the socket; the status line that comes back, b"" when it is just closed."""
    place = urlsplit(case.url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as sock:
        sock.sendall(data)
        return sock.recv(4096).split(b"\r\n", 1)[0]


def test_a_compressed_body_is_refused_before_it_grows(provider: Emulator) -> None:
    """X8: gzip and deflate bombs stop at the cap; other and doubled encodings are not opened."""
    bomb = gzip.compress(b"\0" * 2**27)
    deflated = zlib.compress(b"\0" * 2**27)
    with gateway(provider.base_url, max_body=2**24) as case:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for data, encoding, status in (
            (bomb, "gzip", 413),
            (deflated, "deflate", 413),
            (gzip.compress(bomb), "gzip", 400),
            (gzip.compress(bomb), "gzip, gzip", 415),
            (b"x", "zstd", 415),
            (b"x", "br", 415),
        ):
            began = time.monotonic()
            assert case.post(data, content_encoding=encoding).status_code == status
            assert time.monotonic() - began < 2
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (2**24 + 2**24) * 2 / 1024, "the cap and some, in KB"
    # Unpacked once it is not understood, and so its provider's to refuse.
    assert [r.status for r in provider.requests] == [400]


def test_a_compressed_body_is_read(case: Case, provider: Emulator) -> None:
    """As it would be plain; damaged, cut off or followed by more it is refused."""
    plain = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    for encoding, data in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
        assert case.post(data, content_encoding=encoding).status_code == 200
        for broken in (data[:-4], data + b"more", data + data, b"nothing", b""):
            answer = case.post(broken, content_encoding=encoding)
            assert answer.status_code == 400, (encoding, broken)
            assert answer.json()["error"]["code"] == "invalid_body"
    assert [r.body["messages"][0]["content"] for r in provider.requests] == ["hi", "hi"]
    assert all("content-encoding" not in r.headers for r in provider.requests)


def test_the_gateway_answers_others_while_it_unpacks() -> None:
    """X8: unpacking is no work of the event loop."""
    big = gzip.compress(b" " * 30_000_000)
    # A provider in this process would hold it up, not the gateway.
    with gateway("http://127.0.0.1:1/v1") as case, ThreadPoolExecutor() as pool:
        slow = pool.submit(case.post, big, content_encoding="gzip")
        lags = []
        while not slow.done():
            began = time.monotonic()
            assert httpx.get(case.url.replace("/v1", "/healthz")).status_code == 200
            lags.append(time.monotonic() - began)
        assert slow.result().status_code == 502
    assert lags
    assert max(lags) < 1.0


def test_a_head_that_does_not_end_is_not_waited_for(
    provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowloris: on a new connection, and on one that has served a request."""
    monkeypatch.setattr("clawmw.adapters.gateway_server.HEAD_SECONDS", 0.4)
    with gateway(provider.base_url) as case:
        place = urlsplit(case.url)
        host = f"Host: {place.netloc}\r\n".encode()
        whole = b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n"
        for first in (b"", whole):
            with socket.create_connection((place.hostname or "", place.port or 0), 10) as sock:
                if first:
                    sock.sendall(first)
                    assert b"200" in sock.recv(65536)
                sock.sendall(b"GET /healthz HTTP/1.1\r\n")
                began = time.monotonic()
                while sock.recv(65536):
                    pass
                assert 0.2 < time.monotonic() - began < 5


def test_a_body_of_unknown_length_stops_at_the_cap(provider: Emulator) -> None:
    """X8: chunked, no length: read no further than the cap."""
    with gateway(provider.base_url, max_body=10_000) as case:
        chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: "
            + urlsplit(case.url).netloc.encode()
            + b"\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        assert b"413" in raw(case, head + chunk * 4)


@pytest.mark.parametrize(
    "text",
    [
        '{"model":"m","messages":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"model":"m","messages":[{"role":"user","content":"x","a":'
        + '{"a":' * 20_000
        + "1"
        + "}" * 20_000
        + "}]}",
        '{"model":"m","messages":[{"role":"user","content":"x"}],"x":NaN}',
    ],
)
def test_json_that_goes_too_deep_ends_in_one_clear_answer(case: Case, text: str) -> None:
    """X9: depth, and numbers that JSON does not have; the gateway lives on."""
    assert case.post(text.encode()).status_code in (200, 400)
    assert case.post(body()).status_code == 200


def test_a_million_keys_and_lone_surrogates_pass_or_are_refused_in_time(case: Case) -> None:
    """X9."""
    many = {**body(), "metadata": {f"k{n}": n for n in range(200_000)}}
    began = time.monotonic()
    assert case.post(many).status_code in (200, 400)
    assert time.monotonic() - began < 5
    lone = (
        b'{"model":"m","messages":[{"role":"assistant","content":"\\ud800"},'
        b'{"role":"user","content":"x"}]}'
    )
    assert case.post(lone).status_code == 200
    twice = b'{"model":"a","model":"m","messages":[{"role":"user","content":"x"}]}'
    assert case.post(twice).status_code in (200, 400)


def test_broken_heads_are_refused(case: Case) -> None:
    """X14, X1: a line break in a header, a thousand headers, two hosts, none."""
    host = urlsplit(case.url).netloc.encode()
    start = b"POST /v1/chat/completions HTTP/1.1\r\n"
    rest = b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    for head in (
        b"Host: " + host + b"\r\nx-evil: a\rb: c\r\n",
        b"Host: " + host + b"\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(20_000)),
        b"Host: " + host + b"\r\nHost: evil.com\r\n",
        b"",
    ):
        line = raw(case, start + head + rest)
        assert line == b"" or line.split()[1][:1] == b"4"
    assert case.post(body()).status_code == 200


def test_a_caller_chooses_no_address(case: Case, provider: Emulator) -> None:
    """X7: base URLs come from the policy alone; what a request says of them goes nowhere."""
    said = body(base_url="http://169.254.169.254/latest", api_base="http://2852039166/")
    headers = {"x-base-url": "http://169.254.169.254", "x-forwarded-host": "evil.com"}
    assert case.post(said, **headers).status_code == 200
    assert len(provider.requests) == 1
    assert "x-forwarded-host" not in provider.requests[0].headers


def test_ids_without_end_do_not_fill_the_memory() -> None:
    """X17: what a process remembers of sessions, chains and upstreams is bounded."""
    case = Bench({"version": 1, "compress": False, "dedupe": False})
    runtime = case.runtime
    for number in range(1500):
        case.identity = Identity(agent=f"a{number}", session=f"s{number}", chain=f"c{number}")
        case.send([{"role": "user", "content": "x"}], model=f"m{number}")
    assert len(runtime.remembered._histories) <= 256
    assert len(runtime.traffic.gates._gates) <= 257
    assert len(runtime.traffic.health._breakers) <= 256
    assert set(runtime.traffic.census().values()) == {0}


def test_hints_for_engines_are_not_taken_from_a_stranger(case: Case, provider: Emulator) -> None:
    """X15: what a caller says in clawmw's own headers stays here."""
    case.post(body(), x_clawmw_chain="c", x_clawmw_priority="background")
    named = [name for name in provider.requests[0].headers if name.startswith("x-clawmw")]
    assert named == []
    assert json.loads(json.dumps(provider.requests[0].body))["model"] == "gpt-4o"
