"""The spans of a chain that no single call has: its root, its agents, the tools a flow times."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from clawmw.core.identity import Identity
from clawmw.core.redact import Redactor
from clawmw.observe.sending.forks import after_fork
from clawmw.observe.spans import attributes as attrs
from clawmw.observe.spans.ambient import CALLER
from clawmw.observe.spans.ids import agent_span_id, root_span_id, trace_id
from clawmw.observe.spans.places import ChainState, under_current
from clawmw.observe.spans.plans import Plans
from clawmw.observe.spans.tracing import Plan, Started, Tracers, inside

__all__ = ["Trees"]

_log = logging.getLogger(__name__)
_CHAINS = 1024
_AGENTS = 256


class Trees:
    """Chains that are known in this process, and the spans of theirs that are open."""

    def __init__(self, tracers: Tracers, plans: Plans) -> None:
        self._tracers = tracers
        self._plans = plans
        self._lock = threading.Lock()
        self._chains: OrderedDict[str, ChainState] = OrderedDict()
        self._failed = False
        self.redactor = Redactor({})
        """Of the policy whose events are shown: names that a flow or a model gives may hold a
        secret, too."""
        after_fork(self._renew_lock)

    @property
    def hash_ids(self) -> bool:
        """Whether the names of chains and sessions leave this process as digests only."""
        return self._plans.hash_ids

    def chain(
        self, identity: Identity, name: str, *, flow: str | None = None
    ) -> AbstractContextManager[None]:
        """The chain's root span, open as long as the block runs."""
        return self._opened("invoke_workflow", identity, name, flow or "")

    def agent(self, identity: Identity, name: str) -> AbstractContextManager[None]:
        """The span of one agent at work, open as long as the block runs."""
        return self._opened("invoke_agent", identity, name, "")

    def tool(self, identity: Identity, name: str, call_id: str) -> AbstractContextManager[None]:
        """The span of one tool call, instead of the one the next model call would tell of."""
        return self._opened("execute_tool", identity, name, call_id)

    def _chain(self, identity: Identity) -> ChainState:
        self._tracers.look()
        scope = identity.scope("chain")
        with self._lock:
            chain = self._chains.get(scope)
            if chain is not None:
                self._chains.move_to_end(scope)
                return chain
        number = trace_id(identity)
        flags = self._tracers.flags(self._plans.root(identity, None, None, 0))
        with self._lock:
            chain = self._chains.setdefault(scope, ChainState(number, root_span_id(number), flags))
            if len(self._chains) > _CHAINS:
                self._chains.popitem(last=False)
        return chain

    def _know(self, chain: ChainState, key: tuple[str, str], parent: Context) -> None:
        chain.agents[key] = parent
        if len(chain.agents) > _AGENTS:
            del chain.agents[next(iter(chain.agents))]

    @contextmanager
    def _opened(self, op: str, identity: Identity, name: str, more: str) -> Iterator[None]:
        """Open a span, make it current, and close it with the type of what ended it."""
        if self.redactor:
            identity = self.redactor.identity(identity)
            name, more = self.redactor.text(name), self.redactor.text(more)
        started = self._begin(op, identity, name, more)
        if started is None:
            yield
            return
        told = otel_context.set_value(CALLER, identity)
        token = otel_context.attach(trace.set_span_in_context(started.current, told))
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            otel_context.detach(token)
            self._close(identity, started, failure)

    def _begin(self, op: str, identity: Identity, name: str, more: str) -> Started | None:
        try:
            if not self._tracers.active:
                return None
            chain = self._chain(identity)
            now = time.time_ns()
            if op == "invoke_workflow":
                plan = self._plans.root(identity, name, more or None, now)
            elif op == "invoke_agent":
                above = chain.above or inside(chain.trace, chain.root, chain.flags)
                plan = self._plans.agent(identity, name, above, now)
            else:
                above = self._timing(chain, identity, more)
                plan = self._plans.tool(identity, name, more, above, now)
            return self._run(chain, op, identity, under_current(chain, op, identity, plan))
        except Exception as error:  # noqa: BLE001 an observer never stops a run
            self._trouble(error)
            return None

    def _run(self, chain: ChainState, op: str, identity: Identity, plan: Plan) -> Started:
        """Start a flow's span. The first of an agent's conversation has the derived id."""
        key = (identity.agent, identity.session) if op == "invoke_agent" else None
        with self._lock:
            if op == "invoke_workflow":
                chain.rooted = True
            elif key is not None and key not in chain.agents:
                plan = replace(plan, span_id=agent_span_id(chain.trace, *key))
                self._know(chain, key, inside(chain.trace, plan.span_id or 0, chain.flags))
        started = self._tracers.start(plan)
        if op != "execute_tool":
            started.agent = key
            with self._lock:
                chain.running.append(started)
        return started

    def _timing(self, chain: ChainState, identity: Identity, call_id: str) -> Context:
        """Note that a flow times this tool call; returns its agent, to be its parent."""
        key = (identity.agent, identity.session)
        with self._lock:
            chain.tools[call_id] = chain.tools.get(call_id, 0) + 1
            known = chain.agents.get(key)
        return known or inside(chain.trace, agent_span_id(chain.trace, *key), chain.flags)

    def _close(self, identity: Identity, started: Started, failure: BaseException | None) -> None:
        try:
            if failure is not None:
                started.set({"error.type": attrs.error_type(type(failure).__qualname__)})
            chain = self._chain(identity)
            with self._lock:  # nothing is said on it any more: other threads read it now
                chain.running = [s for s in chain.running if s is not started]
            self._tracers.end(started, time.time_ns(), error=failure is not None)
        except Exception as error:  # noqa: BLE001 as above
            self._trouble(error)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _trouble(self, error: Exception) -> None:
        if not self._failed:
            _log.warning("clawmw could not trace a call: %s", type(error).__name__)
        self._failed = True
