"""Loops that must be seen, and work that must be left alone: the reference's cases L1 to L21."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

import clawmw
from clawmw.core.events import Acted, CallFinished
from clawmw.core.identity import Identity
from clawmw.core.types import Response, Usage
from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime
from clawmw.stages.guard.loop import chant
from clawmw.stages.guard.loop.normal import failure, ours, plain, signature
from clawmw.testing import Bench, Clock, Sent, answer
from tests.conftest import tool, turn

TOOLS = [tool("read"), tool("edit"), tool("test"), tool("poll")]
ASK = {"role": "user", "content": "mend the build"}


def bench(**guard: Any) -> Bench:
    off = dict.fromkeys(("compress", "dedupe", "expand", "prompt_cache"), False)
    return Bench({"version": 1, **off, "loop_guard": guard}, clock=Clock(step=0.5))


def acted(sent: Sent) -> list[Acted]:
    return [e for e in sent.events if isinstance(e, Acted) and e.stage == "loop_guard"]


def rules(sent: Sent) -> list[str]:
    return [e.rule.partition(".")[2] for e in acted(sent)]


def detectors(sent: list[Sent]) -> set[Any]:
    return {e.detail["detector"] for one in sent for e in acted(one)}


def rounds(*steps: tuple[str, dict[str, Any], str], start: int = 0) -> list[Any]:
    return [m for i, s in enumerate(steps) for m in turn(f"c{start + i}", *s)]


def walk(case: Bench, steps: list[tuple[str, dict[str, Any], str]]) -> list[Sent]:
    messages: list[Any] = [ASK]
    sent = []
    for index, step in enumerate(steps):
        messages = [*messages, *turn(f"c{index}", *step)]
        sent.append(case.send(messages, tools=TOOLS))
    return sent


def handed(case: Bench, size: int, turns: int, *, pace: float = 1.0, say: Any = None) -> list[Sent]:
    """Agents that hand on in a ring, `pace` seconds a turn."""
    histories: list[list[Any]] = [
        [{"role": "system", "content": f"you are {i}"}] for i in range(size)
    ]
    sent = []
    for number in range(turns):
        who = number % size
        words = say(number) if say else "thanks, all done"
        histories[who] = [*histories[who], {"role": "user", "content": words}]
        case.identity = Identity(session=f"s{who}", agent=f"a{who}", chain="ring")
        before = case.clock.now  # type: ignore[attr-defined]
        sent.append(case.send(histories[who], tools=TOOLS))
        case.clock.now = before + pace  # type: ignore[attr-defined]
        histories[who] = [*histories[who], {"role": "assistant", "content": words}]
    return sent


# --- agents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("say", [None, lambda n: f"and what of number {n}?"], ids=["same", "new"])
def test_l1_two_agents_echoing_at_machine_speed_are_stopped_within_ten_turns(say: Any) -> None:
    """L1."""
    sent = handed(bench(), 2, 14, say=say)
    assert not any(one.bodies for one in sent[9:])
    assert "ring" in detectors(sent)
    assert sent[9].result.halt is not None


@pytest.mark.parametrize("size", [3, 9])
def test_a_ring_of_any_size_is_stopped(size: int) -> None:
    """L1, in a ring: no pair of agents need meet twice in a row."""
    sent = handed(bench(), size, size + 8)
    assert rules(sent[-1]) == ["refuse"]
    assert [r for one in sent[: size + 3] for r in rules(one)] == []


def test_agents_that_find_something_between_are_no_ring() -> None:
    case = bench()
    histories: dict[str, list[Any]] = {"lead": [], "helper": []}
    for number in range(40):
        who = ("lead", "helper")[number % 2]
        case.identity = Identity(session=who, agent=who, chain="crew")
        mine = [*histories[who], {"role": "user", "content": f"look into part {number}"}]
        assert rules(case.send(mine, tools=TOOLS)) == []
        mine += turn(f"c{number}", "read", {"part": number}, f"finding {number}")
        assert rules(case.send(mine, tools=TOOLS)) == []
        histories[who] = [*mine, {"role": "assistant", "content": f"part {number} is fine"}]


def test_workers_that_only_begin_are_no_ring() -> None:
    case = bench()
    for number in range(60):
        case.identity = Identity(session=f"w{number}", agent=f"a{number % 2}", chain="fan")
        assert rules(case.send([{"role": "user", "content": "do it"}], tools=TOOLS)) == []


def test_a_task_handed_down_too_far_is_stopped_and_says_so() -> None:
    case = bench(hops=3)
    case.identity = Identity(session="deep", chain="c", hop=3)
    assert case.send([ASK], tools=TOOLS).result.halt is None
    case.identity = Identity(session="deeper", chain="c", hop=4)
    halt = case.send([ASK], tools=TOOLS).result.halt
    assert halt is not None
    assert "handed on 4 times" in str(halt)


def test_an_echo_without_a_chain_is_seen_in_each_conversation() -> None:
    case = bench()
    case.clock.step = 0.2  # type: ignore[attr-defined]
    case.identity = Identity(session="a")
    messages: list[Any] = []
    said: list[list[str]] = []
    for _ in range(6):
        messages = [*messages, {"role": "user", "content": "Thank you!"}]
        said.append(rules(case.send(messages, tools=TOOLS)))
        messages = [*messages, {"role": "assistant", "content": "You are welcome."}]
    assert "refuse" in said[5]


def test_a_person_who_says_go_on_is_no_echo() -> None:
    case = bench()
    messages: list[Any] = []
    for number in range(40):
        messages = [*messages, {"role": "user", "content": "go on"}]
        case.clock.now += 20  # type: ignore[attr-defined]
        assert rules(case.send(messages, tools=TOOLS)) == []
        messages = [*messages, {"role": "assistant", "content": f"chapter {number}"}]


# --- calls -------------------------------------------------------------------------------------


def test_l3_the_trace_names_step_detector_and_count() -> None:
    """L3: a note at 4, refused at 8; the trace says of what and how often."""
    sent = walk(bench(), [("read", {"path": "a"}, "same")] * 8)
    [nudge], [refuse] = acted(sent[3]), acted(sent[7])
    assert (nudge.rule, nudge.detail["detector"], nudge.detail["count"]) == (
        "loop_guard.nudge",
        "repeat",
        4,
    )
    assert (refuse.rule, refuse.detail["count"]) == ("loop_guard.refuse", 8)
    assert not sent[7].bodies


@pytest.mark.parametrize("period", range(2, 9))
def test_l6_a_cycle_is_seen_whatever_its_period(period: int) -> None:
    """L6."""
    steps = [("read", {"path": f"f{i % period}"}, f"text {i % period}") for i in range(period * 9)]
    sent = walk(bench(), steps)
    first = next(i for i, one in enumerate(sent) if rules(one))
    assert first < period * 4
    assert detectors(sent) == {"cycle"}
    assert "refuse" in [r for one in sent for r in rules(one)]
    assert sum("nudge" in rules(one) for one in sent) == 1


def test_l8_paging_with_new_results_never_fires() -> None:
    """L8."""
    steps = [("read", {"page": i}, f"page {i}: " + "text " * 200 + str(i)) for i in range(60)]
    assert not detectors(walk(bench(), steps))


def test_l9_edits_and_tests_with_changing_errors_never_fire_and_the_same_ones_do() -> None:
    """L9."""
    moving = []
    for i in range(20):
        moving.append(("edit", {"line": i, "text": f"x{i}"}, "edited"))
        moving.append(("test", {}, f"AssertionError in test_{i}: {i} != {i + 1}"))
    assert not detectors(walk(bench(), moving))
    stuck = [("edit", {"text": "x"}, "edited"), ("test", {}, "AssertionError in test_a")] * 5
    assert detectors(walk(bench(), stuck))


def test_l10_a_batch_over_fifty_files_never_fires() -> None:
    """L10."""
    steps = [("edit", {"path": f"f{i}.py", "text": "new"}, "ok") for i in range(50)]
    assert not detectors(walk(bench(), steps))


def test_l11_a_poll_that_moves_never_fires_and_a_frozen_one_does() -> None:
    """L11: a percentage is progress; the time of day, an id and a duration are none."""
    line = "[2026-11-26 10:{0:02}:{0:02}.5] run_id={0:016x} took {0}.25s, {1}% done"
    moving = [("poll", {}, line.format(i, i)) for i in range(40)]
    assert not detectors(walk(bench(), moving))
    frozen = [("poll", {}, line.format(i, 40)) for i in range(9)]
    assert detectors(walk(bench(), frozen)) == {"repeat"}


def test_l13_a_loop_across_parallel_calls_and_texts_between_is_one() -> None:
    """L13."""
    case = bench()
    messages: list[Any] = [ASK]
    said = []
    for number in range(8):
        one = turn(f"a{number}", "read", {"p": 1}, "one")
        other = turn(f"b{number}", "read", {"p": 2}, "two")
        calls = [one[0]["tool_calls"][0], other[0]["tool_calls"][0]]
        if number % 3 == 0:
            both = {"role": "assistant", "content": "once more", "tool_calls": calls[::-1]}
            messages = [*messages, both, one[1], other[1]]
        else:
            messages = [*messages, *one, {"role": "assistant", "content": "hm"}, *other]
        said += rules(case.send(messages, tools=TOOLS))
    assert said[0] == "nudge"
    assert "refuse" in said


@pytest.mark.parametrize("named", [True, False], ids=["named chain", "derived chain"])
def test_l14_a_loop_goes_on_after_compaction(named: bool) -> None:
    """L14: within three repeats, also where the chain's name is derived from the messages."""
    case = bench()
    case.identity = Identity(session="s1", chain="c1" if named else "")
    walk(case, [("read", {"path": "a"}, "same")] * 5)
    messages: list[Any] = [{"role": "user", "content": "summary: the file was read"}]
    said = []
    for index in range(3):
        messages = [*messages, *turn(f"n{index}", "read", {"path": "a"}, "same")]
        said += rules(case.send(messages, tools=TOOLS))
    assert "refuse" in said


def test_l15_a_loop_goes_on_in_another_process() -> None:
    """L15: with its evidence, and without it from the history alone."""
    case = bench()
    messages = [ASK, *rounds(*[("read", {"path": "a"}, "same")] * 5)]
    case.send(messages, tools=TOOLS)
    more = [*messages, *rounds(*[("read", {"path": "a"}, "same")] * 3, start=5)]
    assert rules(case.restart().send(more, tools=TOOLS)) == ["refuse"]
    assert rules(bench().send(more, tools=TOOLS)) == ["refuse"]


def test_l17_a_tool_that_does_not_exist_is_told_at_three() -> None:
    """L17."""
    steps = [("browse", {"url": f"u{i}"}, "Error: tool 'browse' not found") for i in range(6)]
    sent = walk(bench(), steps)
    assert [rules(one) for one in sent[:3]] == [[], [], ["nudge"]]
    assert rules(sent[5]) == ["refuse"]
    assert detectors(sent) == {"tool"}
    assert "tools you were given" in sent[2].body["messages"][-1]["content"]


def test_l18_another_model_goes_on_with_the_same_count() -> None:
    """L18."""
    case = bench()
    messages: list[Any] = [ASK]
    said = []
    for index in range(8):
        messages = [*messages, *turn(f"c{index}", "read", {}, "same")]
        said.append(rules(case.send(messages, tools=TOOLS, model=f"model-{index % 3}")))
    assert (said[3], said[7]) == (["nudge"], ["refuse"])


def test_l19_two_chains_of_one_agent_do_not_mix() -> None:
    """L19: even under one session's name."""
    case = bench()
    histories: list[list[Any]] = [[ASK], [ASK]]
    for index in range(12):
        which = index % 2
        case.identity = Identity(session="s", agent="a", chain=f"c{which}")
        result = f"result of {index // 6} for {which}"
        histories[which] += turn(f"c{index}", "read", {"path": "a"}, result)
        assert rules(case.send(histories[which], tools=TOOLS)) == []


def test_l21_a_note_to_the_model_moves_no_prefix() -> None:
    """L21."""
    sent = walk(bench(), [("read", {"path": "a"}, "same")] * 7)
    assert "nudge" in [r for one in sent for r in rules(one)]
    for earlier, later in itertools.pairwise(sent):
        before = earlier.body["messages"]
        assert later.body["messages"][: len(before)] == before


def test_failures_of_one_kind_are_told_and_something_new_in_between_is_progress() -> None:
    missing = [("read", {"path": f"f{i}"}, f"cat: f{i}: No such file") for i in range(6)]
    sent = walk(bench(), missing)
    assert detectors(sent) == {"stuck"}
    found = [s for i, m in enumerate(missing) for s in (m, ("read", {"n": i}, f"text {i}"))]
    assert not detectors(walk(bench(), found))


def test_one_long_result_of_many_calls_is_told() -> None:
    page = "\n".join(f"line {i} says nothing" for i in range(60))
    steps = [("read", {"try": i}, page) for i in range(9)]
    assert detectors(walk(bench(), steps)) == {"stuck"}


def test_long_work_without_an_answer_is_said_in_the_trace_alone() -> None:
    steps = [("read", {"n": i}, f"text {i}") for i in range(27)]
    sent = walk(bench(monologue=20), steps)
    said = [e for one in sent for e in acted(one)]
    assert [(e.detail["detector"], e.would) for e in said] == [("monologue", True)]
    told = walk(bench(monologue=20, at_most={"monologue": "nudge"}), steps)
    assert [r for one in told for r in rules(one)] == ["nudge"]


def test_its_own_words_are_neither_progress_nor_evidence() -> None:
    case = bench()
    refusal = "clawmw stopped this call: the same tool call gave the same result 8 times; ..."
    steps = [("read", {"path": "a"}, "same")] * 3
    mixed = [s for i, s in enumerate(steps) for s in (s, ("edit", {"i": i}, refusal))]
    sent = walk(case, [*mixed, steps[0]])
    assert [rules(one) for one in sent] == [[]] * 6 + [["nudge"]]
    assert ours(refusal)
    assert ours("[clawmw] So far ...")
    assert not ours("we use clawmw here")


def test_the_wait_grows_and_only_where_it_acts() -> None:
    case = bench()
    steps = [("read", {"path": "a"}, "same")] * 7
    plain_run = walk(bench(at_most={"repeat": "nudge"}), steps)
    slept = []
    case.clock.sleep = slept.append  # type: ignore[attr-defined,method-assign]
    case.runtime.traffic = type(case.runtime.traffic)(case.clock.read, slept.append)  # type: ignore[attr-defined]
    sent = walk(case, steps)
    assert slept == [2.0, 4.0]
    assert [rules(one) for one in sent[5:]] == [["slow"], ["slow"]]
    assert [rules(one) for one in plain_run[4:]] == [[], [], []]


@pytest.mark.parametrize("limit", ["off", "observe"])
def test_a_detector_can_be_held_back(limit: str) -> None:
    sent = walk(bench(at_most={"repeat": limit}), [("read", {}, "same")] * 18)
    assert all(one.bodies for one in sent)
    assert all(e.would for one in sent for e in acted(one))
    assert bool(detectors(sent)) == (limit == "observe")


def test_a_thousand_callers_on_one_chain_lose_no_evidence() -> None:
    """Each in a conversation of its own, all at once: every loop is told, none is mixed up."""
    case = bench(slow=8)

    def loop(number: int) -> list[list[str]]:
        mine = Bench(
            case.policy, clock=case.clock, identity=Identity(session=f"s{number}", chain="c")
        )
        mine.runtime.stores = case.runtime.stores
        history = [ASK, *rounds(*[("read", {"n": number}, "same")] * 3)]
        mine.send(history, tools=TOOLS)
        said = [rules(mine.send([*history, *rounds(("read", {"n": number}, "same"), start=3)]))]
        fresh = [*history, *rounds(("read", {"n": number}, f"new {number}"), start=3)]
        other = replace(mine.identity, session=f"t{number}")
        mine.identity = other
        said.append(rules(mine.send(fresh)))
        return said

    with ThreadPoolExecutor(16) as pool:
        for said in pool.map(loop, range(100)):
            assert said == [["nudge"], []]


def test_one_conversation_seen_by_many_at_once_is_stopped_all_the_same() -> None:
    """A thousand calls of one session, each with one round more than some other."""
    case = bench(slow=8)
    history = [ASK, *rounds(*[("read", {}, "same")] * 20)]
    with ThreadPoolExecutor(16) as pool:
        calls = [history[: 1 + 2 * (1 + i % 20)] for i in range(300)]
        sent = list(pool.map(lambda h: case.send(h, tools=TOOLS), calls))
    assert case.send(history, tools=TOOLS).result.halt is not None
    assert any(one.result.halt for one in sent)


# --- answers -----------------------------------------------------------------------------------

CHANT = "I will check the file now and then I will tell you what I found in it. "


def streamed(case: Bench, text: str) -> Sent:
    case.model = lambda _: replace(answer(text), usage=Usage(10, 5_000))
    return case.send([ASK], tools=TOOLS, stream=True)


def in_pieces(text: str, size: int = 5) -> int | None:
    """After how many characters a stream of such pieces is cut."""
    state: dict[str, Any] = {}
    for at in range(0, len(text), size):
        if chant.fed(text[at : at + size], state):
            return at + size
    return None


def test_l16_a_chanting_stream_is_cut_within_a_kilobyte_and_billed_as_far_as_it_came() -> None:
    """L16."""
    opening = "Let me see. " * 3
    text = opening + CHANT * 400
    assert 0 < (in_pieces(text) or 0) - len(opening) - len(CHANT) * chant.HITS <= 1024
    case = bench()
    sent = streamed(case, text)
    outcome = sent.result.outcome
    assert isinstance(outcome, Response)
    assert b"was cut here" in sent.stream
    assert sent.stream.count(b"[DONE]") == 1
    assert rules(sent) == ["cut"]
    usage = sent.result.finished.usage
    assert usage is not None
    assert (usage.output_tokens or 0) > 100


def test_l16_the_upstream_is_not_read_to_its_end() -> None:
    """L16, over HTTP: who reads sees one whole message, and the connection is closed."""
    given: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        for _ in range(2000):
            delta = {"choices": [{"index": 0, "delta": {"content": CHANT}, "finish_reason": None}]}
            given.append(f"data: {json.dumps(delta)}\n\n".encode())
            yield given[-1]

    def provider(request: httpx.Request) -> httpx.Response:
        kind = {"content-type": "text/event-stream"}
        return httpx.Response(200, content=chunks(), headers=kind)

    events: list[Any] = []
    policy = load_policy({"version": 1, "trace": "off"})
    runtime = Runtime.of(policy, observers=[events.append])
    with clawmw.http_client(runtime, transport=httpx.MockTransport(provider)) as client:
        body = {"model": "m", "messages": [ASK], "stream": True}
        text = client.post("http://x/v1/chat/completions", json=body).text
    assert len(given) < 40
    assert "was cut here" in text
    assert text.endswith("data: [DONE]\n\n")
    assert '"finish_reason": "stop"' in text or '"finish_reason":"stop"' in text
    [finished] = [e for e in events if isinstance(e, CallFinished)]
    assert (finished.status, finished.usage.basis) == ("ok", "estimated")
    assert finished.usage.output_tokens > 100


def test_l16_a_finished_answer_is_cut_at_the_same_place() -> None:
    """L16, not streamed."""
    case = bench()
    case.model = lambda _: answer(CHANT * 400)
    sent = case.send([ASK])
    assert isinstance(sent.result.outcome, Response)
    text = sent.result.outcome.message.text
    assert len(text) < len(CHANT) * chant.HITS + 1200
    assert text.endswith("[clawmw] This answer repeated itself and was cut here.")


ROWS = "| 2026-11-26 | nothing to report from this station | 0 | 0 |\n"
CODE = "    assert client.get('/items').status_code == 200, 'items'\n"
ITEM = "- the requirement that the operator has to be informed in writing\n"


@pytest.mark.parametrize(
    "text",
    [
        "Here is the table:\n" + ROWS * 60,
        "Run this:\n```python\n" + CODE * 60 + "```\n",
        "".join(f"{i}. the operator has to be told about item {i}\n" for i in range(80)),
        ITEM * 40,
        "> quoted line that comes again and again in this thread\n" * 40,
        "Part\n" + ("=" * 78 + "\n" + "─" * 78 + "\n") * 30,
        json.dumps([{"status": "open", "note": None, "owner": "nobody at all"}] * 60),
        " ".join(f"In year {i} the town had {i * 7} people and a mayor." for i in range(90)),
    ],
    ids=["table", "code", "list", "items", "quote", "dividers", "json", "prose"],
)
def test_l16_tables_code_and_lists_are_no_chant(text: str) -> None:
    """L16, what must not fire."""
    assert in_pieces(text) is None
    case = bench()
    case.model = lambda _: answer(text)
    sent = case.send([ASK])
    assert isinstance(sent.result.outcome, Response)
    assert sent.result.outcome.message.text == text


# --- what is the same --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("done at 10:44:52", "done at 11:02:07", True),
        ("2026-11-26T10:44:52.123Z ok", "2026-11-26T10:44:53.456Z ok", True),
        ("took 3.25s", "took 14.5s", True),
        ("elapsed: 5", "elapsed: 9", True),
        ('{"duration_ms": 12, "n": 3}', '{"duration_ms": 99, "n": 3}', True),
        ("pid 4711 waits", "pid 815 waits", True),
        ("sshd[42]: ready", "sshd[43]: ready", True),
        ("/tmp/tmpab12cd34/out.txt", "/tmp/tmpzz99yy88/out.txt", True),
        ("\x1b[31mred\x1b[0m", "red", True),
        ("cafe\u0301", "caf\u00e9", True),
        (
            "id 550e8400-e29b-41d4-a716-446655440000",
            "id a50e8400-e29b-41d4-a716-44665544aaaa",
            True,
        ),
        ("request_id=abc123, x", "request_id=def456, x", True),
        ("object at 0x7f3a2b1c", "object at 0x7f3affff", True),
        ("40% done", "41% done", False),
        ("12 of 50", "13 of 50", False),
        ("/tmp/work/a.py", "/tmp/work/b.py", False),
        ("lines 10-20", "lines 20-30", False),
        ("due 2026-11-26", "due 2026-11-27", False),
        ("price 12.50", "price 13.50", False),
    ],
)
def test_what_varies_is_left_out_and_what_moves_is_kept(one: str, other: str, same: bool) -> None:
    assert (plain(one) == plain(other)) is same


def test_ids_and_times_that_are_asked_for_tell_calls_apart() -> None:
    from clawmw.core.types import ToolCall

    def call(**arguments: Any) -> str:
        return signature(ToolCall("1", "get", json.dumps(arguments)))

    assert call(message_id="a1") != call(message_id="a2")
    assert call(start="2026-11-26T10:00:00") != call(start="2026-11-26T11:00:00")
    assert call(q="x", request_id="r1") == call(request_id="r2", q="x")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", ""),
        ("ok", ""),
        ("[]", "n"),
        ("No results found for 'x'", "n"),
        ("Error: unknown tool 'x'", "u"),
        ("cat: a: No such file or directory", "x"),
        ("a long page\n" + "about many things\n" * 60 + "error", ""),
    ],
)
def test_failures_are_told_by_what_they_say(text: str, kind: str) -> None:
    assert failure(text)[:1] == kind


def test_a_window_that_cannot_see_what_is_asked_for_is_refused() -> None:
    with pytest.raises(PolicyError, match="window must be at least 125"):
        load_policy({"version": 1, "loop_guard": {"window": 64}})
