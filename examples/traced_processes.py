"""One task in two processes, one trace: inside the application's own spans.

python examples/traced_processes.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import clawmw
from clawmw.emulator import Emulator, turns


def call(url, agent, text):
    """One agent's model call; its policy says where the trace is kept."""
    policy = {"version": 1, "trace": {"store": os.environ["TRACES"]}}
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": text}]}
    with clawmw.http_client(policy) as client, clawmw.calling(agent=agent):
        return client.post(url, json=body).raise_for_status()


if "worker" in sys.argv:  # the child: its environment says whose task this is
    call(sys.argv[2], "worker", "Look up the opening hours.")
    sys.exit()

trace.set_tracer_provider(TracerProvider())  # yours, with your exporters
os.environ["TRACES"] = str(Path(tempfile.mkdtemp()) / "traces.sqlite")

with Emulator(bill="openai", brain=turns(["Open from 9 to 20.", "You can go at 9."])) as provider:
    url = provider.base_url + "/chat/completions"
    with trace.get_tracer("my.app").start_as_current_span("plan a day out") as span:
        call(url, "planner", "When can we go?")
        command = [sys.executable, __file__, "worker", url]
        environment = {**os.environ, **clawmw.trace_environment()}
        subprocess.run(command, env=environment, check=True, timeout=60)
    sent = [received.headers for received in provider.requests]

chain = f"{span.get_span_context().trace_id:032x}"
show = [sys.executable, "-m", "clawmw.cli.main", "traces", "show", chain]
subprocess.run([*show, "--store", os.environ["TRACES"]], check=True, timeout=60)
print("sent to the provider:", [name for name in ("traceparent", "baggage") if name in sent[0]])
