"""From a policy to the objects that act on it. The only place that instantiates them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clawmw.codecs.anthropic import AnthropicMessages
from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.codecs.openai_responses import OpenAIResponses
from clawmw.core.codec import Codec
from clawmw.core.exchange import Pipeline
from clawmw.core.money import Profile
from clawmw.core.ordering import order
from clawmw.core.redact import SHORTEST, Redactor
from clawmw.errors import PolicyError, StoreError
from clawmw.observe.base import Observer
from clawmw.policy.load import digest
from clawmw.policy.models import Policy, for_stages
from clawmw.providers.load import profile_for
from clawmw.stages.base import registered
from clawmw.stores.base import Blobs, Stores
from clawmw.stores.memory import NoBlobs, memory_stores

if TYPE_CHECKING:
    from clawmw.observe.otel import OtelObserver
    from clawmw.observe.sending.ways import Export
    from clawmw.observe.store.spanstore import SpanStore
    from clawmw.policy.tracing import OtlpConfig

__all__ = [
    "codecs",
    "notify_folder",
    "observers",
    "pipeline",
    "profiles",
    "redactor",
    "store_folder",
    "stores",
    "trace_store",
]


def pipeline(policy: Policy) -> Pipeline:
    """The policy's stages, built and in order. Raises `PolicyError`."""
    build = for_stages(policy)
    stages = [
        registered()[section].build(config, build)
        for section, config in policy.stages.items()
        if config.enabled
    ]
    modes = {s: c.mode for s, c in policy.stages.items() if c.mode is not None}
    return Pipeline(order(stages), policy.mode, modes, policy.holdout, digest(policy))


def redactor(policy: Policy, environment: Mapping[str, str]) -> Redactor:
    """What replaces the policy's secrets. Raises `PolicyError` for one too short to be found.

    A variable that is not set holds no secret; a warning says so, it may be misspelt.
    """
    if policy.redact is None:
        return Redactor({})
    keys = [entry.api_key_env for entry in policy.models.values() if entry.api_key_env]
    secrets = {}
    for name in dict.fromkeys((*policy.redact.env, *keys)):
        secret = environment.get(name, "")
        if 0 < len(secret) < SHORTEST:
            raise PolicyError(
                f"redact: {name} holds fewer than {SHORTEST} characters, which would be found in "
                "what is no secret; take it out of the list",
                where="redact.env",
            )
        if secret:
            secrets[name] = secret
        elif name in policy.redact.env:
            warnings.warn(f"redact: {name} is not set", RuntimeWarning, stacklevel=3)
    return Redactor(secrets)


def stores(policy: Policy, instead: Path | None = None) -> Stores:
    """Where the policy keeps its state; `instead` of in memory, in a folder.

    Raises `StoreError` for a folder that cannot serve.
    """
    expand = policy.stages.get("expand")
    where, age = getattr(expand, "blobs", "auto"), getattr(expand, "retention", 7 * 86_400.0)
    room: int | None = getattr(expand, "max_size", None)
    limits: dict[str, Any] = {"blob_age": age} | ({"blob_bytes": room} if room else {})
    folder = store_folder(policy) or instead
    own: Blobs | None = NoBlobs() if where == "off" else None
    if folder is None:
        kept = memory_stores(**limits)
        return kept if own is None else replace(kept, blobs=own)
    from clawmw.stores.disk import disk_stores  # SQLite and diskcache only where asked for

    if where == "memory":
        own = memory_stores(**limits).blobs
    return disk_stores(folder, **limits, blobs=own)


def store_folder(policy: Policy) -> Path | None:
    """The folder of the policy's disk store; None when its state is in memory.

    `CLAWMW_STORE` names one for policies that say memory: `clawmw run` shares its own with what
    the command runs.
    """
    if policy.store.disk is not None:
        return _path(policy, policy.store.disk)
    shared = os.environ.get("CLAWMW_STORE")
    return Path(shared) if shared else None


def trace_store(policy: Policy) -> Path | None:
    """The file of the policy's traces; None where it keeps none."""
    if policy.trace.store is None:
        return None
    from clawmw.observe.store.spanstore import default_store_path

    default = policy.trace.store == "default"
    return default_store_path() if default else _path(policy, policy.trace.store)


def _path(policy: Policy, text: str) -> Path:
    """A path of the policy: `~` expanded, relative ones beside the file."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else Path(policy.folder or ".") / path


def profiles(policy: Policy) -> Callable[[str], Profile]:
    """Price and cache rules by model id, with the policy's own `profile` names heeded."""
    named: Mapping[str, str] = {
        entry.model: entry.profile for entry in policy.models.values() if entry.profile
    }

    @lru_cache(maxsize=1024)
    def look_up(model: str) -> Profile:
        return profile_for(named.get(model, model))

    return look_up


def notify_folder(policy: Policy) -> Path:
    """Where `notify.command` runs: beside the policy."""
    return Path(policy.folder or ".")


def observers(policy: Policy) -> tuple[Observer, ...]:
    """Who is shown the events: the traces, the metrics, and whoever is to be told."""
    traces = _traces(policy)
    return (*traces, *_metrics(policy, traces), *_notifier(policy))


def _notifier(policy: Policy) -> tuple[Observer, ...]:
    notify = policy.notify
    if notify.command is None and notify.webhook is None:
        return ()
    from clawmw.observe.notify import Notifier

    return (Notifier(notify.command, notify.webhook, notify_folder(policy), notify.every),)


def _traces(policy: Policy) -> tuple[OtelObserver, ...]:
    """The OpenTelemetry observer, its local store and its collector."""
    trace = policy.trace
    store = _span_store(policy)
    if store is None and trace.otlp is None:
        return ()
    from clawmw.observe.otel import OtelObserver  # the SDK only where somebody may read spans
    from clawmw.observe.store.recorder import Content

    otlp: Export | Literal[False] | None = False
    if trace.otlp is not None:
        otlp = _export(trace.otlp)
    kept = trace.content
    content = Content(kept.keep, kept.longest) if kept is not None else None
    hashed = trace.ids == "hashed"
    return (OtelObserver(store=store, otlp=otlp, hash_ids=hashed, content=content),)


def _metrics(policy: Policy, traces: tuple[OtelObserver, ...]) -> tuple[Observer, ...]:
    """The metrics, for the application's meter provider or a collector."""
    otlp = policy.trace.otlp
    if otlp is None:
        return ()
    from clawmw.observe.metrics.measures import losses_of
    from clawmw.observe.metrics.otel_metrics import OtelMetrics
    from clawmw.observe.otlp.settings import otlp_settings

    settings, own = otlp_settings("metrics", otlp.endpoint), None
    if settings is not None:
        from clawmw.observe.otlp.metrics import metered

        own = metered(settings)
    metrics = OtelMetrics(own=own)
    for observer in traces:
        metrics.watch(losses_of(observer))
    return (metrics,)


def _span_store(policy: Policy) -> SpanStore | None:
    """The local store, opened; None where there is none."""
    path = trace_store(policy)
    if path is None:
        return None
    from clawmw.observe.store.spanstore import SpanStore

    try:
        return SpanStore.open(path, keep=policy.trace.keep, size=policy.trace.size)
    except StoreError as error:
        if policy.trace.store != "default":
            raise
        # Nobody asked for it: an agent must start all the same.
        warnings.warn(f"clawmw keeps no traces: {error}", RuntimeWarning, stacklevel=2)
        return None


def _export(otlp: OtlpConfig) -> Export | None:
    """Where spans go while the application has no provider; None where nobody names a place."""
    from clawmw.observe.otlp.settings import otlp_settings

    settings = otlp_settings("traces", otlp.endpoint)
    if settings is None:
        return None
    from clawmw.observe.sending.tail import Sample
    from clawmw.observe.sending.ways import Export

    sample = otlp.sample
    return Export(settings, Sample(sample.share, sample.usd, sample.wall))


def codecs() -> Mapping[str, Codec]:
    """Every dialect that can be read, by name."""
    known: tuple[Codec, ...] = (OpenAIChat(), OpenAIResponses(), AnthropicMessages())
    return {codec.dialect: codec for codec in known}
