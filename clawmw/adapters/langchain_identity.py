"""Who calls, as LangGraph knows it: thread, run, agent, node.

A thread is a session; an agent within another (a sub-graph, an agent used as a tool) has a
session of its own under it. One invocation of the outermost graph is one chain: agents used as
tools, branches of a `Send`, loops. It is named after the newest human message of its thread, so
that a run that was interrupted goes on in the chain it began; where messages have no ids, it
gets a name of its own.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables.config import ensure_config

from clawmw.core.identity import Identity, clean

__all__ = ["who"]

_chains: OrderedDict[int, tuple[object, str]] = OrderedDict()
"""Chains under way, by what all nodes of one invocation share (LangGraph's `RunControl`, held so
that its id is its own)."""
_MOST = 8192
"""Invocations that are remembered."""
_lock = threading.Lock()
_OWN_NODE = "model"
"""What `create_agent` calls the node that asks the model."""


def who(messages: Sequence[BaseMessage]) -> Identity:
    """The caller of a model call that is made here and now."""
    config = ensure_config()
    metadata: Mapping[str, Any] = config.get("metadata") or {}
    thread = config.get("configurable", {}).get("thread_id") or metadata.get("thread_id")
    thread = clean(str(thread)) if thread is not None else None
    node = metadata.get("langgraph_node")
    if node is None:  # no graph
        return Identity(session=thread or "")
    nodes = [level.partition(":")[0] for level in _levels(metadata)]
    agent = clean(metadata.get("lc_agent_name")) or (node if node != _OWN_NODE else None)
    above = nodes[:-1]
    chain = _chain(thread, messages, inner=bool(above))
    session, parent = thread or "", None
    if thread and above:
        session = "/".join([thread, *above, *([agent] if agent else [])])
        parent = "/".join([thread, *above[:-1]])
    return Identity(
        agent=agent or "default",
        session=clean(session) or "",
        chain=chain,
        hop=len(above),
        parent_session=clean(parent),
    )


def _levels(metadata: Mapping[str, Any]) -> list[str]:
    return str(metadata.get("langgraph_checkpoint_ns") or "").split("|")


def _chain(thread: str | None, messages: Sequence[BaseMessage], *, inner: bool) -> str:
    """The chain of this invocation; "": it is its parent session's."""
    control = _control()
    if control is None:
        return ""
    with _lock:
        known = _chains.get(id(control))
        if known is not None:
            return known[1]
        if inner and thread:
            return ""  # resumed within an inner agent: the thread's own chain goes on
        chain = f"{thread or 'run'}:{_turn(messages, named=bool(thread))}"
        _chains[id(control)] = control, chain
        while len(_chains) > _MOST:
            _chains.popitem(last=False)
        return chain


def _turn(messages: Sequence[BaseMessage], *, named: bool) -> str:
    spoken = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
    if named and spoken is not None and spoken.id:
        return hashlib.blake2b(spoken.id.encode(), digest_size=8).hexdigest()
    return uuid.uuid4().hex[:16]


def _control() -> object:
    from langgraph.runtime import get_runtime

    try:
        return getattr(get_runtime(), "control", None)
    except (RuntimeError, KeyError):  # not within a graph's node
        return None
