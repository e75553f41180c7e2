"""The recipe for traces: its policy is one, its commands are there, its JSON5 is OpenClaw's."""

from __future__ import annotations

import re
from pathlib import Path

import json5
import pytest
import yaml
from click.testing import CliRunner

from clawmw.cli.collect import PORT, collect
from clawmw.cli.traces import traces
from clawmw.policy.load import load_policy

TEXT = (Path(__file__).parents[2] / "examples" / "observability" / "traces.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_policy_sends_traces_there() -> None:
    policy = load_policy({"version": 1, **yaml.safe_load(block("yaml"))})
    assert policy.trace.otlp is not None
    assert policy.trace.otlp.endpoint == "http://127.0.0.1:6006"


@pytest.mark.parametrize("option", ["--host", "--token-env", "--allow-host"])
def test_collect_has_what_is_named(option: str) -> None:
    assert option in TEXT
    assert option in CliRunner().invoke(collect, ["--help"]).stdout


def test_export_has_what_is_named() -> None:
    shown = CliRunner().invoke(traces, ["export", "--help"]).stdout
    for option in re.findall(r"traces export .*", block("console")):
        for word in re.findall(r"--[\w-]+", option):
            assert word in shown


def test_openclaw_sends_to_the_port_that_collect_listens_on() -> None:
    otel = json5.loads(block("json5"))["diagnostics"]["otel"]
    assert otel["endpoint"] == f"http://127.0.0.1:{PORT}"
    assert (otel["protocol"], otel["traces"]) == ("http/protobuf", True)
