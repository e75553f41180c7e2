"""What an application exports whose SDKs are instrumented, over and under clawmw; as JSON.

    python instrumented.py INSTRUMENTATION BASE_URL

Run in an environment that has that instrumentation; see `test_instrumented.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from typing import Any

import httpx
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import clawmw
from clawmw.adapters.direct import Direct
from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.observe.otel import OtelObserver
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

ASK: Any = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "a canary sings"}]}
HOMES = {
    "opentelemetry": "opentelemetry.instrumentation.genai.openai",
    "openinference": "openinference.instrumentation.openai",
    "traceloop": "opentelemetry.instrumentation.openai",
}


def main(name: str, url: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    import_module(HOMES[name]).OpenAIInstrumentor().instrument(tracer_provider=provider)
    for kind, home in (("HTTPXClient", "httpx"), ("AioHttpClient", "aiohttp_client")):
        found = import_module(f"opentelemetry.instrumentation.{home}")
        getattr(found, f"{kind}Instrumentor")().instrument(tracer_provider=provider)
    observers = [OtelObserver(provider)]
    runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}), observers=observers)
    plain = openai.OpenAI(base_url=url, api_key="k")
    client = clawmw.wrap(plain, runtime)
    told: dict[str, list[dict[str, Any]]] = {}

    def tell(case: str) -> None:
        told[case] = [
            {
                "name": span.name,
                "library": span.instrumentation_scope.name if span.instrumentation_scope else "",
                "attributes": dict(span.attributes or {}),
            }
            for span in exporter.get_finished_spans()
        ]
        exporter.clear()

    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("app"):
        client.chat.completions.create(**ASK)
    tell("whole")
    with tracer.start_as_current_span("app"):
        list(client.chat.completions.create(**ASK, stream=True))
    tell("stream")
    with tracer.start_as_current_span("app"):
        asyncio.run(_async(runtime, url))
    tell("async")
    with tracer.start_as_current_span("app"):
        direct = Direct(runtime)
        direct.call(ASK, lambda asked: plain.chat.completions.create(**asked.body).model_dump())
    tell("below")
    with Served(Gateway(runtime, Places({}, url))) as served:
        httpx.post(f"{served.base_url}/chat/completions", json=ASK)
    tell("gateway")
    print(json.dumps(told))


async def _async(runtime: Runtime, url: str) -> None:
    client = clawmw.wrap(openai.AsyncOpenAI(base_url=url, api_key="k"), runtime)
    await client.chat.completions.create(**ASK)


if __name__ == "__main__":
    main(*sys.argv[1:])
