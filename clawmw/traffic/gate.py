"""One upstream's door: who goes next, and how many at once. Pure: the time is given.

Three levels of fairness, each by virtual time (start-time fair queueing, Goyal 1996): ranks by
weight, tenants within a rank, agents within a tenant; each is charged in tokens. Within an agent,
first come first served by chain: a chain's next step stands where its first one came, so that
chains end instead of all advancing together. A serial chain is charged to its agent once;
breadth (other calls at the same time) costs each time, and an agent with more of them open than
there are slots adds to the background alone.

Ageing: who has waited for `ageing` seconds goes first within its rank, after three times as long,
unless in the background, before all others; nobody waits longer than its own patience.

With `slots` unset the limit adapts: one more for each limit's worth of successes, 0.7 times as many
when throttled, at most once a round trip (AIMD; the factor is AWS's CUBIC beta).

Our own code: kept libraries offer neither fairness by tokens nor a queue that threads and several
event loops share.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from clawmw.core.effects import RANKS, Admit, Lanes, Leave, Rank
from clawmw.traffic.rates import Bucket

__all__ = ["Gate", "Ticket", "Why"]

Why = Literal["granted", "full", "late"]

AT_FIRST, LEAST, MOST = 32.0, 1.0, 512.0
"""The adaptive limit: high enough that one agent's parallel calls never wait at first."""
_BACK = 0.7
_CHAINS = 4096
"""Chains whose arrival is remembered, newest longest."""
_SHARES = 1024
"""Tenants, and agents of one, that are told apart at once; those that wait always are."""
_LEASE = 3600.0
"""Seconds after which a call that nobody ended no longer counts: its holder forgot it."""


@dataclass(slots=True)
class Ticket:
    """One call that wants through."""

    admit: Admit
    came: float
    arrived: float
    """When its chain came."""
    number: int
    rank: Rank
    charged: bool
    path: tuple[_Share, _Share, _Share]
    """Its rank, tenant and agent."""
    why: Why | None = None
    """What became of it; set once, when it may go or never will."""
    answer: Future[Why] | None = None
    """The same, for whoever waits: there from when it was queued."""
    began: float = 0.0

    @property
    def until(self) -> float:
        """When it gives up."""
        return self.came + self.admit.patience

    def settle(self, why: Why) -> None:
        """Say what became of it; once."""
        if self.why is None:
            self.why = why
            if self.answer is not None:
                self.answer.set_result(why)


@dataclass(slots=True)
class _Share:
    """Whoever shares with others of its level: how far it is served, and who waits in it."""

    time: float = 0.0
    waiting: int = 0
    within: dict[str, _Share] = field(default_factory=dict)
    queue: list[tuple[float, int, Ticket]] = field(default_factory=list)
    now: float = 0.0
    """The virtual time within."""

    def join(self, name: str) -> _Share:
        """One level down. Who was idle is owed nothing for it."""
        share = self.within.get(name)
        if share is None:
            if len(self.within) > _SHARES + self.waiting:
                self._forget()
            share = self.within[name] = _Share()
        if not share.waiting:
            share.time = max(share.time, self.now)
        return share

    def _forget(self) -> None:
        """Whoever is idle and not ahead is owed nothing; if that is nobody, whoever is idle."""
        known = self.within
        self.within = {n: s for n, s in known.items() if s.waiting or s.time > self.now}
        if len(self.within) > _SHARES // 2 + self.waiting:
            self.within = {n: s for n, s in known.items() if s.waiting}


class Gate:
    """See the module. Not locked: its owner is."""

    def __init__(self, lanes: Lanes, now: float) -> None:
        self.running: dict[str, Ticket] = {}
        self.waiting: dict[Rank, OrderedDict[str, Ticket]] = {r: OrderedDict() for r in RANKS}
        """Who waits, the oldest of a rank first."""
        self.limit = AT_FIRST
        self._ranks: dict[Rank, _Share] = {rank: _Share() for rank in RANKS}
        self._now = 0.0
        self._arrivals: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._open: dict[tuple[str, ...], int] = {}
        """Calls under way or waiting, by tenant and agent."""
        self.queued = 0
        self._number = 0
        self._interactive = -1e9
        self._others = 0
        """Running calls that are not interactive."""
        self._cut = -1e9
        self._seeded = False
        self.follow(lanes, now)

    def follow(self, lanes: Lanes, now: float) -> None:
        """Go by other rules from now on."""
        self.lanes = lanes
        self._buckets = (
            Bucket(lanes.requests, now) if lanes.requests else None,
            Bucket(lanes.tokens, now) if lanes.tokens else None,
        )

    # --- coming and going ------------------------------------------------------------------

    def enter(self, admit: Admit, now: float) -> Ticket:
        """A ticket: granted, turned away, or waiting (its `answer` is not done)."""
        known = self.running.get(admit.id) or self._waiting(admit.id)
        if known is not None:
            return known
        if admit.lanes is not self.lanes and admit.lanes != self.lanes:
            self.follow(admit.lanes, now)
        ticket = self._ticket(admit, now)
        if ticket.rank == "interactive":
            self._interactive = now
        if not self.queued and self._room(ticket, now):
            self._start(ticket, now)
            return ticket
        self._queue(ticket)
        self.dispatch(now)
        if self.queued > self.lanes.waiting:
            self._turn_away(self._least(), "full")
        return ticket

    def leave(self, leave: Leave, now: float) -> None:
        """A call is over: its slot is free."""
        ticket = self.running.get(leave.id)
        if ticket is None:
            return
        self._end(ticket)
        if leave.tokens is not None:
            self._charge(ticket, leave.tokens - ticket.admit.tokens)
        if self.lanes.slots is None:
            self._adapt(ticket, leave, now)
        self.dispatch(now)

    def afresh(self) -> None:
        """The upstream is back from an outage, of which the limit bears the marks."""
        self.limit = max(self.limit, AT_FIRST)

    def drop(self, id: str, now: float, why: Why = "late") -> None:
        """Somebody no longer waits, or went without a word."""
        ticket = self._waiting(id)
        if ticket is not None:
            self._turn_away(ticket, why)
            self.dispatch(now)
        else:
            self.leave(Leave(id=id), now)

    def dispatch(self, now: float) -> None:
        """Let in whoever may go."""
        self._expire(now)
        while self.queued and len(self.running) < self.slots:
            ticket = self._next(now)
            if ticket is None or not self._room(ticket, now):
                return
            self._unqueue(ticket)
            self._start(ticket, now)

    def pause(self, now: float) -> float:
        """Seconds until it may be worth calling `dispatch` again, though nobody left."""
        if len(self.running) >= self.slots:
            return 1.0  # whoever leaves lets the next one in
        first = self._next(now)
        rate = self._rate(first, now) if first is not None else 0.0
        return min(rate, 1.0) if rate > 0 else 1.0

    @property
    def slots(self) -> int:
        """Calls that may be under way at once, now."""
        return self.lanes.slots or int(self.limit)

    # --- who goes next ---------------------------------------------------------------------

    def _next(self, now: float) -> Ticket | None:
        """The ticket whose turn it is, of those that may have a slot and have not given up."""
        ranks = [rank for rank in RANKS if self.waiting[rank]]
        for rank in sorted(ranks, key=lambda r: (-self._overdue(r, now), self._ranks[r].time)):
            line = self.waiting[rank]
            while line:
                oldest = next(iter(line.values()))
                aged = now - oldest.came >= self.lanes.ageing
                ticket = oldest if aged else _head(self._ranks[rank])
                if now < ticket.until:
                    if self._allowed(ticket, now):
                        return ticket
                    break
                self._turn_away(ticket, "late")
        return None

    def _overdue(self, rank: Rank, now: float) -> float:
        """For how long its first has waited beyond three times the ageing; 0: it has not."""
        line = self.waiting[rank]
        came = next(iter(line.values())).came if line and rank != "background" else now
        return max(now - came - 3 * self.lanes.ageing, 0.0)

    def _allowed(self, ticket: Ticket, now: float) -> bool:
        """Whether it may have the last slot, which is kept for interactive calls."""
        kept = self.slots > 1 and now - self._interactive < self.lanes.reserve
        return ticket.rank == "interactive" or self._others < self.slots - kept

    def _room(self, ticket: Ticket, now: float) -> bool:
        full = len(self.running) >= self.slots
        return not full and self._allowed(ticket, now) and self._rate(ticket, now) <= 0

    def _rate(self, ticket: Ticket, now: float) -> float:
        requests, tokens = self._buckets
        wait = requests.wait(1, now) if requests else 0.0
        return max(wait, tokens.wait(ticket.admit.tokens, now)) if tokens else wait

    def _least(self) -> Ticket:
        """The newest of the lowest rank that waits."""
        rank = next(rank for rank in reversed(RANKS) if self.waiting[rank])
        return next(reversed(self.waiting[rank].values()))

    def _waiting(self, id: str) -> Ticket | None:
        if not self.queued:
            return None
        return next((line[id] for line in self.waiting.values() if id in line), None)

    # --- the books -------------------------------------------------------------------------

    def _ticket(self, admit: Admit, now: float) -> Ticket:
        """For one that comes."""
        self._number += 1
        agent, lanes = admit.who[:2], self.lanes
        others = self._open.get(agent, 0)
        self._open[agent] = others + 1
        rank = "background" if lanes.fair and others > self.slots else admit.rank
        first = self._ranks[rank]
        second = first.join(agent[0] if lanes.fair else "")
        path = first, second, second.join(agent[1] if lanes.fair else "")
        arrived = self._arrival(admit.who, now)
        return Ticket(admit, now, arrived, self._number, rank, others > 0, path)

    def _queue(self, ticket: Ticket) -> None:
        self.queued += 1
        self.waiting[ticket.rank][ticket.admit.id] = ticket
        ticket.answer = Future()
        rank, _, agent = ticket.path
        if not rank.waiting:
            rank.time = max(rank.time, self._now)
        for share in ticket.path:
            share.waiting += 1
        heappush(agent.queue, (ticket.arrived, ticket.number, ticket))

    def _unqueue(self, ticket: Ticket) -> None:
        """Out of the counts; its place in the heap is skipped when it is reached."""
        self.queued -= 1
        del self.waiting[ticket.rank][ticket.admit.id]
        for share in ticket.path:
            share.waiting -= 1
            if not share.waiting:
                share.queue.clear()

    def _start(self, ticket: Ticket, now: float) -> None:
        admit = ticket.admit
        rank, tenant, agent = ticket.path
        self._now = max(self._now, rank.time)
        rank.now, tenant.now = max(rank.now, tenant.time), max(tenant.now, agent.time)
        self._charge(ticket, admit.tokens)
        if self._buckets[0] is not None:
            self._buckets[0].take(1)
        ticket.began = now
        self.running[admit.id] = ticket
        self._others += ticket.rank != "interactive"
        ticket.settle("granted")

    def _turn_away(self, ticket: Ticket, why: Why) -> None:
        self._unqueue(ticket)
        self._left(ticket)
        ticket.settle(why)

    def _left(self, ticket: Ticket) -> None:
        agent = ticket.admit.who[:2]
        left = self._open.get(agent, 1) - 1
        if left:
            self._open[agent] = left
        else:
            self._open.pop(agent, None)

    def _charge(self, ticket: Ticket, tokens: int) -> None:
        """Count tokens against whoever they are for; negative ones were charged too much."""
        rank, tenant, agent = ticket.path
        rank.time += tokens / self.lanes.weights[RANKS.index(ticket.rank)]
        tenant.time += tokens
        if ticket.charged:
            agent.time += tokens
        if self._buckets[1] is not None:
            self._buckets[1].take(tokens)

    def _expire(self, now: float) -> None:
        """Take the slots of those whose lease is over; the first that began is the first."""
        while self.running:
            ticket = next(iter(self.running.values()))
            if now - ticket.began < _LEASE:
                return
            self._end(ticket)

    def _end(self, ticket: Ticket) -> None:
        del self.running[ticket.admit.id]
        self._others -= ticket.rank != "interactive"
        self._left(ticket)

    def _arrival(self, chain: tuple[str, ...], now: float) -> float:
        """When a chain came."""
        arrived = self._arrivals.get(chain)
        if arrived is not None:
            self._arrivals.move_to_end(chain)
            return arrived
        self._arrivals[chain] = now
        if len(self._arrivals) > _CHAINS:
            self._arrivals.popitem(last=False)
        return now

    def _adapt(self, ticket: Ticket, leave: Leave, now: float) -> None:
        """The limit after one more call."""
        if leave.verdict == "throttled":
            # Those that began before have seen the old limit; one alone was not too many.
            if ticket.began > self._cut and self.running:
                self.limit, self._cut = max(self.limit * _BACK, LEAST), now
            return
        if leave.verdict != "ok":
            return
        if leave.per_minute and not self._seeded:
            # Little's law: the calls at once that so many a minute make, at this length.
            self._seeded = True
            fits = leave.per_minute / 60 * max(now - ticket.began, 0.1)
            self.limit = min(self.limit, max(2 * fits, 4.0))
        if len(self.running) + 1 >= self.slots * 0.8:  # a limit that nobody feels is no evidence
            self.limit = min(self.limit + 1 / self.limit, MOST)


def _head(rank: _Share) -> Ticket:
    """The first ticket of a rank in which some wait: the least served tenant's, and agent's."""
    tenant = min((s for s in rank.within.values() if s.waiting), key=lambda s: s.time)
    agents = (s for s in tenant.within.values() if s.waiting)
    return _front(min(agents, key=lambda s: (s.time, _front(s)[:2])))[2]


def _front(agent: _Share) -> tuple[float, int, Ticket]:
    """The first of an agent's waiting tickets: when its chain came, its number, itself."""
    while agent.queue[0][2].why is not None:  # it was let in, or gave up
        heappop(agent.queue)
    return agent.queue[0]
