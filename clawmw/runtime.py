"""Performs every effect but the model call, sync and async, and remembers what it may.

One runtime serves many threads and event loops. When a store fails in flight, the ledger
fails closed (the error reaches the guard that asked); slots, evidence and blobs go on in
memory, and an event says so.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from clawmw.codecs.unread import Unread, beside
from clawmw.core.codec import Codec
from clawmw.core.context import CARRIED
from clawmw.core.effects import (
    Append,
    Commit,
    Effect,
    Emit,
    GetBlob,
    Leave,
    Load,
    Permit,
    Publish,
    PutBlob,
    Report,
    Reserve,
    Sense,
    Settle,
    Wait,
    Withdraw,
)
from clawmw.core.engine import Pipeline, Result, Setup, exchange
from clawmw.core.events import Acted, BodyUnread, CallFinished, Degraded, Event, StageFailed
from clawmw.core.identity import HEADERS, Identity, identify
from clawmw.core.money import Profile
from clawmw.core.redact import Redactor
from clawmw.core.types import Request, Response
from clawmw.core.unread import UNREAD, Odd, Stopping, forgetful
from clawmw.errors import InternalError, StoreBusy, StoreError
from clawmw.live import Live, Terms
from clawmw.observe.base import Ended
from clawmw.observe.spans import ambient
from clawmw.policy import build
from clawmw.policy.load import load_policy
from clawmw.policy.models import Policy
from clawmw.remembered import Remembered
from clawmw.stores.base import Stores
from clawmw.stores.memory import memory_stores
from clawmw.traffic.control import Traffic
from clawmw.traffic.sessions import Sessions

__all__ = ["Live", "Runtime", "of_process", "shared", "switched_off"]

Observer = Callable[[Event], None]


def switched_off() -> bool:
    """Whether `CLAWMW_OFF=1` asks for everything to pass through."""
    return os.environ.get("CLAWMW_OFF", "") not in ("", "0")


class Runtime:
    """A policy at work in this process."""

    def __init__(
        self,
        pipeline: Pipeline,
        stores: Stores,
        profile: Callable[[str], Profile],
        codecs: Mapping[str, Codec],
        *,
        observers: Sequence[Observer] = (),
        spare: Callable[[], Stores] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline, self.guards = pipeline, pipeline.counting()
        self.stores = stores
        self.profile = profile
        self.codecs = beside(codecs)
        self.observers = tuple(observers)
        self.tenant = "default"
        self.terms = Terms()
        self.redactor = Redactor({})
        self.assumed: Mapping[str, str] = _assumed()
        """Headers that a call is taken to have, where it says nothing of the kind itself."""
        self.clock = clock
        self.name: Callable[[float], str] = _name
        self.traffic = Traffic()
        self.sessions = Sessions()
        self._make_spare = spare
        self._spare: Stores | None = None
        self.remembered = Remembered()

    @classmethod
    def of(
        cls,
        policy: Policy,
        *,
        observers: Sequence[Observer] | None = None,
        stores: Stores | None = None,
    ) -> Runtime:
        """A runtime for a policy, with its own stores. Raises `PolicyError`, `StoreError`."""
        seen = build.observers(policy) if observers is None else observers
        runtime = cls(
            build.pipeline(policy),
            stores or build.stores(policy),
            build.profiles(policy),
            build.codecs(),
            observers=seen,
            spare=memory_stores,
        )
        runtime.redacts(build.redactor(policy, os.environ))
        runtime.terms = Terms.of(policy)
        runtime.tenant = policy.tenant
        return runtime

    def reload(self, policy: Policy) -> None:
        """Go on under another policy, from the next call; calls under way end as they began.

        What was sent stays as it was sent: the new policy holds for new messages. The
        stores stay. Raises `PolicyError` and changes nothing if the policy is wrong.
        """
        new, redactor = build.pipeline(policy), build.redactor(policy, os.environ)
        self.pipeline, self.guards = new, new.counting()
        self.profile = build.profiles(policy)
        self.terms = Terms.of(policy)
        self.redacts(redactor)

    def redacts(self, redactor: Redactor) -> None:
        """Replace these secrets from now on, in what observers are told by others, too."""
        self.redactor = redactor
        for observer in self.observers:
            if hasattr(observer, "redactor"):
                observer.redactor = redactor

    # --- an exchange -----------------------------------------------------------------

    def decode(self, dialect: str, body: bytes) -> Request:
        """A request from its body, without configured secrets, cheaply where it goes on from an
        earlier one.

        Raises `CodecError`.
        """
        body = self.redactor.data(body)
        return self.codecs[dialect].decode(body, self.remembered.alike(body))

    def begin(
        self,
        request: Request,
        headers: Mapping[str, str] | None = None,
        explicit: Identity | None = None,
        place: str = "",
        odd: Odd | None = None,
    ) -> Live:
        """Start an exchange; nothing happens until its effects are performed.

        `place` tells apart where the caller's own model answers, and under which key.
        """
        began = time.perf_counter()
        now = self.clock()
        given = explicit or Identity()
        if given.tenant == "default":
            given = replace(given, tenant=self.tenant)
        if request.previous:
            earlier = self.sessions.earlier(given.tenant, request.previous)
            request = request.going_on(earlier)
        said = self._said(headers or {}, given)
        who = self.redactor.identity(identify(request, said, given))
        identity, fresh = self.sessions.begins(who, now)
        name = self.name(now)
        codec = self.codecs[request.dialect]
        unread = isinstance(codec, Unread)
        pipeline = self.guards if unread else self.pipeline
        if odd is not None and odd.halt is not None:  # whatever the mode: it is not to be sent
            pipeline = replace(pipeline, stages=(Stopping(odd.halt),), mode="enforce")
        scope = identity.scope("session")
        history = None if unread else self.remembered.history((pipeline.digest, scope))
        guest = self.traffic.guest(name)
        setup = Setup(
            name,
            now,
            identity,
            codec,
            self.profile,
            history,
            place=place,
            begun=guest.begun,
            fresh=fresh,
            told=tuple(self._told(name, now, request, odd)),
        )
        run = exchange(request, pipeline, setup)
        if unread:
            run = forgetful(run)
        told = (pipeline.digest, began, now, guest)
        return Live(run, codec, request, name, self, *told, terms=self.terms)

    def _told(
        self, exchange: str, now: float, request: Request, odd: Odd | None
    ) -> Iterator[Event]:
        """What to say of a body: that it is not read; secrets that it would have carried."""
        if odd is not None:
            dialect = request.dialect.removesuffix(UNREAD)
            yield BodyUnread(exchange, now, dialect, odd.reason)
        body = getattr(request.source, "body", b"") if self.redactor else b""
        found = self.redactor.marks(body) if body else {}
        if found:
            yield Acted(exchange, now, "redact", "rewrite", "redact.env", False, found)

    def _said(self, headers: Mapping[str, str], given: Identity) -> Mapping[str, str]:
        """A call's headers, and what is assumed of it; a chain of its own is a child of ours."""
        said = ambient.said(headers, self.assumed)
        if not self.assumed:
            return said
        ours, chain = self.assumed.get(HEADERS["chain"]), given.chain or said.get(HEADERS["chain"])
        if ours and chain != ours:
            return {HEADERS["parent"]: ours, **said}
        return said

    def remember(self, live: Live, result: Result) -> None:
        """Keep the body and the folded history, bounded, newest longest."""
        identity = result.finished.identity
        self.sessions.ended(identity, live.now, result.finished.time)
        if isinstance(live.codec, Unread):
            return
        if isinstance(result.outcome, Response) and live.request.kept:
            self.sessions.answered(identity, result.outcome, result.shown)
        scope = identity.scope("session")
        sent = bool(result.finished.totals.raw)  # a stopped call never was
        self.remembered.keep(live.request, (live.policy, scope), result.history if sent else None)

    # --- effects ---------------------------------------------------------------------

    def perform(self, live: Live, effect: Effect) -> Any:
        """Perform one effect. Raises `StoreError` for the ledger; others fall back."""
        if isinstance(effect, Wait):
            return self.traffic.wait(live.guest, effect)
        if isinstance(effect, Leave | Permit | Report | Sense | Withdraw | Publish):
            return self.traffic.perform(live.guest, effect)
        try:
            return self._perform_first(live, effect)
        except StoreBusy:
            raise
        except StoreError as error:
            if isinstance(effect, Reserve | Settle) or self._make_spare is None:
                raise
            self.emit(Degraded(live.exchange, self.clock(), _home(effect), str(error)))
            if self._spare is None:
                self._spare = self._make_spare()
            return self._perform(self._spare, live, effect)

    def _perform_first(self, live: Live, effect: Effect) -> Any:
        """On the policy's own stores; whatever they raise is a `StoreError`."""
        try:
            return self._perform(self.stores, live, effect)
        except (StoreError, InternalError):
            raise
        except Exception as error:
            raise StoreError(f"{_home(effect)}: {type(error).__name__}") from error

    def _perform(self, stores: Stores, live: Live, effect: Effect) -> Any:
        match effect:
            case Load(keys):
                return stores.slots.load(keys)
            case Commit(writes):
                return stores.slots.commit(writes, self.clock())
            case Append(scope, notes, window, id_):
                return stores.evidence.append(id_, scope, notes, window, self.clock())
            case Reserve(charges, lease, id_, above):
                now = self.clock()
                answer = stores.ledger.reserve(id_, charges, now + lease, now, above)
                if answer.granted:
                    live.unsent.add(id_)
                return answer
            case Settle(charges, id_, above):
                live.unsent.discard(id_)
                return stores.ledger.settle(id_, charges, self.clock(), above)
            case PutBlob(scope, ref, data):
                return stores.blobs.put(scope, ref, data, self.clock())
            case GetBlob(scope, ref):
                found = stores.blobs.get(scope, ref, self.clock())
                if found is None and self._spare is not None:  # kept while the disk was full
                    found = self._spare.blobs.get(scope, ref, self.clock())
                return found
            case Emit(events, result):
                if result is not None:
                    self._tell(live, result)
                return self._show(live, events)
            case _:
                raise InternalError(f"{type(effect).__name__} is not a store's to perform")

    def _show(self, live: Live, events: Sequence[Event]) -> None:
        """Show events; how long we took ourselves is known only here."""
        for event in events:
            if isinstance(event, CallFinished):
                live.guest.over(ok=event.status == "ok", failed=event.status == "failed")
                spent = max(time.perf_counter() - live.began - live.called, 0.0)
                self.emit(replace(self.redactor.finished(event), overhead=spent))
            else:
                self.emit(event)

    def _tell(self, live: Live, result: Result) -> None:
        """Hand a call with its content to the observers that keep it, before its last event."""
        call: Ended | None = None
        for observer in self.observers:
            hear = getattr(observer, "ended", None)
            if hear is None:
                continue
            call = call or Ended(live.exchange, live.request, result, self.redactor)
            with suppress(Exception):  # telemetry must never stop a call
                hear(call)

    def emit(self, event: Event) -> None:
        """Show one event to the observers; one that fails is not asked why."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001, S112 - telemetry must never stop a call
                continue

    def broke(self, live: Live, error: Exception) -> None:
        """Note a bug of ours: the call goes on as if clawmw were not there."""
        live.guest.over()
        name = type(error).__name__
        self.emit(StageFailed(live.exchange, self.clock(), "engine", "before", name, False))

    def release(self, live: Live) -> None:
        """Give back what an exchange reserved for an attempt that will never be sent."""
        while live.unsent:
            with suppress(StoreError):  # then it counts as spent
                self.stores.ledger.settle(live.unsent.pop(), (), self.clock())

    def close(self) -> None:
        """Let go of the stores."""
        self.stores.close()
        if self._spare is not None:
            self._spare.close()


_shared: dict[str, Runtime] = {}
_sharing = threading.Lock()


def shared(policy: Runtime | Policy | Mapping[str, Any] | str | Path) -> Runtime:
    """This process's runtime for a policy: made once, so that its limits are shared."""
    if isinstance(policy, Runtime):
        return policy
    loaded = load_policy(policy)
    key = f"{loaded.folder}:{build.pipeline(loaded).digest}"
    with _sharing:
        if key not in _shared:
            _shared[key] = Runtime.of(loaded)
        return _shared[key]


def of_process() -> tuple[str, bool]:
    """The tenant of this process's policies, where they agree; whether one of them wants names
    hidden."""
    with _sharing:
        runtimes = list(_shared.values())
    tenants = {runtime.tenant for runtime in runtimes}
    hashed = any(getattr(o, "hash_ids", False) for r in runtimes for o in r.observers)
    return tenants.pop() if len(tenants) == 1 else "default", hashed


def _assumed() -> Mapping[str, str]:
    """What the environment says about all calls of this process: `CLAWMW_CHAIN` (`clawmw run`),
    and what a parent process sent along (`clawmw.trace_environment`)."""
    names = {HEADERS["chain"]: "CLAWMW_CHAIN"} | {name: name.upper() for name in CARRIED}
    return {name: os.environ[given] for name, given in names.items() if os.environ.get(given)}


def _name(now: float) -> str:
    """A new exchange's id: unique anywhere, in the order of time."""
    return f"{int(now * 1000):x}-{secrets.token_hex(6)}"


def _home(effect: Effect) -> str:
    match effect:
        case Load() | Commit():
            return "slots"
        case Append():
            return "evidence"
        case PutBlob() | GetBlob():
            return "blobs"
        case _:
            return "ledger"
