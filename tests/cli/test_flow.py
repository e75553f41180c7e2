"""`clawmw flow` as its users see it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clawmw.cli.flow import flow
from clawmw.emulator.faults import Fault
from clawmw.emulator.reply import Reply, ToolUse, text_of
from clawmw.emulator.server import Emulator
from clawmw.observe.store.spanstore import SpanStore

POLICY = """
version: 1
trace: off
models:
  main: {{model: anthropic/claude-sonnet-5-5, base_url: "{url}"}}
  light: {{model: acme-flash}}
flows:
  trip:
    input: {{city: null, budget: 2000, zip: "01234"}}
    tools: {{add: "flow_cli_tools:add"}}
    agents:
      planner: {{system: You plan., model: main, tools: [add], limits: {{calls: {calls}}}}}
      titler: {{model: light}}
    steps:
      - id: plan
        agent: planner
        prompt: "{{{{ input.city }}}} {{{{ input.budget + 1 }}}} {{{{ input.zip }}}}"
      - {{id: deep, agent: planner, prompt: more, when: "input.budget > 5000"}}
      - {{id: sum, tool: add, args: {{a: 1, b: "{{{{ input.budget }}}}"}}}}
    output: "{{{{ steps.plan.output }}}} / {{{{ steps.sum.output }}}}"
  title:
    agents: {{titler: {{model: light}}}}
    steps: [{{id: t, agent: titler, prompt: hello}}]
"""


def brain(body: dict[str, Any]) -> Reply:
    last = body["messages"][-1]
    text = text_of(last["content"])
    if last["role"] == "tool":
        return Reply(text=f"sum {text}")
    if "Paris" in text:
        return Reply(tools=(ToolUse("add", {"a": 1, "b": 2}),))
    return Reply(text=f"got {text}")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(brain=brain) as emulator:
        yield emulator


@pytest.fixture
def policy(tmp_path: Path, emulator: Emulator) -> Path:
    (tmp_path / "flow_cli_tools.py").write_text(
        "def add(a: int, b: int) -> int:\n    return a + b\n"
    )
    return write(tmp_path, emulator)


def write(folder: Path, emulator: Emulator, calls: int = 8) -> Path:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(url=emulator.base_url, calls=calls))
    return path


def invoke(policy: Path, *args: str) -> Result:
    extra = [] if args[0] == "validate" else ["--checkpoints", str(policy.parent / "s" / "f.db")]
    return CliRunner().invoke(flow, [*args, "--policy", str(policy), *extra])


def test_validate_counts_what_there_is(policy: Path) -> None:
    result = invoke(policy, "validate")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "flows.trip: 3 steps, 1 agent, 1 tool\nflows.title: 1 step, 1 agent, 0 tools\n"
    )
    assert invoke(policy, "validate", "title").stdout.startswith("flows.title")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "agent: planner\n",
            "agent: planer\n",
            "flows.trip.steps[0].agent: unknown agent 'planer'",
        ),
        ("input.budget > 5000", "input.budget >", "flows.trip.steps[1].when: not a CEL expression"),
        ("flow_cli_tools:add", "flow_cli_tools:ad", "flows.trip.tools.add: module"),
        ("prompt: more", "promt: more", 'flows.trip.steps[1].promt: unknown key; did you mean "pr'),
        ("limits:", "limit:", 'flows.trip.agents.planner.limit: unknown key; did you mean "limits'),
        (
            "tools: [add]",
            "tools: [ad]",
            "flows.trip.agents.planner.tools[0]: unknown tool 'ad'; did",
        ),
    ],
)
def test_validate_says_where_it_is_wrong(policy: Path, old: str, new: str, message: str) -> None:
    text = policy.read_text()
    assert old in text
    policy.write_text(text.replace(old, new))
    result = invoke(policy, "validate")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_run_shows_progress_and_prints_the_outcome(policy: Path, emulator: Emulator) -> None:
    result = invoke(policy, "run", "trip", "--input", "city=Paris", "--thread", "t1")
    assert result.exit_code == 0, result.output
    assert result.stdout == "sum 3 / 2001\n"
    lines = result.stderr.splitlines()
    assert lines[0] == "flow trip, thread t1"
    assert re.fullmatch(
        r"plan  planner  2 calls  [\d,]+ tokens in \([\d,]+ cached\), \d+ out  \d+\.\d s", lines[1]
    )
    assert lines[2] == "deep  planner  skipped"
    assert re.fullmatch(r"sum   add      \d+\.\d s", lines[3])
    body = emulator.requests[0].body
    assert body["model"] == "anthropic/claude-sonnet-5-5"
    assert text_of(body["messages"][-1]["content"]) == "Paris 2001 01234"


def test_run_prints_the_whole_result_as_json(policy: Path) -> None:
    inputs = ("--input", "city=Rome", "--input", "budget=6000", "--input", "zip=99")
    result = invoke(policy, "run", "trip", *inputs, "--json")
    whole = json.loads(result.stdout)
    assert (whole["status"], whole["calls"], whole["rule"]) == ("done", 2, None)
    assert whole["output"] == "got Rome 6001 99 / 6001"
    assert whole["steps"]["deep"]["output"] == "got more"
    assert whole["thread"].startswith("trip-")


def test_a_stopped_run_exits_with_3_and_says_how_to_go_on(policy: Path, emulator: Emulator) -> None:
    write(policy.parent, emulator, calls=1)
    result = invoke(policy, "run", "trip", "--input", "city=Paris", "--thread", "t")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "stopped by flows.trip.agents.planner.limits.calls: " in result.stderr
    assert f"resume with: clawmw flow resume t --policy {policy}" in result.stderr
    again = invoke(policy, "resume", "t", "--json")
    assert again.exit_code == 3
    assert json.loads(again.stdout)["status"] == "stopped"
    write(policy.parent, emulator, calls=2)
    assert invoke(policy, "resume", "t").stdout == "sum 3 / 2001\n"
    assert len(emulator.requests) == 2


def test_a_budget_of_the_policy_stops_the_run(policy: Path, emulator: Emulator) -> None:
    text = policy.read_text()
    policy.write_text(text + "budget: {chain: {calls: 1}}\n")
    result = invoke(policy, "run", "trip", "--input", "city=Paris", "--thread", "t")
    assert result.exit_code == 3
    assert "clawmw flow: stopped by budget" in result.stderr
    assert len(emulator.requests) == 1
    policy.write_text(text + "budget: {chain: {calls: 9}}\n")
    assert invoke(policy, "resume", "t").stdout == "sum 3 / 2001\n"
    assert len(emulator.requests) == 2


def test_a_run_is_one_trace(policy: Path) -> None:
    policy.write_text(policy.read_text().replace("trace: off", "trace: {store: traces.db}"))
    result = invoke(policy, "run", "trip", "--input", "city=Paris", "--thread", "t")
    assert result.exit_code == 0, result.output
    with closing(SpanStore.read(policy.parent / "traces.db")) as store:
        rows = store.query("SELECT op FROM spans ORDER BY start_ns")
    assert [row[0] for row in rows] == [
        "invoke_workflow", "invoke_agent", "chat", "execute_tool", "chat", "execute_tool",
    ]  # fmt: skip


def test_a_failing_provider_is_exit_4_and_the_run_can_be_resumed(
    policy: Path, emulator: Emulator
) -> None:
    emulator.fail_next(Fault(status=404))
    result = invoke(policy, "run", "trip", "--input", "city=Oslo", "--thread", "t")
    assert result.exit_code == 4
    assert "HTTP 404: " in result.stderr
    assert "resume with: clawmw flow resume t" in result.stderr
    assert invoke(policy, "resume", "t").stdout == "got Oslo 2001 01234 / 2001\n"
    bodies = [json.dumps(r.body) for r in emulator.requests]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "tripp"), "no flow 'tripp' in the policy; did you mean 'trip'?"),
        (("run", "trip"), "flows.trip.input: give a value for 'city'"),
        (("run", "trip", "--input", "cty=X"), "unknown input 'cty'; did you mean 'city'?"),
        (("run", "trip", "--input", "city"), "--input 'city': write it as NAME=VALUE"),
        (("run", "trip", "--thread", "a b"), "thread 'a b': letters, digits"),
        (("run", "title"), "models.light.base_url: a flow needs it"),
        (("resume", "nothing"), "no run 'nothing': there is no checkpoint file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_1(
    policy: Path, args: tuple[str, ...], message: str
) -> None:
    result = invoke(policy, *args)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_a_known_thread_is_suggested(policy: Path) -> None:
    assert invoke(policy, "run", "trip", "--input", "city=X", "--thread", "trip-1").exit_code == 0
    result = invoke(policy, "resume", "trip-2")
    assert result.exit_code == 1
    assert "did you mean 'trip-1'?" in result.stderr
    result = invoke(policy, "run", "trip", "--input", "city=X", "--thread", "trip-1")
    assert result.exit_code == 1
    assert "thread 'trip-1' exists already" in result.stderr


def test_a_model_of_another_dialect_does_its_steps(
    policy: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOW_KEY", "k-1")
    place = f'{emulator.base_url}", dialect: anthropic.messages, api_key_env: FLOW_KEY'
    policy.write_text(policy.read_text().replace(f'{emulator.base_url}"', place))
    result = invoke(policy, "run", "trip", "--input", "city=Paris")
    assert result.exit_code == 0, result.stderr
    assert {r.path for r in emulator.requests} == {"/v1/messages"}


def test_keys_come_from_the_environment(
    policy: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = policy.read_text().replace("flash}", "flash, api_key_env: FLOW_TEST_KEY}")
    policy.write_text(text)
    args = ("run", "title", "--upstream", emulator.base_url)
    missing = invoke(policy, *args)
    assert missing.exit_code == 1
    assert "models.light.api_key_env: the environment has no FLOW_TEST_KEY" in missing.stderr
    monkeypatch.setenv("FLOW_TEST_KEY", "k-123")
    result = invoke(policy, *args)
    assert result.stdout == "got hello\n"
    assert "authorization" in emulator.requests[0].headers
    files = policy.parent.joinpath("s").iterdir()
    assert not any(b"k-123" in file.read_bytes() for file in files)


def test_ctrl_c_says_how_to_go_on(policy: Path, emulator: Emulator) -> None:
    emulator.fail_next(Fault(delay=20.0))
    code = "from clawmw.cli.flow import flow; flow(prog_name='clawmw flow')"
    args = ["run", "trip", "--input", "city=X", "--thread", "t", "--policy", str(policy)]
    args += ["--checkpoints", str(policy.parent / "s" / "f.db")]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *args], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "flow trip, thread t\n"
        while not emulator.requests:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "clawmw flow: interrupted\nresume with: clawmw flow resume t --policy" in rest
    assert "Traceback" not in rest
    assert invoke(policy, "resume", "t").stdout == "got X 2001 01234 / 2001\n"
