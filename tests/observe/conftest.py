"""Observers with somewhere to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clawmw.observe.otel import OtelObserver
from clawmw.observe.store.spanstore import SpanStore

Exported = tuple[OtelObserver, InMemorySpanExporter]


@pytest.fixture
def exporting() -> Iterator[Callable[..., Exported]]:
    """Makes an observer on an application's provider, with what that exports."""
    providers: list[TracerProvider] = []

    def make(sampler: Any = None, **more: Any) -> Exported:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        providers.append(provider)
        return OtelObserver(provider, **more), exporter

    yield make
    for provider in providers:
        provider.shutdown()


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "traces" / "t.sqlite"


@pytest.fixture
def local(store_path: Path) -> Iterator[tuple[OtelObserver, SpanStore]]:
    """An observer that writes to a local store only, and the store to read."""
    observer = OtelObserver(store=SpanStore.open(store_path))
    reader = SpanStore.read(store_path)
    yield observer, reader
    observer.close()
    reader.close()
