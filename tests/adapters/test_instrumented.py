"""Real instrumentation of the models' SDKs and HTTP clients, over and under clawmw.

Each in an environment of its own, beside clawmw: no call is exported twice, none of its tokens
counts twice, and no trace context reaches the provider.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import Unavailable, environment
from clawmw.emulator import Emulator
from tests.adapters.test_matrix import OURS, ROOT

FOLDER = ROOT / ".venv-instrumented"
HTTP = ["opentelemetry-instrumentation-httpx", "opentelemetry-instrumentation-aiohttp-client"]
PACKAGES = {
    "opentelemetry": "opentelemetry-instrumentation-genai-openai",
    "openinference": "openinference-instrumentation-openai",
    "traceloop": "opentelemetry-instrumentation-openai",
}
SCRIPT = Path(__file__).with_name("instrumented.py")
INPUT = ("gen_ai.usage.input_tokens", "llm.token_count.prompt")


@pytest.mark.external
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PACKAGES)
def test_a_call_counts_once_with(name: str) -> None:
    try:
        python = environment(FOLDER / name, [*OURS, "openai>=2.54,<3", *HTTP, PACKAGES[name]])
    except Unavailable as error:
        pytest.skip(str(error))
    with Emulator(bill="openai") as provider:
        done = subprocess.run(
            [
                str(python),
                str(Path(__file__).with_name("instrumented.py")),
                name,
                provider.base_url,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        requests = provider.requests
    assert len(requests) == 5
    for received in requests:
        assert not {"traceparent", "tracestate", "baggage"} & set(received.headers)
    told: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    for case, spans in told.items():
        counted = [span for span in spans if any(key in span["attributes"] for key in INPUT)]
        assert len(counted) == 1, (case, counted)
        [one] = counted
        assert sum(key in one["attributes"] for key in INPUT) == 1
        assert "clawmw.saved.tokens" in one["attributes"], case
        above = case in ("whole", "stream", "async")
        assert (one["library"] == "clawmw") is not above, case
        ours = [span for span in spans if span["library"] == "clawmw"]
        assert not [s for s in ours if "canary" in json.dumps(s)]
