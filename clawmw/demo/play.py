"""One run of the demo's flow: a provider on loopback, the agents, clawmw between them or not."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from clawmw.adapters.http import http_client
from clawmw.core.events import CallFinished, Event
from clawmw.core.money import Profile
from clawmw.demo.keep import POLICY
from clawmw.demo.played import Played, Rung
from clawmw.emulator.server import Emulator
from clawmw.emulator.trip import check
from clawmw.flow.call import http_caller
from clawmw.flow.langgraph import FlowRunner, Outcome
from clawmw.flow.plan import Plan, make_plan
from clawmw.flow.tools import load_tools
from clawmw.observe.otel import OtelObserver
from clawmw.observe.store.spanstore import SpanStore
from clawmw.policy.load import load_policy
from clawmw.policy.models import ModelEntry, Policy
from clawmw.runtime import Runtime
from clawmw.stages.base import ModelRef

__all__ = ["Scene"]

FLOW, MODEL = "trip", "main"


class Scene:
    """The demo's policy and flow, loaded once, to be run any number of times.

    `store`: where the traces of runs under the whole policy go. Raises `PolicyError`, and
    `StoreError` for a trace store that cannot be used.
    """

    def __init__(self, store: Path) -> None:
        folder = Path(str(files("clawmw.demo")))
        self.path = folder / POLICY
        self.store = store
        self.policy = load_policy(self.path)
        _opened(store).close()
        flow = self.policy.flows[FLOW]
        tools = load_tools(flow.tools, f"flows.{FLOW}.tools", folder)
        self.plan: Plan = make_plan(FLOW, flow, models=self.policy.models, tools=tools, base=folder)
        self._run_id = secrets.token_hex(3)

    def chain(self, profile: Profile) -> str:
        """The name of the run under the whole policy, as `clawmw traces` shows it."""
        return f"{FLOW}-{self._run_id}-{profile.family}"

    def play(self, profile: Profile, rung: Rung) -> Played:
        """Run the flow once against a provider that bills like `profile`.

        Raises `FlowError` when the provider fails.
        """
        began = time.perf_counter()
        finished: list[CallFinished] = []
        with Emulator(brain="trip", bill=profile.name) as provider:
            entry = ModelEntry(model=profile.name, base_url=provider.base_url)
            policy = self._policy(rung, entry)
            with self._runner(policy, rung, finished.append) as run:
                outcome = run(self.chain(profile))
            received = tuple(provider.requests)
        problems = check(str(outcome.output)) if outcome.status == "done" else ()
        seconds = time.perf_counter() - began
        return Played(profile, rung, outcome, tuple(problems), received, tuple(finished), seconds)

    def _policy(self, rung: Rung, model: ModelEntry) -> Policy:
        stages = {
            section: config.model_copy(update={"enabled": False})
            if section in rung.without
            else config
            for section, config in self.policy.stages.items()
        }
        return self.policy.model_copy(update={"models": {MODEL: model}, "stages": stages})

    @contextmanager
    def _runner(
        self, policy: Policy, rung: Rung, finished: Callable[[CallFinished], None]
    ) -> Iterator[Callable[[str], Outcome]]:
        """What runs the flow under a thread's name, with all it needs around it."""
        with ExitStack() as stack:
            spans: OtelObserver | None = None
            if rung.name == "all":
                spans = OtelObserver(store=_opened(self.store))
                stack.callback(spans.close)
            client = stack.enter_context(
                httpx.Client(timeout=60.0, trust_env=False)
                if rung.off
                else _through(policy, spans, finished, stack)
            )
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="clawmw-demo-"))
            runner = FlowRunner(
                self.plan,
                call=http_caller(client, _models(policy)),
                checkpoints=Path(folder) / "flows.sqlite",
                observer=spans,
            )
            yield lambda thread: runner.run({}, thread)


def _opened(store: Path) -> SpanStore:
    """The user's own store, as a rule: a demo drops nothing of what is in it."""
    return SpanStore.open(store, keep=None, size=None)


def _through(
    policy: Policy,
    spans: OtelObserver | None,
    finished: Callable[[CallFinished], None],
    stack: ExitStack,
) -> Any:
    """A client whose calls go through clawmw."""

    def note(event: Event) -> None:
        if isinstance(event, CallFinished):
            finished(event)

    runtime = Runtime.of(policy, observers=(note, spans) if spans else (note,))
    stack.callback(runtime.close)
    return http_client(runtime)


def _models(policy: Policy) -> Mapping[str, ModelRef]:
    return {
        name: ModelRef(name, entry.model, entry.base_url, entry.profile)
        for name, entry in policy.models.items()
    }
