"""What was asked against what was sent: kept of every call, at the cost of what is new in it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawmw.observe.outlinetables import forget
from clawmw.observe.recorder import Content
from clawmw.observe.spanstore import SpanStore
from clawmw.testing import answer, failing
from tests.observe.inside import TOOLS, Kept, conversation

CANARY = "kingfisher-4711"


@pytest.fixture
def kept(store_path: Path) -> Iterator[Kept]:
    made = Kept(store_path, {"compress": "balanced"})
    yield made
    made.observer.close()


def test_an_outline_says_what_was_asked_what_was_sent_and_what_changed_it(kept: Kept) -> None:
    sent = kept.bench.send(conversation(2), tools=TOOLS)
    seen = kept.inside()
    assert [said.role for said in seen.messages] == [m["role"] for m in conversation(2)]
    result = seen.messages[3]
    assert result.by == ("compress.table",)
    assert (result.parts[0].kind, result.parts[0].name) == ("result", "search")
    assert result.asked_bytes == len(conversation(2)[3]["content"])
    in_short = sent.body["messages"][3]["content"].encode()
    assert result.sent_bytes == len(in_short) < result.asked_bytes
    assert not seen.messages[1].changed
    assert seen.facts["asked"]["tools"] == 2
    assert seen.facts["tools_added"] == ["clawmw_expand"]
    assert seen.facts["answer"]["finish"] == "stop"


def test_each_message_is_written_once_however_often_it_is_sent(kept: Kept) -> None:
    for count in range(1, 8):
        kept.bench.send(conversation(count), tools=TOOLS)
    assert kept.query("SELECT count(*) FROM turns") == [(16,)]
    assert kept.query("SELECT count(*) FROM outlines") == [(7,)]
    assert len(kept.inside("x3").messages) == 8
    assert len(kept.inside("x7").messages) == 16


def test_another_process_goes_on_from_what_is_written(kept: Kept) -> None:
    kept.bench.send(conversation(2), tools=TOOLS)
    before = kept.inside("x1")
    kept.restart()
    kept.bench.send(conversation(3), tools=TOOLS)
    assert kept.query("SELECT count(*) FROM turns") == [(8,)]
    (after,) = kept.query("SELECT exchange FROM outlines ORDER BY end_ns DESC LIMIT 1")
    assert kept.inside(after[0]).messages[:6] == before.messages


def test_messages_of_clawmw_stand_where_they_were_sent(store_path: Path) -> None:
    kept = Kept(store_path, {"budget": {"chain": {"calls": 4}}})
    for count in range(1, 5):
        kept.bench.send(conversation(count, size=3), tools=TOOLS)
    sent = kept.inside("x4").messages
    ours = [said for said in sent if said.added_by]
    kept.observer.close()
    assert [said.added_by for said in ours] == ["budget"]
    assert ours[0].sent_tokens > 0
    assert ours[0].asked_tokens == 0


def test_a_call_that_was_stopped_or_failed_has_its_outline(store_path: Path) -> None:
    kept = Kept(store_path, {"budget": {"chain": {"calls": 1}}})
    kept.bench.send(conversation(1), tools=TOOLS)
    kept.bench.send(conversation(2), tools=TOOLS)
    stopped = kept.inside("x2")
    assert stopped.facts["sent"] is None
    assert stopped.facts["answer"] is None
    assert len(stopped.messages) == 6
    kept.observer.close()

    failed = Kept(store_path, {"retry": False})
    failed.bench.model = lambda _body: failing(500)
    failed.bench.send(conversation(1), tools=TOOLS)
    assert failed.inside("x1").facts["answer"] is None
    failed.observer.close()


def test_async_calls_are_written_down_alike(kept: Kept) -> None:
    asyncio.run(kept.bench.asend(conversation(2), tools=TOOLS))
    asynchronous = kept.inside("x1").messages
    kept.restart()
    kept.bench.send(conversation(2), tools=TOOLS)
    assert asynchronous == kept.inside("x1").messages


def test_nothing_of_what_was_said_is_in_the_store_unless_it_is_asked_for(kept: Kept) -> None:
    said = [*conversation(1), {"role": "user", "content": f"My bird is called {CANARY}."}]
    kept.bench.send(said, tools=TOOLS)
    kept.inside()
    kept.observer.close()
    whole = b"".join(path.read_bytes() for path in kept.path.parent.iterdir())
    assert len(whole) > 1000
    for word in (CANARY, "Lisbon", "flights", "Ticket"):
        assert word.encode() not in whole


def test_a_process_that_forgets_a_call_counts_it(kept: Kept) -> None:
    recorder = kept.observer._recorder
    assert recorder is not None
    kept.bench.send(conversation(1), tools=TOOLS)
    call = recorder._calls[-1]
    for _ in range(5000):
        recorder.ended(call)
    assert recorder.lost > 0
    assert kept.observer.flush()


def test_the_caller_waits_for_none_of_it(kept: Kept) -> None:
    """500 messages of which two are new: what the call's own thread spends."""
    long = conversation(250, size=2)
    kept.bench.send(long[:-2], tools=TOOLS)
    kept.bench.send(long, tools=TOOLS)
    recorder = kept.observer._recorder
    assert recorder is not None
    assert kept.observer.flush()
    kept.bench.send(long, tools=TOOLS)
    call = recorder._calls[-1]
    took = []
    for _ in range(200):
        began = time.perf_counter()
        recorder.ended(call)
        took.append(time.perf_counter() - began)
    assert statistics.median(took) < 50e-6


def test_what_is_new_is_what_it_costs(kept: Kept) -> None:
    long = conversation(250, size=2)
    kept.bench.send(long[:-2], tools=TOOLS)
    kept.inside("x1")
    kept.bench.send(long, tools=TOOLS)
    recorder = kept.observer._recorder
    assert recorder is not None
    assert len(recorder._outliner.outline(recorder._calls[-1]).turns) == 2


def test_old_calls_go_with_their_messages_and_others_stay(kept: Kept) -> None:
    kept.bench.send(conversation(1), tools=TOOLS)
    kept.bench.send(conversation(2), tools=TOOLS)
    fork = [*conversation(1)[:2], {"role": "user", "content": "And to Porto?"}]
    kept.bench.send(fork, tools=TOOLS)
    assert kept.query("SELECT count(*) FROM turns") == [(7,)]
    store = SpanStore.open(kept.path)
    ends = kept.query("SELECT end_ns FROM outlines ORDER BY exchange")
    store.transact(lambda connection: forget(connection, before_ns=ends[2][0]))
    store.close()
    assert kept.query("SELECT exchange FROM outlines") == [("x3",)]
    assert [said.role for said in kept.inside("x3").messages] == ["system", "user", "user"]
    assert kept.query("SELECT count(*) FROM turns") == [(3,)]


def test_outlines_go_with_a_whole_chain(kept: Kept) -> None:
    kept.bench.send(conversation(1), tools=TOOLS)
    kept.inside()
    ((trace,),) = kept.query("SELECT DISTINCT trace_id FROM spans WHERE op = 'chat'")
    store = SpanStore.open(kept.path)
    store.transact(lambda connection: forget(connection, traces=["0" * 32]))
    assert kept.query("SELECT count(*) FROM turns") == [(4,)]
    store.transact(lambda connection: forget(connection, traces=[trace]))
    store.close()
    assert kept.query("SELECT count(*) FROM outlines") == [(0,)]
    assert kept.query("SELECT count(*) FROM turns") == [(0,)]


# --- content ------------------------------------------------------------------------------


def test_what_was_said_is_kept_where_the_policy_says_so(store_path: Path) -> None:
    kept = Kept(store_path, {"compress": "balanced"}, Content(3600, 64_000))
    sent = kept.bench.send(conversation(2), tools=TOOLS)
    seen = kept.inside()
    assert seen.kept
    assert seen.messages[0].asked["parts"] == [{"type": "text", "content": "You look for flights."}]
    result = seen.messages[3]
    assert result.asked["parts"][0]["response"] == conversation(2)[3]["content"]
    assert result.sent["parts"][0]["response"] == sent.body["messages"][3]["content"]
    assert seen.messages[1].sent is None
    assert seen.answer["parts"] == [{"type": "text", "content": "ok"}]
    before = kept.query("SELECT count(*) FROM texts")
    kept.bench.send(conversation(2), tools=TOOLS)
    assert kept.query("SELECT count(*) FROM texts") == before
    assert store_path.stat().st_mode & 0o777 == 0o600
    kept.observer.close()


def test_a_long_text_is_cut_and_says_so(store_path: Path) -> None:
    kept = Kept(store_path, {"compress": "off", "dedupe": False}, Content(3600, 500))
    kept.bench.send(conversation(1), tools=TOOLS)
    text = kept.inside().messages[3].asked["parts"][0]["response"]
    kept.observer.close()
    assert len(text) < 700
    assert "[cut here: the first 500 of" in text


def test_texts_are_gone_from_the_file_when_their_time_is_over(store_path: Path) -> None:
    kept = Kept(store_path, {}, Content(0.2, 64_000))
    said = [{"role": "user", "content": CANARY * 200}]
    kept.bench.send(said)
    kept.inside()
    time.sleep(0.3)
    assert kept.inside().messages[0].asked is None
    (data,) = kept.query("SELECT data FROM texts LIMIT 1")[0]
    kept.observer.close()
    store = SpanStore.open(store_path)
    assert store.query("SELECT count(*) FROM texts")[0][0] == 0
    whole = b"".join(path.read_bytes() for path in store_path.parent.iterdir())
    store.close()
    assert data not in whole


def test_secrets_of_an_answer_are_replaced_before_it_is_kept(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-verysecret-1234567890")
    kept = Kept(store_path, {"redact": {"env": ["SOME_KEY"]}}, Content(3600, 64_000))
    kept.bench.model = lambda _body: answer("the key is sk-verysecret-1234567890")
    kept.bench.send([{"role": "user", "content": "my key: sk-verysecret-1234567890"}])
    seen = kept.inside()
    kept.observer.close()
    assert seen.answer["parts"][0]["content"] == "the key is [redacted:SOME_KEY]"
    assert "verysecret" not in json.dumps([said.asked for said in seen.messages])
