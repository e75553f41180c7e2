"""One chain across agents, processes and machines: what is sent along, and what is taken in.

::

    httpx.post(worker, headers=clawmw.trace_headers())          # another agent, over HTTP
    subprocess.run(command, env={**os.environ, **clawmw.trace_environment()})
    await session.call_tool(name, arguments, meta=clawmw.trace_meta())    # MCP

    with clawmw.calling(clawmw.received(request.headers), agent="worker"):     # over there

Sent are W3C `traceparent` and, under keys of ours alone, `baggage`: the chain, how many agents
deep it is, who called. Agents are sent this, model providers never. A child process needs no
`received`: clawmw reads its environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clawmw.adapters.calling import caller
from clawmw.core.context import BAGGAGE, CARRIED, TraceContext, baggage, carried, foreign
from clawmw.core.identity import Identity, called_by
from clawmw.observe.spans import ambient
from clawmw.runtime import of_process

__all__ = ["received", "trace_environment", "trace_headers", "trace_meta"]


def trace_headers(identity: Identity | None = None) -> dict[str, str]:
    """Headers for a request to another agent: it is then part of this chain, one hop further.

    Who calls is `identity`, or what `calling`, the flow or the environment around says. Empty
    where nothing of it is known: a chain that only messages imply has no name to pass on. With
    `trace: {ids: hashed}`, names are sent as digests, and the chain as its trace.
    """
    who = identity or caller(None) or ambient.caller() or Identity()
    around = received(os.environ)
    chain = who.chain or os.environ.get("CLAWMW_CHAIN") or around.chain
    tenant, hashed = of_process()
    if who.tenant == "default":
        who = replace(who, tenant=tenant)
    who = replace(who, chain=chain, hop=who.hop or around.hop)
    at = ambient.current() or who.context or _derived(who, hashed)
    if not who.chain and at is not None:
        who = replace(who, chain=at.trace)
    said = at.headers() if at is not None else {}
    entries = carried(_entries(who, hashed))
    return said | ({BAGGAGE: entries} if entries else {})


def trace_environment(identity: Identity | None = None) -> dict[str, str]:
    """Variables for a child process (`TRACEPARENT`, `TRACESTATE`, `BAGGAGE`); see `trace_headers`.

    The application's own baggage in this process's environment is handed on as it is.
    """
    said = {name.upper(): value for name, value in trace_headers(identity).items()}
    theirs = foreign(os.environ.get(BAGGAGE.upper(), ""))
    both = ",".join(filter(None, (theirs, said.get(BAGGAGE.upper(), ""))))
    return said | ({BAGGAGE.upper(): both} if both else {})


def trace_meta(
    meta: Mapping[str, Any] | None = None, identity: Identity | None = None
) -> dict[str, Any]:
    """`meta` for a request over the Model Context Protocol (`params._meta`), with the same."""
    return {**(meta or {}), **trace_headers(identity)}


def received(carrier: Mapping[str, Any] | None) -> Identity:
    """Who calls, as headers, an environment or an MCP request's `_meta` say; for `calling`.

    Only a valid `traceparent` is taken, and of `baggage` only our keys, whose values are ids of
    at most 128 characters. Whoever sends it names a chain, whose limits then hold: take it from
    agents of yours.
    """
    said: dict[str, str] = {}
    for key, value in (carrier or {}).items():
        name = str(key).lower()
        if name in CARRIED and isinstance(value, str):
            said[name] = value
    return called_by(TraceContext.of(said), baggage(said.get(BAGGAGE, "")))


def _derived(who: Identity, hashed: bool) -> TraceContext | None:
    """The span of the agent that calls, by the id that everybody derives for it."""
    if not who.chain:
        return None
    from clawmw.observe.spans.attributes import hashed as digest
    from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id

    number = trace_id(who)
    session = digest(who).session if hashed and who.session else who.session
    known = who.agent != "default" or bool(session)
    span = agent_span_id(number, who.agent, session) if known else root_span_id(number)
    return TraceContext(f"{number:032x}", f"{span:016x}", sampled=True)


def _entries(who: Identity, hashed: bool) -> dict[str, str]:
    if hashed and who.chain:
        from clawmw.observe.spans.attributes import hashed as digest
        from clawmw.observe.spans.ids import trace_id

        named = digest(who)
        session = named.session if who.session else ""
        conversation = named.conversation if who.conversation else session
        chain = f"{trace_id(who):032x}"
    else:
        chain, session = who.chain, who.session
        conversation = who.conversation or session
    found = {
        "chain": chain,
        "hop": str(who.hop) if chain else "",
        "agent": who.agent if who.agent != "default" else "",
        "session": session,
        "conversation": conversation,
    }
    return {name: value for name, value in found.items() if value}
