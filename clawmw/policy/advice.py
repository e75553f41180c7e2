"""What is allowed in a policy but likely not meant, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from clawmw.policy.models import Policy
from clawmw.policy.spoken import server
from clawmw.providers.load import profile_for
from clawmw.stages.units import show_duration, show_share

__all__ = ["warnings_for"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def warnings_for(policy: Policy) -> Iterator[str]:
    """The warnings of a policy, most consequential first."""
    if policy.mode == "observe":
        yield "mode is observe: nothing is changed, saved or stopped; the trace says what would be"
    elif policy.holdout:
        share = show_share(policy.holdout)
        yield f"holdout: {share} of chains go raw, to measure against; their limits still hold"
    yield from _guards(policy)
    yield from _reduction(policy)
    yield from _models(policy)
    content = policy.trace.content
    if content is not None and policy.trace.store is None:
        yield "trace.content keeps nothing: trace.store is off, and nothing else is given any of it"
    elif content is not None:
        kept = show_duration(content.keep)
        yield f"trace keeps prompts and answers on this machine, for {kept}"


def _guards(policy: Policy) -> Iterator[str]:
    budget = _section(policy, "budget")
    if budget is None:
        yield "budget is off: nothing stops a chain that costs too much"
    elif not _holds(budget, "usd"):
        yield "budget has no limit in USD: write e.g. `budget: {chain: {usd: 1.00}}`"
    elif unknown := list(_unpriced(policy)):
        yield (
            f"budget counts USD, but no price is known for {', '.join(unknown)}: "
            "give it a `profile` whose prices hold"
        )
    usual = _usual(policy, "budget")
    wide = any((budget or {}).get(scope) != usual.get(scope) for scope in ("agent", "tenant"))
    if budget is not None and policy.store.disk is None and wide:
        yield (
            "budget limits more than a chain, but store is memory: what was used is forgotten "
            "when the process ends"
        )
    if "loop_guard" in policy.stages and _section(policy, "loop_guard") is None:
        yield "loop_guard is off: nothing stops an agent that repeats itself"


def _reduction(policy: Policy) -> Iterator[str]:
    compress = _section(policy, "compress")
    if compress is None:
        return
    level = compress.get("level")
    if level == "aggressive":
        yield "compress is aggressive: agents will have to ask back for more of what was cut"
    if level != "lossless" and "expand" in policy.stages and _section(policy, "expand") is None:
        yield "expand is off: what compress cuts cannot be asked back for"
    expand = _section(policy, "expand") or {}
    if level in ("balanced", "aggressive") and expand.get("blobs") == "off":
        yield f"expand keeps no blobs: nothing can be hidden, so compress is lossless, not {level}"


def _models(policy: Policy) -> Iterator[str]:
    if not _holds(_section(policy, "budget"), "usd"):
        for name in _unpriced(policy):
            yield f"{name}: no price is known for it, so what it costs will not be shown"
    for name, entry in policy.models.items():
        url = urlsplit(entry.base_url or "")
        if url.scheme == "http" and url.hostname not in _LOOPBACK and entry.api_key_env:
            yield f"models.{name}: the key in {entry.api_key_env} is sent over plain http"
        at = server(entry)
        if entry.dialect is not None and (at is None or entry.dialect not in at.dialects):
            yield f"models.{name}: dialect is of a server at a base_url, and there is none"


def _unpriced(policy: Policy) -> Iterator[str]:
    for name, entry in policy.models.items():
        if profile_for(entry.profile or entry.model).price is None:
            yield f"models.{name} ({entry.profile or entry.model})"


def _section(policy: Policy, section: str) -> Mapping[str, Any] | None:
    """A stage's config as plain data; None when it does not run or does not exist."""
    config = policy.stages.get(section)
    return config.model_dump() if config is not None and config.enabled else None


def _usual(policy: Policy, section: str) -> Mapping[str, Any]:
    """The config of a stage that the policy does not mention."""
    config = policy.stages.get(section)
    return type(config)().model_dump() if config is not None else {}


def _holds(data: Any, key: str) -> bool:
    return any(value is not None for value in _values(data, key))


def _values(data: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(data, (list, tuple)):
        for item in data:
            yield from _values(item, key)
