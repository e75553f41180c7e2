from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clawmw.errors import PolicyError
from clawmw.flow.models import Flow
from clawmw.flow.plan import Plan, make_plan
from clawmw.flow.tools import load_tools

AGENT = {"model": "main"}


def plan(*steps: Mapping[str, Any], base: Path | None = None, **flow: Any) -> Plan:
    raw = {"agents": {"planner": AGENT}, "steps": steps, **flow}
    model = Flow.model_validate(raw)
    tools = load_tools(model.tools, "flows.f.tools", base)
    return make_plan("f", model, models=("main", "light"), tools=tools, base=base)


def step(id: str, prompt: str = "go", **more: Any) -> dict[str, Any]:
    return {"id": id, "agent": "planner", "prompt": prompt, **more}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("a", agent="plannr")], "steps[0].agent: unknown agent 'plannr'; did you mean 'pl"),
        ([step("a", model="lite")], "steps[0].model: unknown model 'lite'; did you mean 'light'?"),
        (
            [step("plan"), step("b", "{{ steps.plam.output }}")],
            "steps[1].prompt: unknown step 'plam'; did you mean 'plan'?",
        ),
        (
            [step("a", when="steps.b.output == ''"), step("b")],
            "steps[0].when: reads step 'b', which runs later; put 'b' before 'a'",
        ),
        (
            [step("a", "{{ steps.b.output }}"), step("b", "{{ steps.a.output }}")],
            "steps: a cycle: a reads b reads a",
        ),
        (
            [step("a", "{{ steps.a.output }}")],
            "steps: a cycle: a reads a (a step's own output is `output`, with `repeat`)",
        ),
        ([step("a"), step("a")], "steps[1].id: 'a' is the id of steps[0] already"),
        ([step("a", "{{ item }}")], "steps[0].prompt: unknown name 'item'"),
        ([{"id": "a", "tool": "calc"}], "steps[0].tool: unknown tool 'calc'; there are none"),
    ],
)
def test_a_wrong_reference_names_its_place(steps: list[Any], message: str) -> None:
    with pytest.raises(PolicyError) as e:
        plan(*steps)
    assert f"flows.f.{message}" in str(e.value)
    assert e.value.where.startswith("flows.f.steps")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (step("a", tool="t"), "either an `agent` or a `tool`"),
        ({"id": "a", "agent": "planner"}, "needs a `prompt`"),
        ({"id": "a", "tool": "t", "prompt": "x"}, "`prompt` goes with an `agent`"),
        (step("a", args={"x": 1}), "`args` goes with a `tool`"),
        (step("a", max=3), "`max` goes with `for_each`"),
        (step("a", repeat={"max": 0, "until": "true"}), "greater than or equal to 1"),
        (step("a", repeat={"until": "true"}), "Field required"),
        (step("a-b"), "letters, digits and _"),
        (step("a", promt="x"), "Extra inputs are not permitted"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(wrong: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as e:
        plan(wrong)
    assert message in str(e.value)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ({"model": "main", "system": "a", "system_file": "b"}, "not both"),
        ({"model": "main", "params": {"stream": True}}, "may not set `stream`"),
    ],
)
def test_an_agent_that_makes_no_sense_is_refused(agent: Any, message: str) -> None:
    with pytest.raises(ValidationError) as e:
        plan(step("a"), agents={"planner": agent})
    assert message in str(e.value)


def test_the_system_prompt_may_be_a_file_beside_the_policy(tmp_path: Path) -> None:
    agents = {"planner": {"model": "main", "system_file": "planner.md"}}
    with pytest.raises(PolicyError, match=r"^flows\.f\.agents\.planner\.system_file: cannot read"):
        plan(step("a"), agents=agents, base=tmp_path)
    (tmp_path / "planner.md").write_text("You plan.\n")
    made = plan(step("a"), agents=agents, base=tmp_path)
    assert made.steps[0].agent is not None
    assert made.steps[0].agent.system == "You plan."


MODULE = '''
TOOLS = [{"type": "function", "function": {"name": n, "parameters": {}}} for n in ("one", "two")]
def call_tool(name, arguments):
    return f"{name}:{arguments}"
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b
def blank(*args): ...
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"flow_tools_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def test_tools_come_from_a_module_or_a_function(module: str) -> None:
    made = plan(
        step("a"),
        tools={"box": {"from": module}, "add": f"{module}:add"},
        agents={"planner": {"model": "main", "tools": ["add", "box", "one"]}},
    )
    assert made.offered["a"] == ("add", "one", "two")
    assert made.tools["two"].call({"x": 1}) == "two:{'x': 1}"
    function = made.tools["add"].schema["function"]
    assert function["description"] == "Adds."
    assert function["parameters"]["required"] == ["a"]
    assert made.tools["add"].call({"a": "2"}) == 3
    with pytest.raises(ValueError, match=r"^b: Input should be a valid integer"):
        made.tools["add"].call({"a": 1, "b": "x"})


@pytest.mark.parametrize(
    ("tools", "names", "message"),
    [
        ({"box": "{m}"}, ["boxx"], "agents.planner.tools[0]: unknown tool 'boxx'; did you mean 'b"),
        ({"box": "{m}"}, ["three"], "agents.planner.tools[0]: unknown tool 'three'"),
        ({"x": "nowhere_at_all"}, [], "tools.x: cannot import 'nowhere_at_all'"),
        ({"x": "{m}:ad"}, [], "has no function 'ad'; did you mean 'add'?"),
        ({"x": "json"}, [], "tools.x: module 'json' has no `TOOLS` list"),
        ({"x": "{m}:blank"}, [], "tools.x: {m}:blank takes arguments without names"),
        ({"x": "{m}", "y": "{m}"}, [], "tools.y: a tool 'one' comes from 'x' already"),
    ],
)
def test_a_wrong_tool_names_its_place(
    module: str, tools: dict[str, str], names: list[str], message: str
) -> None:
    sources = {name: source.replace("{m}", module) for name, source in tools.items()}
    with pytest.raises(PolicyError) as e:
        plan(step("a"), tools=sources, agents={"planner": {"model": "main", "tools": names}})
    assert message.replace("{m}", module) in str(e.value)


def test_without_imports_single_tools_are_taken_on_trust() -> None:
    raw = {
        "tools": {"box": "no_such_module"},
        "agents": {"planner": {"model": "main", "tools": ["box", "one"]}},
        "steps": [step("a")],
    }
    made = make_plan("f", Flow.model_validate(raw), models=("main",))
    assert made.offered["a"] == ("one",)


def test_tools_of_a_shared_conversation_are_offered_to_all_its_agents(module: str) -> None:
    made = plan(
        step("a", conversation="c"),
        step("b", agent="checker", conversation="c"),
        step("d", agent="checker"),
        tools={"box": module},
        agents={
            "planner": {"model": "main", "tools": ["two"]},
            "checker": {"model": "light", "tools": ["one"]},
        },
    )
    assert made.offered == {"c": ("two", "one"), "d": ("one",)}
