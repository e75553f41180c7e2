"""Dashboards and alert rules show what the gateway's /metrics has: no panel is ever dead."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from clawmw.emulator import Emulator, Fault
from tests.adapters.test_gateway import Case, body, gateway, until
from tests.examples.promql import Read, reads

pytest.importorskip("prometheus_client", reason="metrics need prometheus-client")
from clawmw.observe.metrics.prometheus import Metrics
from tests.observe.measured import everything, scraped

FOLDER = Path(__file__).parents[2] / "examples" / "observability"
BOARDS = sorted((FOLDER / "grafana").glob("*.json"))
SCRAPER = {"job", "instance"}
"""Labels that the scraper adds."""
POLICY = {
    "budget": {"chain": {"calls": 4}},
    "breaker": True,
    "retry": {"attempts": 2},
    "models": {"light": "gpt-4o-mini"},
    "route": [{"when": "kind == 'title'", "to": "light"}],
}
ORDINARY = {
    "clawmw_cost_usd_total",
    "clawmw_cost_baseline_usd_total",
    "clawmw_cost_uncached_usd_total",
    "clawmw_tokens_total",
    "clawmw_calls_total",
    "clawmw_agent_cost_usd_total",
    "clawmw_attempts_total",
    "clawmw_retries_total",
    "clawmw_routed_total",
    "clawmw_refusals_total",
    "clawmw_added_seconds",
    "gen_ai_client_inference_duration_seconds",
    "gen_ai_client_inference_time_to_first_chunk_seconds",
}
"""What a few ordinary calls show; everything else needs something to go wrong."""


def panels(board: Path) -> Iterator[dict[str, Any]]:
    """The panels of a board that show something."""
    for panel in json.loads(board.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions(board: Path) -> Iterator[tuple[str, str, str]]:
    """The panel's title, the expression and its legend."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def served() -> Iterator[Case]:
    """A gateway that counts, after a few calls of all sorts."""
    with Emulator(bill="openai") as provider, gateway(provider.base_url, POLICY) as case:
        metrics = Metrics()
        runtime = case.served.gateway.runtime
        runtime.observers = (*runtime.observers, metrics)
        case.served.gateway.views.metrics = metrics.text
        provider.fail_next(Fault(status=503, retry_after=0.01))
        for number in range(5):
            asked = body({"role": "user", "content": f"question {number} " * 50})
            case.post(asked, x_clawmw_chain="c", x_clawmw_agent="planner")
        case.post(body(), x_clawmw_kind="title", x_clawmw_chain="d")
        case.post({**body(), "stream": True}, x_clawmw_chain="e")
        until(lambda: len(case.finished) == 7)
        yield case


def page(case: Case) -> str:
    return case.http.get(case.url.removesuffix("/v1") + "/metrics").text


def had(text: str) -> Mapping[str, set[str]]:
    """The metrics of a page by name, with their labels."""
    found: dict[str, set[str]] = {}
    for name, labels in scraped(text):
        found.setdefault(name, set()).update(key for key, _ in labels)
    return found


def dead(text: str, wanted: list[Read]) -> list[Read]:
    """What is read, and is not there."""
    there = had(text)
    missing = []
    for one in wanted:
        name = re.sub("_(bucket|count|sum)$", "", one.metric)
        labels = one.labels - SCRAPER - ({"le"} if one.metric.endswith("_bucket") else set())
        if name not in there or not labels <= there[name]:
            missing.append(one)
    return missing


def test_a_few_calls_already_show_most(served: Case) -> None:
    assert set(had(page(served))) >= ORDINARY


def test_no_panel_is_dead_and_no_alert_can_never_fire(served: Case) -> None:
    for event in everything():
        served.served.gateway.runtime.emit(event)
    metrics = served.served.gateway.runtime.observers[-1]
    assert isinstance(metrics, Metrics)
    metrics.watch(lambda: {("otlp", "queue"): 0})
    text = page(served)
    for board in BOARDS:
        for title, expression, _ in expressions(board):
            assert not dead(text, reads(expression)), f"{board.name}: {title}"
    for rule in rules():
        wanted = [one for one in reads(rule["expr"]) if one.metric != "up"]
        assert not dead(text, wanted), rule["alert"]


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(rate(clawmw_call_total[5m]))",
        "sum by (agent) (rate(clawmw_calls_total[5m]))",
        'sum by (model) (clawmw_calls_total{state="ok"})',
        "histogram_quantile(0.5, sum by (le, model) (rate(clawmw_added_seconds_bucket[5m])))",
    ],
)
def test_a_dead_panel_would_be_found(served: Case, wrong: str) -> None:
    assert dead(page(served), reads(wrong))
    with pytest.raises(ValueError, match=r"closed|closes|PromQL"):
        reads(wrong + ")")


def test_the_readme_names_all_of_them(served: Case) -> None:
    for event in everything():
        served.served.gateway.runtime.emit(event)
    said = (FOLDER / "README.md").read_text()
    named = dict(re.findall(r"`((?:clawmw|gen_ai)_\w+)(?:\{([\w,]*)\})?`", said))
    there = had(page(served))
    assert set(named) == set(there)
    for name, labels in there.items():
        if name.startswith("clawmw"):
            assert set(filter(None, named[name].split(","))) == labels, name


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_boards_can_be_imported_anywhere(board: Path) -> None:
    whole = json.loads(board.read_text())
    assert whole["uid"] == board.stem
    assert whole["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(set(ids)) == len(ids)
    places = set()
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells
    for title, expression, legend in expressions(board):
        assert 'job=~"$job"' in expression, title
        grouped = set().union(*(one.labels for one in reads(expression)))
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped, title


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_what_is_estimated_says_so(board: Path) -> None:
    for panel in panels(board):
        shown = " ".join(target["expr"] for target in panel["targets"])
        said = (panel["title"] + panel["targets"][0]["legendFormat"]).lower()
        if re.match(r"sum[^(]*\(+clawmw_saved|sum by \(mechanism\)", shown):
            assert "estimated" in said, panel["title"]


ALERTED = {
    "ClawmwGatewayDown": {'up{job="clawmw"}': "1 0x10"},
    "ClawmwBudgetNear": {
        'clawmw_budget_near_total{scope="agent",meter="usd"}': "_x5 1x5",
    },
    "ClawmwLoopStopped": {
        'clawmw_loop_stops_total{rule="loop_guard.stop",detector="cycle"}': "3x8 4x2",
    },
    "ClawmwBreakerOpen": {'clawmw_breaker_open{upstream="gpt-4o"}': "0x5 1x5"},
    "ClawmwCallsFailing": {
        'clawmw_calls_total{status="ok"}': "0+90x30",
        'clawmw_calls_total{status="failed"}': "0+10x30",
    },
    "ClawmwCacheHitShareFalling": {
        'clawmw_tokens_total{kind="input"}': "0+9000x1500",
        'clawmw_tokens_total{kind="cache_read"}': "0+8000x1400 11201000+1000x100",
    },
    "ClawmwCostRising": {"clawmw_cost_usd_total": "0+0.01x1400 14+0.1x100"},
    "ClawmwStoreDegraded": {'clawmw_store_degraded_total{store="slots"}': "_x5 1x5"},
    "ClawmwSpansLost": {
        'clawmw_spans_lost_total{destination="otlp",reason="queue"}': "0x5 7x5",
    },
}
"""What is counted, a value a minute, when an alert is to fire."""


@pytest.mark.external
@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_alerts_fire(alert: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool")
    series = ALERTED[alert]
    minutes = max(map(_minutes, series.values()))
    case = {
        "rule_files": [str(FOLDER / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                ],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(case))
    done = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _minutes(values: str) -> int:
    """How many minutes a series lasts: each word stands for one value, and those of its `x`."""
    times = [int(word.rpartition("x")[2]) + 1 if "x" in word else 1 for word in values.split()]
    return sum(times) - 1


@pytest.mark.external
def test_prometheus_takes_the_rules_and_answers_every_panel(served: Case, tmp_path: Path) -> None:
    """With the real thing, where `promtool` and `prometheus` are in the PATH."""
    promtool, prometheus = shutil.which("promtool"), shutil.which("prometheus")
    if promtool is None or prometheus is None:
        pytest.skip("needs promtool and prometheus")
    done = subprocess.run(
        [promtool, "check", "config", str(FOLDER / "prometheus.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = served.served.gateway.runtime.observers[-1]
    assert isinstance(metrics, Metrics)
    metrics.watch(lambda: {("otlp", "queue"): 0})
    target = served.url.removeprefix("http://").removesuffix("/v1")
    jobs = [{"job_name": "clawmw", "static_configs": [{"targets": [target]}]}]
    config = tmp_path / "prometheus.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    port = 19_871
    process = subprocess.Popen(
        [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1") as api:
            _answering(api)
            for number in range(5):  # a rate needs something to happen between two scrapes
                for event in everything():
                    served.served.gateway.runtime.emit(event)
                served.post(body(), x_clawmw_chain=f"later-{number}")
                time.sleep(1.1)
            empty = [
                f"{board.name}: {title}"
                for board in BOARDS
                for title, expression, _ in expressions(board)
                if not _asked(api, expression)
            ]
    finally:
        process.kill()
        process.wait()
    assert not empty


def _answering(api: httpx.Client) -> None:
    def ready() -> bool:
        try:
            return bool(_asked(api, "clawmw_calls_total"))
        except httpx.TransportError:
            return False

    until(ready, 30)


def _asked(api: httpx.Client, expression: str) -> list[Any]:
    for name, value in (("$job", ".*"), ("$__rate_interval", "10s"), ("$__range", "1m")):
        expression = expression.replace(name, value)
    answer = api.get("/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    result: list[Any] = answer["data"]["result"]
    return result
