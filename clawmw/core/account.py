"""What a call's context weighs, what of it is cached, and what it costs.

Token counts of contexts are estimates; when the provider's `usage` is known, the baseline
(the same call without clawmw) is scaled by how far the estimate of what was sent was off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from clawmw.core.effects import Key
from clawmw.core.epoch import Running
from clawmw.core.events import Totals
from clawmw.core.fold import History
from clawmw.core.identity import Identity
from clawmw.core.money import CacheRules, Cost, Profile, Ttl, cost, simulate
from clawmw.core.prefix import Warm, roster, shared, tools_digest, tools_tokens, warm
from clawmw.core.story import is_transient
from clawmw.core.types import Json, Request, Usage

__all__ = ["Account", "CachePlan", "Sending", "baseline", "totals"]


GAPS = 16
"""Gaps between calls that are remembered: an agent's rhythm of late."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What marks are placed by. The same when the very call is made again."""

    known: int = 0
    """How many leading messages the cache holds."""
    transient: bool = False
    """Whether the agent replaces its last message in the next call, by what it did before."""
    gaps: tuple[int, ...] = ()
    """Seconds between the session's calls, this one's included."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How a request was sent: its plan, and what it weighed."""

    plan: CachePlan
    journal: int
    """Journal entries woven in."""
    tokens: int
    ttl: Ttl | None
    """The lifetime its marks asked for."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the engine itself remembers of a session, in one slot."""

    can_expand: bool | None = None
    """Whether the model was given the means to ask for what is cut; None: not decided yet."""
    warm: tuple[Warm, ...] = ()
    """The last state of the prompt cache, newest first, one a model."""
    answered: float | None = None
    """When the previous answer was complete."""
    gaps: tuple[int, ...] = ()
    """Seconds between the session's calls, the last of them."""
    chain: str = ""
    """The chain that the last call belonged to."""
    calls: int = 0
    """Calls of that chain in this session, the last one included."""
    epoch: Running | None = None
    """What came of the last epoch so far, while its chain goes on."""
    task: tuple[str, str, int] = ("", "", 0)
    """The last call's opener, the chain that its messages alone imply, and its hop."""
    spent: float = 0.0
    """The share of the tightest limit that was used when the chain's last call ended."""
    answerer: str = ""
    """The model that gave the last answer, whichever was asked first."""

    @staticmethod
    def key(session_scope: str) -> Key:
        """Where it is kept."""
        return (session_scope, "account")

    def to_json(self) -> Json:
        """As JSON."""
        return {
            "x": self.can_expand,
            "w": [w.to_json() for w in self.warm],
            "a": self.answered,
            "g": list(self.gaps),
            "c": [self.chain, self.calls],
            "e": self.epoch.to_json() if self.epoch else None,
            "t": list(self.task),
            **({"s": round(self.spent, 4)} if self.spent else {}),
            "m": self.answerer,
        }

    @classmethod
    def from_json(cls, value: Json | None) -> Account:
        """The inverse of `to_json`; what cannot be read is as if never kept."""
        try:
            if value is None:
                return cls()
            kept = tuple(Warm.from_json(w) for w in value["w"])
            running = Running.from_json(value.get("e"))
            gaps = tuple(value.get("g", ()))
            chain, calls = value.get("c", ("", 0))
            opener, name, hop = value.get("t", ("", "", 0))
            task = (opener, name, hop)
            rest = (running, task, float(value.get("s", 0.0)), str(value.get("m", "")))
            return cls(value["x"], kept, value["a"], gaps, chain, calls, *rest)
        except (KeyError, TypeError, ValueError):
            return cls()

    def counted(self, who: Identity) -> Account:
        """The account with one call more."""
        calls = self.calls + 1 if who.chain == self.chain else 1
        kept = (self.can_expand, self.warm, self.answered, self.gaps)
        task = (who.opener, who.implied, who.hop)
        spent = self.spent if who.chain == self.chain else 0.0
        return Account(*kept, who.chain, calls, self.epoch, task, spent, self.answerer)

    def for_model(self, model: str) -> Warm | None:
        """What is known of that model's cache."""
        return next((w for w in self.warm if w.model == model), None)

    def again(self, model: str, history: History) -> Warm | None:
        """What is known of the very call that `history` makes, if it was made before.

        By a client that retries, or after a crash: it gets the marks it had.
        """
        last = self.for_model(model)
        if last is not None and history.steps and last.tips[-1:] == (history.steps[-1].digest,):
            return last
        return None

    def plan(self, model: str, history: History, known: int, now: float) -> CachePlan:
        """What marks are placed by; `known` leading messages are cached."""
        before = self.again(model, history)
        if before is not None:
            return CachePlan(before.known, before.transient, self.gaps)
        last, gaps = self.for_model(model), self.gaps
        if self.warm:
            gaps = (*gaps, max(int(now - self.warm[0].time), 0))[-GAPS:]
        transient = len(history.steps) > 1 and is_transient(history.steps[-1].raw)
        if not transient and last is not None and len(last.tips) > 1:
            place = shared(history, last)
            at_last = place and history.steps[place - 1].digest == last.tips[1]
            transient = 0 < place < len(history.steps) and not at_last
        return CachePlan(known, transient, gaps)

    def sent(
        self, raw: Request, request: Request, history: History, now: float, by: Sending
    ) -> Account:
        """The account once `request` was sent."""
        tips = tuple(step.digest for step in history.steps[-2:])
        tools, raw_tools = tools_digest(request.tools), tools_digest(raw.tools)
        new = Warm(
            request.model,
            now,
            tools,
            raw_tools,
            tips,
            by.journal,
            by.plan.known,
            by.plan.transient,
            by.ttl.seconds if by.ttl else None,
            len(history.steps),
            by.tokens,
            roster(request.tools),
            history.epoch.id if history.epoch else "",
        )
        others = tuple(w for w in self.warm if w.model != request.model)
        return replace(self, warm=(new, *others)[:4], gaps=by.plan.gaps)


def totals(
    account: Account,
    raw: Request,
    request: Request,
    history: History,
    added: int,
    rules: CacheRules,
    now: float,
) -> Totals:
    """The weight of a call's context; `added` are the tokens of woven journal entries."""
    last = account.for_model(request.model)
    raw_tools, sent_tools = tools_tokens(raw.tools), tools_tokens(request.tools)
    sums = history.sums
    known = warm(history, last, rules, now)
    raw_known = known  # without us, an epoch would have moved nothing
    if history.epoch is not None and last is not None and last.epoch != history.epoch.id:
        raw_known = warm(replace(history, epoch=None), last, rules, now)
    raw_cached = sent_cached = 0
    raw_cacheable, sent_cacheable = _cacheable(raw, rules), _cacheable(request, rules)
    if last is not None and raw_known:
        upto = history.steps[raw_known - 1].upto
        if last.raw_tools == tools_digest(raw.tools) and raw_cacheable:
            raw_cached = raw_tools + upto.raw
    if last is not None and known:
        upto = history.steps[known - 1].upto
        if last.tools == tools_digest(request.tools) and sent_cacheable:
            sent_cached = sent_tools + upto.sent + added
    return Totals(
        raw=raw_tools + sums.raw,
        sent=sent_tools + sums.sent + added,
        would=sent_tools + sums.would + added,
        raw_cached=raw_cached,
        sent_cached=min(sent_cached, sent_tools + sums.sent + added),
        raw_cacheable=raw_cacheable,
        sent_cacheable=sent_cacheable,
        by_mechanism=dict(sums.saved),
    )


def _cacheable(request: Request, rules: CacheRules) -> bool:
    """Whether the request enters its provider's cache: some want a mark for it."""
    if rules.style != "marks":
        return True
    return bool(request.params.get("cache_control")) or any(
        m.mark is not None or m.marks for m in reversed(request.messages)
    )


def baseline(sums: Totals, usage: Usage | None, profile: Profile, attempts: int) -> Cost | None:
    """What the call would have cost without clawmw, native caching included; estimated.

    `attempts`: those whose usage it is.

    Attempts beyond the first (an expansion answered) are clawmw's own, so they are not in
    it: the usage of all attempts is taken as that many times the context.
    """
    if usage is None or usage.input_tokens is None or sums.sent <= 0:
        return None
    if sums.raw == sums.sent and sums.raw_cacheable == sums.sent_cacheable:
        return cost(usage, profile)  # nothing was changed that counts
    scale = usage.input_tokens / (sums.sent * attempts)
    cached = sums.raw_cached * scale
    expected = sums.sent_cached * scale * attempts
    if usage.basis == "measured" and usage.cache_read_tokens is not None and expected:
        # A provider that read less than expected would have read less without us, too.
        cached *= min(usage.cache_read_tokens / expected, 1.0)
    without = simulate(
        profile.cache,
        prefix_tokens=round(cached),
        input_tokens=round(sums.raw * scale),
        output_tokens=usage.output_tokens or 0,
        marked_tokens=None if sums.raw_cacheable else 0,
    )
    return cost(without, profile)
