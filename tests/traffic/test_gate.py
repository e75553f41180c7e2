"""The gate: who goes next. A model in the hypothesis machine, and what callers may rely on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from benchmarks import burst
from clawmw.core.effects import RANKS, Admit, Lanes, Leave, Rank
from clawmw.traffic.gate import Gate, Ticket

ONE = Lanes(slots=1, waiting=3)


def ask(
    gate: Gate,
    name: str,
    now: float = 0.0,
    *,
    rank: Rank = "interactive",
    patience: float = 1e9,
    agent: str | None = None,
    chain: str | None = None,
    tokens: int = 100,
) -> Ticket:
    who = ("t", agent or name, chain or name)
    return gate.enter(Admit("up", patience, rank, tokens, who, gate.lanes, name), now)


def went(*tickets: Ticket) -> list[str]:
    return [t.admit.id for t in tickets if t.why == "granted"]


class Doors(RuleBasedStateMachine):
    """Whatever comes, leaves and gives up: nothing is lost and no slot is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.gate = Gate(Lanes(slots=3, waiting=5, ageing=20, reserve=4), 0.0)
        self.tickets: list[Ticket] = []

    @rule(
        rank=st.sampled_from(RANKS),
        agent=st.integers(0, 2),
        chain=st.integers(0, 3),
        tokens=st.integers(1, 5000),
        patience=st.floats(0.5, 60),
    )
    def come(self, rank: Rank, agent: int, chain: int, tokens: int, patience: float) -> None:
        who = ("t", f"a{agent}", f"c{chain}")
        admit = Admit("up", patience, rank, tokens, who, self.gate.lanes, f"{len(self.tickets)}")
        ticket = self.gate.enter(admit, self.now)
        assert self.gate.enter(admit, self.now) is ticket or ticket.why is not None
        self.tickets.append(ticket)

    @rule(index=st.integers(0, 40), verdict=st.sampled_from(["ok", "throttled", "neutral"]))
    def leave(self, index: int, verdict: str) -> None:
        running = list(self.gate.running)
        if running:
            name = running[index % len(running)]
            self.gate.leave(Leave(7, verdict, id=name), self.now)  # type: ignore[arg-type]
            self.gate.leave(Leave(7, verdict, id=name), self.now)  # type: ignore[arg-type]

    @rule(index=st.integers(0, 40))
    def give_up(self, index: int) -> None:
        waiting = [t for t in self.tickets if t.why is None]
        if waiting:
            self.gate.drop(waiting[index % len(waiting)].admit.id, self.now)

    @rule(seconds=st.floats(0.1, 30))
    def later(self, seconds: float) -> None:
        self.now += seconds
        self.gate.dispatch(self.now)

    @invariant()
    def the_books_agree(self) -> None:
        gate = self.gate
        waiting = {t.admit.id for t in self.tickets if t.why is None}
        assert {name for line in gate.waiting.values() for name in line} == waiting
        assert gate.queued == len(waiting) <= gate.lanes.waiting
        assert len(gate.running) <= gate.slots
        assert all(went(t) for t in gate.running.values())
        for share in gate._ranks.values():
            assert share.waiting == sum(t.waiting for t in share.within.values())

    @invariant()
    def no_slot_is_idle_while_somebody_may_have_it(self) -> None:
        gate = self.gate
        gate.dispatch(self.now)
        if gate.queued and len(gate.running) < gate.slots:
            assert gate._next(self.now) is None  # only the reserved slot is free
            assert len(gate.running) == gate.slots - 1


TestDoors = Doors.TestCase
TestDoors.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_chains_next_step_stands_where_its_first_one_came() -> None:
    gate = Gate(ONE, 0.0)
    first = ask(gate, "old/1", 0, agent="old", chain="old", rank="chain")
    young = ask(gate, "young/1", 1, rank="chain")
    gate.leave(Leave(id="old/1"), 2)
    assert went(first, young) == ["old/1", "young/1"]
    again = ask(gate, "old/2", 3, agent="old", chain="old", rank="chain")
    other = ask(gate, "younger/1", 2.5, rank="chain")
    gate.leave(Leave(id="young/1"), 4)
    assert went(again, other) == ["old/2"]


def test_a_full_queue_turns_the_newest_of_the_lowest_class_away() -> None:
    gate = Gate(ONE, 0.0)
    ask(gate, "runs")
    low = [ask(gate, f"low {i}", i, rank="background") for i in range(3)]
    vip = ask(gate, "vip", 4)
    assert [t.why is not None for t in low] == [False, False, True]
    assert low[2].why == "full"
    assert vip.why is None


def test_who_gave_up_is_never_let_in() -> None:
    """A11: a deadline that passed in the queue; A4: a waiter that left leaves no entry."""
    gate = Gate(ONE, 0.0)
    ask(gate, "runs")
    late, left, patient = ask(gate, "late", 1, patience=5), ask(gate, "left", 1), ask(gate, "p", 2)
    gate.drop("left", 3)
    gate.leave(Leave(id="runs"), 10)
    assert went(late, left, patient) == ["p"]
    assert (late.why, left.why, gate.queued) == ("late", "late", 0)


def test_one_slot_is_kept_for_interactive_calls_and_then_given_up() -> None:
    gate = Gate(Lanes(slots=2, reserve=10), 0.0)
    ask(gate, "person", 0)
    gate.leave(Leave(id="person"), 1)
    jobs = [ask(gate, f"job {i}", 2, rank="heavy") for i in range(2)]
    assert went(*jobs) == ["job 0"]
    assert went(ask(gate, "person again", 3)) == ["person again"]
    gate.leave(Leave(id="person again"), 4)
    gate.dispatch(14)
    assert went(*jobs) == ["job 0", "job 1"]


def test_after_long_enough_everybody_is_next() -> None:
    gate = Gate(Lanes(slots=1, ageing=60), 0.0)
    ask(gate, "runs")
    old = ask(gate, "old", 0, rank="heavy", tokens=10**6)
    for number in range(30):
        now = 10.0 * number
        ask(gate, f"new {number}", now, tokens=1)
        gate.leave(Leave(id=next(iter(gate.running))), now + 9)
        if went(old):
            break
    assert old.began <= 3 * 60 + 20


def test_the_limit_adapts_and_recovers_without_any_header() -> None:
    """R12: a 429 without headers lowers it once a round trip; successes bring it back."""
    gate = Gate(Lanes(), 0.0)
    tickets = [ask(gate, f"{i}", 0) for i in range(32)]
    for ticket in tickets[:8]:
        gate.leave(Leave(verdict="throttled", id=ticket.admit.id), 1)
    assert gate.slots == int(32 * 0.7)
    for number in range(400):
        ask(gate, f"later {number}", 2 + number, patience=0.5)
        gate.leave(Leave(verdict="ok", id=next(iter(gate.running))), 2.4 + number)
    assert gate.slots > int(32 * 0.7)


def test_a_limit_that_fell_however_far_comes_back() -> None:
    """R12: no depth at which the limit no longer counts as felt."""
    for falls in range(1, 12):
        gate = Gate(Lanes(), 0.0)
        for number in range(falls):
            ask(gate, f"bad {number}", 2.0 * number)
            gate.leave(Leave(verdict="throttled", id=f"bad {number}"), 2.0 * number + 1)
        low = gate.slots
        for turn in range(40):
            for number in range(low + 2):
                ask(gate, f"{turn}/{number}", 100.0 + turn, patience=0.5)
            for name in list(gate.running):
                gate.leave(Leave(verdict="ok", id=name), 100.9 + turn)
        assert gate.slots > low


def test_any_number_of_tenants_and_agents_may_wait() -> None:
    """X17: names are told apart up to a bound, and whoever waits is never forgotten."""
    gate = Gate(Lanes(slots=1, waiting=5000), 0.0)
    tickets = []
    for number in range(3000):
        who = (f"t{number % 1500}", f"a{number}", "c")
        admit = Admit("up", 1e9, tokens=100, who=who, lanes=gate.lanes, id=f"{number}")
        tickets.append(gate.enter(admit, 0.0))
        if number % 4 == 0:
            gate.leave(Leave(id=next(iter(gate.running))), 0.0)
    while gate.running:
        gate.leave(Leave(id=next(iter(gate.running))), 1.0)
    assert len(went(*tickets)) == 3000
    assert all(len(share.within) <= 2 * 1024 for share in gate._ranks.values())


def test_nobody_is_turned_away_for_one_who_may_go_at_once() -> None:
    gate = Gate(Lanes(slots=2, waiting=2, reserve=10), 0.0)
    ask(gate, "person", 0)
    gate.leave(Leave(id="person"), 1)
    jobs = [ask(gate, f"job {i}", 2, rank="heavy") for i in range(3)]
    assert went(ask(gate, "person again", 3), *jobs) == ["person again", "job 0"]
    assert [job.why for job in jobs] == ["granted", None, None]


def test_who_waits_for_a_slot_need_not_look_often() -> None:
    """A slot that comes free wakes its next holder; looking up is for what nobody tells."""
    gate = Gate(ONE, 0.0)
    ask(gate, "runs")
    ask(gate, "waits", 1)
    assert gate.pause(1) == 1.0


def test_a_slot_that_nobody_gives_back_is_free_in_the_end() -> None:
    """A8: even when its holder is still there and only forgot it."""
    gate = Gate(ONE, 0.0)
    ask(gate, "forgotten")
    waiting = ask(gate, "next", 10)
    gate.dispatch(3599)
    assert not went(waiting)
    gate.dispatch(3600)
    assert went(waiting) == ["next"]
    gate.leave(Leave(id="forgotten"), 3700)
    assert list(gate.running) == ["next"]


def test_breadth_is_charged_what_it_used() -> None:
    """An agent whose parallel calls used more than expected goes after one whose used less."""
    gate = Gate(Lanes(slots=2, reserve=0), 0.0)
    for agent, used in (("wide", 9000), ("thin", 10)):
        for number in range(2):
            ask(gate, f"{agent}/{number}", 0, agent=agent, chain=f"{agent} {number}")
        for number in range(2):
            gate.leave(Leave(used, "ok", id=f"{agent}/{number}"), 1)
    ask(gate, "x", 2)
    ask(gate, "y", 2)
    wide = ask(gate, "wide again", 3, agent="wide")
    thin = ask(gate, "thin again", 4, agent="thin")
    gate.leave(Leave(id="x"), 5)
    assert went(wide, thin) == ["thin again"]


def test_a_stated_rate_bounds_what_may_be_under_way() -> None:
    gate = Gate(Lanes(), 0.0)
    ask(gate, "first", 0)
    gate.leave(Leave(verdict="ok", per_minute=60, id="first"), 3)
    assert gate.slots == 6  # one a second, 3 s each, and as many again


def test_tokens_a_minute_are_corrected_when_a_call_ends() -> None:
    gate = Gate(Lanes(slots=10, tokens=1000 / 60), 0.0)
    first, second = ask(gate, "a", 0, tokens=900), ask(gate, "b", 0, tokens=900)
    assert went(first, second) == ["a"]
    gate.leave(Leave(100, "ok", id="a"), 1)
    assert went(second) == ["b"]
    third = ask(gate, "c", 1, tokens=900)
    assert third.why is None
    assert 0 < gate.pause(1) <= 1
    gate.dispatch(60)
    assert went(third) == ["c"]


def test_a_burst_as_the_benchmark_has_it() -> None:
    """A1: the targets of `benchmarks.burst`, on one seed."""
    table = {n: burst.figures(p, [3]) for n, p in burst.POLICIES.items()}
    alone = burst.figures(burst.POLICIES["clawmw"], [3], flood=False)
    assert all(burst.targets(table, alone).values())


def test_other_rules_hold_from_the_next_call_on() -> None:
    gate = Gate(ONE, 0.0)
    ask(gate, "a")
    waiting = ask(gate, "b", 1)
    gate.enter(Admit("up", 9, who=("t", "", ""), lanes=replace(ONE, slots=2), id="c"), 2)
    assert went(waiting) == ["b"]
