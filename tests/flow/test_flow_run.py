"""What a flow does, with a brain in process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clawmw.core.identity import Identity
from clawmw.errors import FlowError, PolicyError
from clawmw.flow.langgraph import StepDone
from tests.flow.flow_bench import Bench, asks, last, tool


def step(id: str, prompt: str = "go", **more: Any) -> dict[str, Any]:
    return {"id": id, "agent": "a", "prompt": prompt, **more}


def test_steps_run_in_order_and_read_each_other(bench: Bench) -> None:
    bench.brain = lambda body: f"<{last(body)}>"
    outcome = bench.run(
        {
            "input": {"city": None, "days": 1},
            "steps": [
                step("plan", "{{ input.city }} {{ input.days }}"),
                step("check", "{{ steps.plan.output }}?", model="light"),
            ],
        },
        city="Paris",
    )
    assert outcome.status == "done"
    assert outcome.output == "<<Paris 1>?>"
    assert [c.model for c in bench.calls] == ["main", "light"]
    assert [c.identity.session for c in bench.calls] == ["t/plan", "t/check"]
    assert {(c.identity.agent, c.identity.chain, c.identity.kind) for c in bench.calls} == {
        ("a", "t", "flow")
    }
    assert outcome.steps["plan"] == {
        "output": "<Paris 1>",
        "status": "done",
        "calls": 1,
        "measured": 1,
        "input_tokens": 100,
        "cached_tokens": 60,
        "output_tokens": 10,
    }


def test_the_output_may_be_a_template(bench: Bench) -> None:
    flow = {"steps": [step("a", "1"), step("b", "2")], "output": "{{ steps.a.output }}!"}
    assert bench.run(flow).output == "1!"


def test_an_agent_uses_tools_until_it_answers(bench: Bench) -> None:
    seen: list[dict[str, Any]] = []

    def look(arguments: dict[str, Any]) -> Any:
        seen.append(arguments)
        return {"found": arguments["q"]}

    bench.tools = {"look": (tool("look", look),)}
    bench.brain = lambda body: (
        asks("look", {"q": "é"}) if len(body["messages"]) == 2 else f"saw {last(body)}"
    )
    agents = {"a": {"model": "main", "system": "S", "tools": ["look"], "params": {"top_p": 1}}}
    outcome = bench.run({"agents": agents, "steps": [step("s")]})
    assert outcome.output == 'saw {"found": "é"}'
    assert outcome.calls == 2
    assert seen == [{"q": "é"}]
    assert list(bench.calls[0].body) == ["model", "messages", "tools", "top_p"]
    assert bench.calls[1].body["messages"][-1]["tool_call_id"] == "c1"
    assert bench.calls[0].body["messages"] == bench.calls[1].body["messages"][:2]


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("lok", "{}", "error: no tool 'lok'; did you mean 'look'?"),
        ("look", "{oops", "error: the arguments are not JSON"),
        ("look", "[1]", "error: the arguments are not a JSON object"),
        ("look", "{}", "error: KeyError: 'q'"),
        ("other", "{}", "error: no tool 'other'"),
    ],
)
def test_what_goes_wrong_in_a_tool_is_told_to_the_model(
    bench: Bench, name: str, arguments: str, result: str
) -> None:
    bench.tools = {
        "look": (tool("look", lambda a: a["q"]),),
        "other": (tool("other", lambda _: "not this agent's"),),
    }
    bench.brain = lambda body: (
        last(body) if body["messages"][-1]["role"] == "tool" else asks(name, arguments)
    )
    agents = {"a": {"model": "main", "tools": ["look"]}}
    assert str(bench.run({"agents": agents, "steps": [step("s")]}).output).startswith(result)


def test_for_each_runs_once_an_item_with_a_history_of_its_own(bench: Bench) -> None:
    flow = {
        "input": {"cities": ["Rome", "Oslo"]},
        "steps": [step("s", "{{ index }}:{{ item }}", for_each="input.cities")],
    }
    outcome = bench.run(flow)
    assert outcome.output == ["0:Rome", "1:Oslo"]
    assert bench.sent() == ["1:Oslo"]
    assert [c.identity.session for c in bench.calls] == ["t/s.0", "t/s.1"]
    assert bench.run({**flow, "input": {"cities": []}}, thread="empty").output == []


def test_a_list_longer_than_max_stops_the_run_and_resumes_when_max_is_raised(bench: Bench) -> None:
    flow = {"steps": [step("s", "{{ item }}", for_each="[1, 2, 3]", max=2)]}
    outcome = bench.run(flow)
    assert (outcome.status, outcome.rule) == ("stopped", "flows.f.steps[0].max")
    assert not bench.calls
    flow["steps"][0]["max"] = 3
    assert bench.runner(flow).resume("t").output == ["1", "2", "3"]


def test_repeat_ends_when_it_is_good_or_at_its_bound(bench: Bench) -> None:
    bench.brain = lambda body: "x" * len(body["messages"])
    prompt = "{% if output %}better than {{ output }}{% else %}first{% endif %} {{ round }}"
    repeat = {"max": 5, "until": "size(output) >= 5 || round > 4"}
    outcome = bench.run({"steps": [step("s", prompt, repeat=repeat)]})
    assert outcome.output == "xxxxx"
    assert bench.sent() == ["first 1", "x", "better than x 2", "xxx", "better than xxx 3"]
    assert (outcome.steps["s"]["rounds"], outcome.steps["s"]["met"]) == (3, True)
    bounded = {"steps": [step("s", repeat={"max": 2, "until": "false"})]}
    outcome = bench.run(bounded, thread="bounded")
    assert (outcome.status, outcome.calls, outcome.steps["s"]["met"]) == ("done", 2, False)


def test_items_may_be_repeated_each(bench: Bench) -> None:
    bench.brain = lambda body: "again" if len(body["messages"]) < 3 else "good"
    flow = {
        "steps": [
            step("s", for_each="[1, 2]", repeat={"max": 3, "until": "output == 'good'"}),
        ]
    }
    outcome = bench.run(flow)
    assert (outcome.output, outcome.calls) == (["good", "good"], 4)


def test_when_skips_a_step(bench: Bench) -> None:
    flow = {
        "input": {"deep": False},
        "steps": [
            step("a"),
            step("b", when="input.deep"),
            step("c", "{{ steps.b.output or 'none' }}", when="steps.a.output == 'go'"),
        ],
    }
    outcome = bench.run(flow)
    assert outcome.output == "none"
    assert outcome.steps["b"]["status"] == "skipped"
    assert outcome.calls == 2


def test_a_step_may_be_a_tool(bench: Bench) -> None:
    bench.tools = {"add": (tool("add", lambda a: a["x"] + a["y"]),)}
    flow = {
        "input": {"n": 2},
        "steps": [
            {"id": "sum", "tool": "add", "args": {"x": "{{ input.n }}", "y": 40}},
            {
                "id": "all",
                "tool": "add",
                "for_each": "[1, 2]",
                "args": {"x": "{{ item }}", "y": "{{ steps.sum.output }}"},
            },
        ],
    }
    outcome = bench.run(flow)
    assert (outcome.output, outcome.calls) == ([43, 44], 0)
    bench.tools = {"add": (tool("add", lambda _: 1 / 0),)}
    with pytest.raises(FlowError, match="step 'sum': tool 'add' failed: ZeroDivisionError"):
        bench.run(flow, thread="fails")


def test_json_output_can_be_looked_into(bench: Bench) -> None:
    bench.brain = lambda body: (
        'Here:\n```json\n{"days": ["Mon", "Tue"]}\n```' if last(body) == "plan" else last(body)
    )
    flow = {
        "steps": [
            step("plan", "plan", output="json"),
            step("day", "{{ item }}", for_each="steps.plan.output.days"),
        ]
    }
    assert bench.run(flow).output == ["Mon", "Tue"]


def test_an_answer_that_is_not_the_json_asked_for_can_be_asked_for_again(bench: Bench) -> None:
    flow = {"steps": [step("plan", output="json")]}
    with pytest.raises(FlowError, match=r"step 'plan' should give JSON .* resume to ask again"):
        bench.run(flow)
    bench.brain = lambda _body: "[1]"
    assert bench.runner(flow).resume("t").output == [1]
    assert bench.calls[0] == bench.calls[1]


def test_a_shared_conversation_grows_and_keeps_its_prefix(bench: Bench) -> None:
    bench.tools = {n: (tool(n, lambda _: "r"),) for n in ("look", "book")}
    agents = {
        "a": {"model": "main", "system": "You plan.", "tools": ["look"]},
        "b": {"model": "main", "system": "You check.", "tools": ["book"]},
    }
    flow = {
        "agents": agents,
        "steps": [
            step("one", "P1", conversation="c"),
            step("two", "P2", conversation="c", agent="b"),
            step("three", "P3", conversation="c", agent="b"),
        ],
    }
    bench.run(flow)
    assert bench.sent() == [
        "You plan.", "P1", "P1", "You check.\n\nP2", "You check.\n\nP2", "P3",
    ]  # fmt: skip
    bodies = [json.dumps(c.body["messages"])[:-1] for c in bench.calls]
    assert bodies[1].startswith(bodies[0])
    assert bodies[2].startswith(bodies[1])
    assert [t["function"]["name"] for t in bench.calls[2].body["tools"]] == ["look", "book"]
    assert {c.identity.session for c in bench.calls} == {"t/c"}


@pytest.mark.parametrize("on", ["agent", "step"])
def test_a_turn_stops_at_its_call_limit_and_goes_on_when_it_is_raised(
    bench: Bench, on: str
) -> None:
    bench.tools = {"look": (tool("look", lambda _: "r"),)}
    bench.brain = lambda body: asks("look") if len(body["messages"]) < 7 else "done"

    def flow(calls: int) -> dict[str, Any]:
        agent = {"model": "main", "tools": ["look"]}
        limits: dict[str, Any] = {"limits": {"calls": calls}}
        return {
            "agents": {"a": {**agent, **(limits if on == "agent" else {"limits": {"calls": 99}})}},
            "steps": [step("s", **(limits if on == "step" else {}))],
        }

    outcome = bench.run(flow(2))
    rule = "flows.f.agents.a.limits.calls" if on == "agent" else "flows.f.steps[0].limits.calls"
    assert (outcome.status, outcome.rule, outcome.calls) == ("stopped", rule, 2)
    assert f"raise {rule} and resume" in str(outcome.reason)
    assert bench.runner(flow(2)).resume("t").status == "stopped"
    assert len(bench.calls) == 2
    outcome = bench.runner(flow(4)).resume("t")
    assert (outcome.output, outcome.calls, len(bench.calls)) == ("done", 4, 4)


def test_a_run_stops_at_its_step_limit_counted_over_resumptions(bench: Bench) -> None:
    def flow(limit: int) -> dict[str, Any]:
        return {
            "steps": [step("s", for_each="[1, 2, 3, 4]")],
            "limits": {"steps": limit},
        }

    outcome = bench.run(flow(4))
    assert (outcome.status, outcome.rule) == ("stopped", "flows.f.limits.steps")
    assert len(bench.calls) == 2
    assert bench.runner(flow(4)).resume("t").status == "stopped"
    assert len(bench.calls) == 2
    assert bench.runner(flow(8)).resume("t").status == "done"
    assert len(bench.calls) == 4


def test_a_guard_stops_the_run_and_it_can_be_resumed(bench: Bench) -> None:
    flow = {"steps": [step("s")]}
    bench.stopped = "budget.chain.usd"
    outcome = bench.run(flow)
    assert (outcome.status, outcome.rule) == ("stopped", "budget.chain.usd")
    assert outcome.reason == "the budget is used up"
    bench.stopped = None
    assert bench.runner(flow).resume("t").output == "go"
    assert bench.calls[0] == bench.calls[1]


def test_an_expression_that_fails_names_its_place_and_can_be_mended(bench: Bench) -> None:
    bench.brain = lambda _body: '{"a": 1}'
    flow = {"steps": [step("s", output="json"), step("u", "{{ steps.s.output.b }}")]}
    with pytest.raises(PolicyError, match=r"^flows\.f\.steps\[1\]\.prompt: .*no attribute 'b'"):
        bench.run(flow)
    flow["steps"][1]["prompt"] = "{{ steps.s.output.a }}"
    assert bench.runner(flow).resume("t").status == "done"
    assert len(bench.calls) == 2


def test_a_wrong_answer_is_one_line(bench: Bench) -> None:
    bench.brain = lambda _body: {"role": "assistant", "content": [{"type": "image"}]}
    with pytest.raises(FlowError, match="step 's': the answer of model 'main' is not text"):
        bench.run({"steps": [step("s")]})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"flows\.f\.input: give a value for 'city'"),
        ({"city": "X", "cty": 1}, r"flows\.f\.input: unknown input 'cty'; did you mean 'city'?"),
    ],
)
def test_inputs_are_checked(bench: Bench, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        bench.run({"input": {"city": None}, "steps": [step("s")]}, **inputs)


def test_a_finished_run_stays_finished(bench: Bench) -> None:
    flow = {"steps": [step("s", "{{ input.x }}")], "input": {"x": "1"}}
    first = bench.run(flow)
    again = bench.runner(flow).resume("t")
    assert (again.output, again.calls, len(bench.calls)) == (first.output, 1, 1)
    with pytest.raises(PolicyError, match="thread 't' exists already"):
        bench.run(flow, x="2")


def test_two_threads_do_not_mix(bench: Bench) -> None:
    flow = {"steps": [step("s", "{{ input.x }}"), step("u")], "input": {"x": None}}
    bench.run(flow, thread="one", x="1")
    bench.run(flow, thread="two", x="2")
    sessions = {c.identity.session: str(c.body["messages"]) for c in bench.calls}
    assert len(sessions) == 4
    assert "2" not in sessions["one/s"]
    assert "1" not in sessions["two/s"]
    assert bench.runner(flow).resume("one").steps["s"]["output"] == "1"


def test_a_flow_whose_steps_changed_is_not_resumed(bench: Bench) -> None:
    bench.run({"steps": [step("s")]})
    with pytest.raises(PolicyError, match=r"flows\.f: the steps changed .* \(they were s\)"):
        bench.runner({"steps": [step("s"), step("u")]}).resume("t")
    other = bench.plan({"steps": [step("s")]}, name="g")
    with pytest.raises(PolicyError, match="thread 't' is a run of flow 'f'"):
        bench.runner(other).resume("t")


class Spans:
    """An observer that writes down what opens and closes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def _span(self, line: str) -> Iterator[None]:
        self.lines.append(line)
        yield
        self.lines.append(f"/{line.split()[0]}")

    def chain(self, identity: Identity, name: str, *, flow: str | None = None) -> Any:
        return self._span(f"chain {identity.chain} {flow}")

    def agent(self, identity: Identity, name: str) -> Any:
        return self._span(f"agent {name} {identity.session}")

    def tool(self, identity: Identity, name: str, call_id: str) -> Any:
        return self._span(f"tool {name} {call_id}")


def test_an_observer_sees_chain_agents_and_tools_nested(bench: Bench) -> None:
    bench.tools = {"look": (tool("look", lambda _: "r"),)}
    bench.brain = lambda body: asks("look") if len(body["messages"]) < 2 else "done"
    spans, done = Spans(), list[StepDone]()
    flow = {
        "agents": {"a": {"model": "main", "tools": ["look"]}},
        "steps": [step("s"), step("u", conversation="s"), {"id": "v", "tool": "look"}],
    }
    bench.runner(flow, observer=spans, progress=done.append).run({}, "t")
    assert spans.lines == [
        "chain t f",
        "agent a t/s", "tool look c1", "/tool", "/agent",
        "agent a t/s", "/agent",
        "tool look v", "/tool",
        "/chain",
    ]  # fmt: skip
    assert [(d.id, d.agent, d.calls) for d in done] == [
        ("s", "a", 2),
        ("u", "a", 1),
        ("v", None, 0),
    ]


def test_a_step_that_reads_several_branches_joins_them(bench: Bench) -> None:
    joined: dict[str, list[str]] = {}

    class Joins(Spans):
        def agent(self, identity: Identity, name: str) -> Any:
            sessions = [one.session for one in identity.joined if isinstance(one, Identity)]
            joined[identity.session] = sessions
            return self._span(f"agent {name}")

    bench.brain = lambda body: "done"
    flow = {
        "steps": [
            step("each", for_each="[1, 2, 3]"),
            step("other"),
            step("one", prompt="{{ steps.other.output }}"),
            step("merge", prompt="{{ steps.each.output }} {{ steps.other.output }}"),
        ],
    }
    bench.runner(flow, observer=Joins()).run({}, "t")
    assert joined["t/one"] == []  # one result handed on is no join
    assert joined["t/merge"] == ["t/each.0", "t/each.1", "t/each.2", "t/other"]
    assert not joined["t/each.0"]


def test_spans_are_opened_again_by_a_resumption(bench: Bench) -> None:
    flow = {"steps": [step("s")]}
    bench.stopped = "budget"
    bench.run(flow)
    bench.stopped = None
    spans = Spans()
    bench.runner(flow, observer=spans).resume("t")
    assert spans.lines == ["chain t f", "agent a t/s", "/agent", "/chain"]
