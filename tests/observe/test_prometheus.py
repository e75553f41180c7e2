"""The gateway's metrics, as a scraper reads them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawmw.core.events import Event
from clawmw.emulator import Emulator
from tests.adapters.test_gateway import Case, body, gateway, until

pytest.importorskip("prometheus_client", reason="metrics need the extra `gateway`")
from tests.observe.measured import Both, everything
from tests.observe.measured import scraped as parsed


@pytest.fixture
def case() -> Iterator[Case]:
    from clawmw.observe.metrics.prometheus import Metrics

    policy = {"budget": {"chain": {"calls": 2}}, "breaker": True}
    with Emulator() as provider, gateway(provider.base_url, policy) as made:
        metrics = Metrics()
        runtime = made.served.gateway.runtime
        runtime.observers = (*runtime.observers, metrics)
        made.served.gateway.views.metrics = metrics.text
        yield made


def scraped(case: Case) -> dict[str, float]:
    """The samples, each by its name and labels."""
    answer = case.http.get(case.url.removesuffix("/v1") + "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", answer.text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_calls_tokens_money_and_refusals_are_counted(case: Case) -> None:
    long = {"role": "system", "content": "Follow the rules. " * 600}
    for number in range(4):
        case.post(body(long, {"role": "user", "content": f"call {number}"}), x_clawmw_chain="c")
    case.http.post(f"{case.url}/embeddings", json={"model": "e", "input": "x"})
    case.post(b"{")
    until(lambda: len(case.finished) == 6)
    found = scraped(case)
    about = 'dialect="openai.chat",model="gpt-4o"'
    assert found[f'clawmw_calls_total{{{about},status="ok"}}'] == 2
    assert found[f'clawmw_calls_total{{{about},status="halted"}}'] == 2
    assert found['clawmw_refusals_total{rule="budget.chain.calls"}'] == 2
    assert found['clawmw_unread_bodies_total{dialect="openai.chat"}'] == 1
    assert found['clawmw_tokens_total{kind="input",model="gpt-4o"}'] > 4000
    assert found['clawmw_tokens_total{kind="cache_read",model="gpt-4o"}'] > 1000
    assert 0.2 < found["clawmw_cache_hit_ratio"] < 0.6
    assert found['clawmw_cost_usd_total{model="gpt-4o"}'] > 0
    assert found["clawmw_added_seconds_count"] == 6
    assert found["clawmw_in_flight"] == 0
    assert "clawmw_queue_wait_seconds_count" in found


def test_labels_are_bounded(case: Case) -> None:
    for number in range(70):
        case.post({**body(), "model": f"model-{number}"}, x_clawmw_chain=f"c{number}")
    until(lambda: len(case.finished) == 70)
    found = scraped(case)
    models = {name for name in found if name.startswith("clawmw_calls_total")}
    assert len(models) == 65
    other = 'clawmw_calls_total{dialect="openai.chat",model="other",status="ok"}'
    assert found[other] == 6


def test_an_open_breaker_and_waits_are_seen() -> None:
    from clawmw.core.events import BreakerTurned, Waited
    from clawmw.observe.metrics.prometheus import Metrics

    metrics = Metrics()
    events: list[Event] = [
        BreakerTurned("x", 1.0, "gpt-4o", "open"),
        Waited("x", 1.0, "gpt-4o", "chain", 3.0),
    ]
    for event in events:
        metrics(event)
    text = metrics.text().decode()
    assert 'clawmw_breaker_open{upstream="gpt-4o"} 1.0' in text
    assert 'clawmw_queue_wait_seconds_bucket{le="5.0"} 1.0' in text
    assert 'clawmw_queue_wait_seconds_bucket{le="2.5"} 0.0' in text
    metrics(BreakerTurned("x", 2.0, "gpt-4o", "closed"))
    assert 'clawmw_breaker_open{upstream="gpt-4o"} 0.0' in metrics.text().decode()


def test_without_the_library_metrics_say_what_to_install() -> None:
    with Emulator() as provider, gateway(provider.base_url) as case:
        missing = case.http.get(case.url.removesuffix("/v1") + "/metrics")
    assert missing.status_code == 501
    assert "pip install prometheus-client" in missing.json()["error"]["message"]


def test_processes_count_together_and_the_dead_are_not_forgotten(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from clawmw.observe.metrics.prometheus import Metrics
        from tests.observe.measured import everything
        for number in range(2):
            child = os.fork()
            if not child:
                metrics = Metrics()
                metrics.watch(lambda: {("otlp", "queue"): 2})
                for event in everything():
                    metrics(event)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        sys.stdout.write(Metrics().text().decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    both, together = Both(), parsed(done.stdout)
    for _ in range(2):
        both.tell(everything())
    alone = both.by_prometheus()
    lost = ("clawmw_spans_lost_total", (("destination", "otlp"), ("reason", "queue")))
    assert together.pop(lost) == 4
    alone.pop(lost)
    ratio = ("clawmw_cache_hit_ratio", ())
    assert together.pop(ratio) == pytest.approx(alone.pop(ratio))
    assert together == pytest.approx({key: n for key, n in alone.items() if key in together})
    assert not {name for name, _ in alone} - {name for name, _ in together}
