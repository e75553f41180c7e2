"""What was asked against what was sent: kept of every call, at the cost of what is new in it."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from clawmw.cli.store import command as store_command
from clawmw.core.drive import drive
from clawmw.core.effects import Called
from clawmw.core.events import EpochBegan
from clawmw.core.identity import Identity
from clawmw.observe.store.outlines import Outliner
from clawmw.observe.store.outlinestore import Inside, inside
from clawmw.observe.store.outlinetables import forget
from clawmw.observe.store.recorder import Content, Recorder
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.testing import answer, failing
from tests.conftest import tool
from tests.observe.inside import TOOLS, Kept, conversation
from tests.stages.context.test_epochs import POLICY, idle, messages, run
from tests.stages.context.test_window import page, rounds
from tests.stages.context.test_window import policy as window

CANARY = "kingfisher-4711"
WRITER = """
import sys, time
from pathlib import Path
from tests.observe.inside import TOOLS, Kept, conversation

kept = Kept(Path(sys.argv[1]), {})
for number in range(1, 10_000):
    kept.bench.send(conversation(number, size=2), tools=TOOLS)
    print(number, flush=True)
    time.sleep(0.01)
"""


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


def test_a_store_that_was_deleted_gets_the_whole_history(kept: Kept) -> None:
    kept.bench.send(conversation(1), tools=TOOLS)
    assert kept.observer.flush()
    for file in kept.path.parent.glob(f"{kept.path.name}*"):
        file.unlink()
    kept.bench.send(conversation(2), tools=TOOLS)
    assert len(kept.inside("x2").messages) >= len(conversation(2))


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


def test_what_cannot_be_written_in_time_is_counted_and_nobody_waits(store_path: Path) -> None:
    kept = Kept(store_path, {})
    kept.bench.send(conversation(1), tools=TOOLS)
    recorder = Recorder(SpanStore.open(store_path.with_name("other.sqlite")))
    began = time.perf_counter()
    for _ in range(5000):
        recorder.ended(kept.calls[0])
    assert time.perf_counter() - began < 0.5
    recorder.close()
    count = recorder.counts
    assert count.handed == 5000
    assert count.delivered + count.lost.get("queue", 0) == 5000
    kept.observer.close()


def test_the_caller_waits_for_none_of_it(kept: Kept) -> None:
    """500 messages of which two are new: what the call's own thread spends."""
    long = conversation(250, size=2)
    for said in (long[:-2], long):
        kept.bench.send(said, tools=TOOLS)
    recorder = Recorder(SpanStore.open(kept.path))
    took = []
    for _ in range(200):
        began = time.perf_counter()
        recorder.ended(kept.calls[-1])
        took.append(time.perf_counter() - began)
    recorder.close()
    assert statistics.median(took) < 50e-6


def test_what_is_new_is_what_it_costs(kept: Kept) -> None:
    long = conversation(250, size=2)
    outliner = Outliner()
    for said in (long[:-2], long):
        kept.bench.send(said, tools=TOOLS)
    assert len(outliner.outline(kept.calls[0]).turns) == 500
    assert len(outliner.outline(kept.calls[1]).turns) == 2


@pytest.mark.slow
def test_a_killed_process_loses_the_last_batch_at_most(store_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 8:
            break
    time.sleep(0.9)
    child.kill()
    child.wait()
    child.stdout.close()
    store = SpanStore.read(store_path)
    exchanges = [row[0] for row in store.query("SELECT exchange FROM outlines ORDER BY end_ns")]
    assert len(exchanges) >= 8
    seen = inside(store, exchanges[-1], time.time_ns())
    store.close()
    assert seen is not None
    assert [said.place for said in seen.messages] == list(range(len(seen.messages)))
    assert len(seen.messages) == seen.facts["asked"]["messages"]


def test_a_forked_child_writes_its_own(kept: Kept) -> None:
    kept.bench.send(conversation(1), tools=TOOLS)
    kept.inside("x1")
    child = os.fork()
    if not child:
        kept.bench.send(conversation(2), tools=TOOLS)
        os._exit(0 if kept.observer.flush() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(kept.inside("x2").messages) == 6


def test_a_body_that_is_not_read_has_what_is_known(store_path: Path) -> None:
    kept = Kept(store_path, {}, Content(3600, 64_000))
    runtime = kept.bench.runtime
    body = b'{"model": "m", "messages": "kingfisher-4711"}'
    live = runtime.begin(runtime.decode("openai.chat.unread", body), {}, kept.bench.identity)
    drive(live.run, live.perform, lambda _: Called(answer(CANARY), 1.0, 2.0))
    ((exchange, facts),) = kept.query("SELECT exchange, facts FROM outlines")
    assert json.loads(facts)["body"] == len(body)
    assert kept.inside(exchange).messages == ()
    kept.observer.close()


def test_a_conversation_that_its_provider_holds_has_its_piece(store_path: Path) -> None:
    kept = Kept(store_path, {})
    body = {
        "model": "gpt-5.4",
        "input": [{"role": "user", "content": "And then?"}],
        "previous_response_id": "resp_1",
    }
    runtime = kept.bench.runtime
    request = runtime.decode("openai.responses", json.dumps(body).encode())
    live = runtime.begin(request, {}, kept.bench.identity)
    drive(live.run, live.perform, lambda _: Called(answer("Then Porto."), 1.0, 2.0))
    ((exchange,),) = kept.query("SELECT exchange FROM outlines")
    seen = kept.inside(exchange)
    assert [said.role for said in seen.messages] == ["user"]
    assert seen.facts["held"] is True
    kept.observer.close()


def test_a_stream_is_written_down_once_it_is_read(store_path: Path) -> None:
    kept = Kept(store_path, {}, Content(3600, 64_000))
    kept.bench.model = lambda _body: answer("Lisbon, by the sea.")
    kept.bench.send(conversation(1), tools=TOOLS, stream=True)
    assert kept.inside().answer["parts"][0]["content"] == "Lisbon, by the sea."
    kept.observer.close()


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


# --- epochs: the same messages in another form --------------------------------------------


def texts_sent(seen: Inside) -> list[str]:
    """What was sent, as the outline has it, tool results alone."""
    found = []
    for said in seen.messages:
        if said.role == "tool" and said.sent_bytes:
            part = (said.sent or said.asked)["parts"][0]
            found.append(part.get("response") or part.get("content"))
    return found


def test_each_call_shows_the_form_that_held_when_it_was_made(store_path: Path) -> None:
    """An epoch sends old messages in a shorter form; the calls before it sent the longer one."""
    kept = Kept(store_path, {**POLICY}, Content(3600, 64_000))
    run(kept.bench, 9)
    idle(kept.bench, 400)
    sent = [*run(kept.bench, 1, 9), *run(kept.bench, 1, 10)]
    assert any(isinstance(event, EpochBegan) for event in sent[0].events)
    before, after, later = (kept.inside(f"x{number}") for number in (9, 10, 11))
    for seen, one in ((after, sent[0]), (later, sent[1])):
        assert texts_sent(seen) == [m.text for m in messages(one) if m.role == "tool"]
        assert sum(said.sent_tokens for said in seen.messages) < sum(
            said.sent_tokens for said in before.messages
        )
    changed = [
        one.place
        for one, other in zip(before.messages, after.messages, strict=False)
        if one.sent != other.sent
    ]
    assert changed
    kept.observer.close()


def test_what_an_epoch_leaves_out_or_marks_is_seen(store_path: Path) -> None:
    kept = Kept(store_path, {**window(expand=True)}, Content(3600, 64_000))
    sent = kept.bench.send(rounds(*map(page, range(12))), tools=[tool("read")])
    seen = kept.inside("x1")
    there = [m["content"] for m in sent.body["messages"] if m["role"] == "tool"]
    assert texts_sent(seen) == there
    marked = [said for said in seen.messages if said.changed]
    assert marked
    assert {by for said in marked for by in said.by} == {"window.result"}
    kept.observer.close()


def test_rounds_that_are_gone_take_no_tokens(store_path: Path) -> None:
    kept = Kept(store_path, {**window(expand=True)})
    long = rounds(*(page(n, 200) for n in range(30)))
    sent = kept.bench.send(long, tools=[tool("read")])
    seen = kept.inside("x1")
    assert len(seen.messages) == len(long)
    if not sent.bodies:
        return
    out = [said for said in seen.messages if said.sent_bytes]
    assert len(out) == len(sent.body["messages"])
    kept.observer.close()


def test_what_was_said_is_forgotten_with_its_session(tmp_path: Path) -> None:
    path, policy = tmp_path / "t.sqlite", tmp_path / "clawmw.yaml"
    policy.write_text(
        f"version: 1\nstore: {{disk: {tmp_path / 'store'}}}\n"
        f"trace: {{store: {path}, content: local, otlp: off}}\n"
    )
    runtime = Runtime.of(load_policy(policy))
    for session, said in (("one", CANARY), ("two", "heron-1234")):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": said}]}).encode()
        request = runtime.decode("openai.chat", body)
        live = runtime.begin(request, {}, Identity(session=session, chain="c"))
        drive(live.run, live.perform, lambda _: Called(answer("ok"), time.time(), time.time()))
    for observer in runtime.observers:
        observer.close()  # type: ignore[attr-defined]
    runtime.close()

    def kept() -> list[str]:
        store = SpanStore.read(path)
        found = [row[0] for row in store.query("SELECT exchange FROM outlines ORDER BY end_ns")]
        seen = [inside(store, one, time.time_ns()) for one in found]
        store.close()
        return [str(said.asked) for one in seen if one for said in one.messages]

    assert CANARY in kept()[0]
    arguments = ["purge", "--policy", str(policy), "--session", "one"]
    result = CliRunner().invoke(store_command, arguments)
    assert result.exit_code == 0, result.output
    assert "2 texts of traces" in result.output
    assert kept()[0] == "None"
    assert "heron-1234" in kept()[1]
    result = CliRunner().invoke(
        store_command, ["purge", "--policy", str(policy), "--tenant", "--yes"]
    )
    assert result.exit_code == 0, result.output
    assert kept() == ["None", "None"]
