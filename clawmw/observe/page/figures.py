"""What a page says of a store: sums by mechanism, agent, model and kind; breaks; stops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clawmw.core.money import NANO
from clawmw.observe.reading.chains import Chain, find
from clawmw.observe.reading.listing import Filter, matching, these
from clawmw.observe.store.spanstore import SpanStore

__all__ = ["MOST", "Break", "Group", "Overview", "Stop", "overview", "summary"]

MOST = 500
"""Chains that the sums of one page are over."""
_ROWS = 50
"""Breaks and stops of one page, the newest first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Model calls that have something in common, summed. None: no call said it."""

    name: str
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cacheable_tokens: int | None
    cost_nano: int | None
    saved_nano: int | None
    compared_nano: int | None
    stops: int


@dataclass(frozen=True, slots=True)
class Break:
    """A cache hit that was expected and did not come."""

    trace_id: str
    span_id: str
    chain_id: str
    agent: str
    time_ns: int
    part: str
    predicted: int
    read: int
    lost_nano: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Calls of one chain that a guard kept from the model."""

    trace_id: str
    chain_id: str
    agent: str
    rule: str
    calls: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything of a period, or of one chain."""

    chains: tuple[Chain, ...]
    ids: tuple[str, ...]
    """The trace ids of all that match; the sums are over the first `MOST`."""
    cost_nano: int | None
    baseline_nano: int | None
    saved_nano: int | None
    native_nano: int | None
    """What the provider's cache made cheaper by itself: not clawmw's to claim."""
    marked_nano: int | None
    """What it made cheaper through cache marks and keys of clawmw's; part of what was saved."""
    mechanisms: tuple[tuple[str, int], ...]
    """Tokens left out, by what left them out; estimated."""
    by_agent: tuple[Group, ...]
    by_model: tuple[Group, ...]
    by_kind: tuple[Group, ...]
    breaks: tuple[Break, ...]
    broken: int
    """How many breaks there were; the newest are listed."""
    lost_nano: int
    stops: tuple[Stop, ...]

    @property
    def counted(self) -> int:
        """How many chains the sums are over."""
        return min(len(self.ids), MOST)


def overview(
    store: SpanStore,
    wanted: Filter = Filter(),  # noqa: B008 frozen
    *,
    trace_id: str | None = None,
) -> Overview:
    """The chains that match (at most `MOST`, the first), or one alone."""
    if trace_id is not None:
        return summary(store, [chain.trace_id for chain in find(store, trace_id)[:1]])
    return summary(store, matching(store, wanted))


def summary(
    store: SpanStore,
    every: Sequence[str],
    shown: slice = slice(0, MOST),
) -> Overview:
    """What these traces come to; of their chains, those `shown`."""
    ids = every[:MOST]
    breaks = _breaks(store, ids)
    native, marked = _cached(store, ids)
    by_model = _groups(store, ids, "model")
    return Overview(
        these(store, every[shown]),
        tuple(every),
        _sum(group.cost_nano for group in by_model),
        _sum(group.compared_nano for group in by_model),
        _sum(group.saved_nano for group in by_model),
        native,
        marked,
        _mechanisms(store, ids),
        _groups(store, ids, "agent"),
        by_model,
        _groups(store, ids, "kind"),
        breaks[:_ROWS],
        len(breaks),
        sum(one.lost_nano or 0 for one in breaks),
        _stops(store, ids)[:_ROWS],
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _these(ids: Sequence[str]) -> str:
    """The condition that a span is a model call of one of the traces; ids are bound."""
    return f"op = 'chat' AND trace_id IN ({', '.join('?' * len(ids))})"


def _groups(store: SpanStore, ids: Sequence[str], column: str) -> tuple[Group, ...]:
    rows = store.query(
        f"""
        SELECT coalesce({column}, '') AS name, count(*) AS calls,
          sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
          sum(cache_read_tokens) AS cache_read_tokens,
          sum(CASE WHEN cache_read_tokens IS NOT NULL THEN input_tokens END) AS cacheable_tokens,
          sum(cost_nano) AS cost_nano, sum(baseline_nano - cost_nano) AS saved_nano,
          sum(CASE WHEN cost_nano IS NOT NULL THEN baseline_nano END) AS compared_nano,
          sum(coalesce(stopped, 0)) AS stops
        FROM spans WHERE {_these(ids)} GROUP BY 1 ORDER BY coalesce(sum(cost_nano), -1) DESC, 1
        """,  # noqa: S608 made of constants, as all SQL here; ids are bound
        ids,
    )
    return tuple([Group(**dict(row)) for row in rows])


def _cached(store: SpanStore, ids: Sequence[str]) -> tuple[int | None, int | None]:
    """What the provider's cache made cheaper: by itself, and through clawmw's marks and keys.

    By the share of the cached prefixes that the provider would have held without clawmw, model by
    model: what one that caches only marked prompts saves is all clawmw's where it set the marks.
    """
    own = """json_extract(details.attributes, '$."clawmw.cache.predicted_raw_tokens"')"""
    rows = store.query(
        f"""
        SELECT sum(uncached_nano - cost_nano) AS whole,
          coalesce(1.0 * sum(min(coalesce({own}, predicted_tokens), predicted_tokens))
            / nullif(sum(predicted_tokens), 0), 1.0) AS share
        FROM spans LEFT JOIN details USING (trace_id, span_id)
        WHERE {_these(ids)} AND uncached_nano IS NOT NULL AND cost_nano IS NOT NULL
        GROUP BY model
        """,  # noqa: S608
        ids,
    )
    if not rows:
        return None, None
    whole = sum(row["whole"] for row in rows)
    native = round(sum(row["whole"] * row["share"] for row in rows))
    return native, whole - native


def _mechanisms(store: SpanStore, ids: Sequence[str]) -> tuple[tuple[str, int], ...]:
    prefix = "clawmw.saved.by."
    rows = store.query(
        f"""
        SELECT substr(key, {len(prefix) + 1}), sum(value)
        FROM spans JOIN details USING (trace_id, span_id), json_each(details.attributes)
        WHERE {_these(ids)} AND coalesce(mode, 'enforce') = 'enforce'
          AND substr(key, 1, {len(prefix)}) = '{prefix}'
        GROUP BY key ORDER BY 2 DESC, 1
        """,  # noqa: S608
        ids,
    )
    return tuple([(name, tokens) for name, tokens in rows])


def _breaks(store: SpanStore, ids: Sequence[str]) -> tuple[Break, ...]:
    rows = store.query(
        f"""
        SELECT trace_id, span_id, coalesce(chain_id, trace_id) AS chain_id, agent, end_ns, events
        FROM spans JOIN details USING (trace_id, span_id)
        WHERE {_these(ids)} AND moved IS NOT NULL ORDER BY end_ns DESC
        """,  # noqa: S608
        ids,
    )
    found = []
    for row in rows:
        for event in json.loads(row["events"]):
            if event.get("name") == "clawmw.cache.missed":
                lost = event.get("lost_usd")
                found.append(
                    Break(
                        row["trace_id"],
                        row["span_id"],
                        row["chain_id"],
                        row["agent"] or "",
                        row["end_ns"],
                        _part(event),
                        int(event.get("predicted") or 0),
                        int(event.get("read") or 0),
                        None if lost is None else round(lost * NANO),
                    )
                )
    return tuple(found)


def _part(event: Mapping[str, Any]) -> str:
    """What moved, as a short name."""
    part = str(event.get("moved"))
    if part == "provider":
        return "nothing moved; the provider no longer had it"
    name = "tool" if part == "tools" else part
    tool = f" ({event['tool']})" if event.get("tool") else ""
    return f"{name} {event.get('index')}{tool}"


def _stops(store: SpanStore, ids: Sequence[str]) -> tuple[Stop, ...]:
    rows = store.query(
        f"""
        SELECT trace_id, coalesce(chain_id, trace_id), coalesce(agent, ''),
          coalesce(stopped_by, ''), count(*), max(end_ns)
        FROM spans WHERE {_these(ids)} AND stopped = 1
        GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC
        """,  # noqa: S608
        ids,
    )
    return tuple([Stop(*row) for row in rows])
