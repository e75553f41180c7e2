"""The ladder: each rung reached in order and labelled, and left again; what keeps a call off it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawmw.core.events import Acted, EpochBegan
from clawmw.core.identity import Identity, Wishes
from clawmw.core.types import Outcome, Usage
from clawmw.errors import PolicyError
from clawmw.testing import Bench, Clock, Sent, answer, failing

MODELS = {"light": "deepseek/deepseek-v4-flash", "twin": "gpt-4o-mini", "local": {"model": "qwen3"}}
LADDER = ["compress", "light", "reuse", "refuse"]
ASK = [{"role": "user", "content": "hello"}]
MAIN = "gpt-4o"
OFF = {"retry": False, "breaker": False}


def bench(*outcomes: Outcome, who: Identity | None = None, **policy: Any) -> Bench:
    rest = iter(outcomes)
    given = {"version": 1, "models": MODELS, "degrade": LADDER, "loop_guard": False, **policy}
    identity = who or Identity(session="s1", chain="c1")
    return Bench(given, lambda _body: next(rest, answer()), identity=identity)


def rung(sent: Sent) -> str | None:
    return sent.result.labels.get("x-clawmw-degraded")


def spend(case: Bench, calls: int, **asked: Any) -> list[str | None]:
    """The rung of each of so many calls."""
    found: list[str | None] = []
    for _ in range(calls):
        sent = case.send(ASK, model=MAIN, **asked)
        found.append(str(sent.result.halt.because) if sent.result.halt else rung(sent))
    return found


def test_a_budget_that_is_used_up_leads_down_in_order() -> None:
    """S11: nothing, compress, light, reuse, and then a clear refusal; each in the trace, too."""
    case = bench(budget={"chain": {"calls": 30}})
    rungs = spend(case, 31)
    assert rungs == [None] * 24 + ["compress"] * 2 + ["light"] * 2 + ["reuse"] * 2 + [
        "degrade.refuse"
    ]
    told = [e.rule for e in case.events if isinstance(e, Acted) and e.stage == "degrade"]
    assert told[0] == "degrade.compress"
    assert list(dict.fromkeys(told)) == [f"degrade.{name}" for name in LADDER]


def test_a_refusal_says_what_is_used_up_and_makes_no_request() -> None:
    case = bench(budget={"chain": {"calls": 4}}, degrade=["refuse"])
    spend(case, 4)
    refused = case.send(ASK, model=MAIN)
    halt = refused.result.halt
    assert halt is not None
    assert refused.bodies == ()
    assert halt.kind == "limit"
    assert "100% of the tightest budget" in str(halt)
    assert "Raise the limit" in str(halt)


def test_the_light_rung_asks_the_light_model() -> None:
    case = bench(budget={"chain": {"calls": 10}}, degrade=["light"])
    spend(case, 8)
    sent = case.send(ASK, model=MAIN)
    assert sent.body["model"] == MODELS["light"]
    assert rung(sent) == "light"
    assert sent.result.finished.model == MODELS["light"]


def test_it_comes_back_up_with_hysteresis() -> None:
    """S11: a rung is left when the pressure is 0.1 below where it began, not at once."""
    case = bench(degrade=["light"])
    stage = next(s for s in case.runtime.pipeline.stages if s.traits.name == "degrade")
    level = stage._level  # type: ignore[attr-defined]
    assert [level(p, 0) for p in (0.79, 0.8)] == [0, 1]
    assert [level(p, 1) for p in (0.79, 0.71, 0.69)] == [1, 1, 0]


def test_a_new_chain_begins_at_the_top() -> None:
    case = bench(budget={"chain": {"calls": 10}})
    assert spend(case, 9)[-1] is not None
    case.identity = Identity(session="s1", chain="c2")
    assert spend(case, 1) == [None]


def test_an_upstream_that_failed_is_left_for_the_next_rung() -> None:
    """S11: by failures, too: compress leads nowhere else, light does."""
    case = bench(failing(503), answer("from light"), **OFF)
    sent = case.send(ASK, model=MAIN)
    assert [b["model"] for b in _bodies(sent)] == [MAIN, MODELS["light"]]
    assert rung(sent) == "light"


def test_retries_come_first() -> None:
    quick = {"base": "1ms", "longest": "2ms"}
    case = bench(*[failing(503)] * 3, retry=quick, breaker=False)
    sent = case.send(ASK, model=MAIN)
    assert [b["model"] for b in _bodies(sent)] == [MAIN] * 3 + [MODELS["light"]]


def test_when_every_rung_failed_it_is_refused_in_one_clear_line() -> None:
    case = bench(*[failing(503)] * 5, degrade=["light", "refuse"], **OFF)
    halt = case.send(ASK, model=MAIN).result.halt
    assert halt is not None
    assert (str(halt.because), halt.kind) == ("degrade.refuse", "busy")
    assert "failed" in str(halt)
    assert "Ask again later" in str(halt)


def test_an_open_breaker_is_gone_around_at_once() -> None:
    case = bench(*[failing(500)] * 5, degrade=["light"], retry=False)
    for _ in range(5):
        case.send(ASK, model=MAIN)
    now = case.send(ASK, model=MAIN)
    assert [b["model"] for b in _bodies(now)] == [MODELS["light"]]
    assert rung(now) == "light"


def test_an_old_answer_of_the_same_tenant_is_given_and_marked_as_stale() -> None:
    """S11, S12: an hour old, where `reuse` alone would give none after ten minutes."""
    who = Identity(session="s1", chain="c1", kind="heartbeat")
    reuse = {"kinds": ["heartbeat"], "ttl": "10m"}
    case = bench(answer("quiet"), failing(503), who=who, reuse=reuse, degrade=["reuse"], **OFF)
    case.send(ASK, model=MAIN)
    assert isinstance(case.clock, Clock)
    case.clock.now += 3600
    sent = case.send(ASK, model=MAIN)
    assert getattr(sent.result.outcome, "message", None) == answer("quiet").message
    assert rung(sent) == "reuse"
    assert sent.result.labels["x-clawmw-reused"].endswith("; stale")


def test_no_old_answer_is_no_more_requests() -> None:
    case = bench(failing(503), degrade=["reuse"], **OFF)
    sent = case.send(ASK, model=MAIN)
    assert len(sent.bodies) == 1
    assert str(getattr(sent.result.halt, "because", "")) == "reuse.none"


def test_a_caller_can_keep_a_call_off_the_ladder() -> None:
    """`x-clawmw-no-degrade`: the model asked for, or none."""
    pinned = Identity(session="s1", chain="c1", wishes=Wishes(pinned=True))
    case = bench(budget={"chain": {"calls": 10}}, who=pinned, degrade=["light"])
    assert spend(case, 10) == [None] * 10
    case = bench(failing(503), who=pinned, degrade=["light"], **OFF)
    assert len(case.send(ASK, model=MAIN).bodies) == 1


@pytest.mark.parametrize(
    ("ladder", "asked"), [(["light"], [MAIN]), (["twin"], [MAIN, "gpt-4o-mini"])]
)
def test_no_other_family_between_a_tool_call_and_its_result(
    ladder: list[str], asked: list[str]
) -> None:
    case = bench(failing(503), degrade=ladder, **OFF)
    sent = case.send(_between(), model=MAIN)
    assert [b["model"] for b in _bodies(sent)] == asked


def test_the_light_model_that_asked_for_a_tool_reads_its_result() -> None:
    """It took over for one call; the result of the tool it asked for goes to it, too."""
    case = bench(failing(503), degrade=["light"], **OFF)
    case.send(ASK, model=MAIN)
    after = case.send(_between(), model=MAIN)
    assert [b["model"] for b in _bodies(after)] == [MODELS["light"]]


def test_compress_sends_old_results_in_shorter_forms() -> None:
    fake = {"model": "fake", "profile": "claude-sonnet-4-5"}
    case = bench(
        models=MODELS | {"fake": fake},
        budget={"chain": {"calls": 25}},
        degrade=["compress"],
        compress="balanced",
        epochs=False,
        window=False,
        dedupe=False,
    )
    case.model = lambda _body: answer(usage=Usage(10, 10))
    tools = [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]
    history: list[Any] = [{"role": "user", "content": "read them all"}]
    labels = []
    for number in range(24):
        call = {"name": "read", "arguments": f'{{"path": "f{number % 3}"}}'}
        history += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"c{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": _file(number)},
        ]
        labels.append(rung(case.send(history, tools=tools, model="fake")))
    assert labels[:20] == [None] * 20
    assert set(labels[21:]) == {"compress"}
    began = [e for e in case.events if isinstance(e, EpochBegan)]
    assert [e.reason for e in began][:1] == ["budget"]
    assert began[0].after < 0.9 * began[0].before


def test_a_rung_that_is_none_is_named() -> None:
    with pytest.raises(PolicyError, match=r"degrade\[1\].*no rung 'ligth'"):
        bench(degrade=["compress", "ligth"])


def _file(number: int) -> str:
    """A file that nothing is folded out of: every line says something else."""
    return "\n".join(f"def step_{number}_{i}(x): return x * {i * 7919 % 911}" for i in range(80))


def _between() -> list[Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "result"},
    ]


def _bodies(sent: Sent) -> list[Any]:
    return [json.loads(body) for body in sent.bodies]
