"""Which chain a call belongs to where nobody names it, through a whole runtime."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clawmw.core.events import CallStarted, IdentityDerived
from clawmw.core.identity import Identity
from clawmw.stages.context.expand import GONE, NAME
from clawmw.testing import Bench, Clock, Sent, answer, asks
from clawmw.traffic.sessions import MOST, Sessions
from tests.conftest import rows, tool, turn

POLICY: dict[str, Any] = {"version": 1, "prompt_cache": False, "loop_guard": False}
TOOLS = [tool("search")]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str = "Done.") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


PLAN = [user("Plan a trip to Rome")]
MORE = [*PLAN, *turn("c1", "search", {"q": "hotels"}, "three hotels")]
NEXT = [*MORE, said(), user("Now book the second one, please")]


def bench(identity: Identity | None = None, **policy: Any) -> Bench:
    made = Bench({**POLICY, **policy}, clock=Clock(step=0.0), identity=identity or Identity())
    made.runtime_class = type(made.runtime)
    return made


def later(case: Bench, seconds: float) -> None:
    case.clock.now += seconds  # type: ignore[attr-defined]


def chain(case: Bench, messages: list[dict[str, Any]]) -> str:
    sent = case.send(messages)
    [started] = [e for e in sent.events if isinstance(e, CallStarted)]
    assert started.identity == sent.result.finished.identity
    return started.identity.chain


# --- where a chain begins ---------------------------------------------------------------------


def test_a_chain_goes_on_until_a_human_speaks_again() -> None:
    case = bench()
    first = chain(case, PLAN)
    later(case, 20)
    assert chain(case, MORE) == first
    later(case, 20)
    second = chain(case, NEXT)
    assert second != first
    later(case, 300)
    assert chain(case, [*NEXT, *turn("c2", "search", {"q": "book"}, "booked")]) == second


def test_what_comes_at_machine_speed_begins_nothing_then_or_later() -> None:
    case = bench()
    first = chain(case, PLAN)
    later(case, 20)
    assert chain(case, MORE) == first
    later(case, 0.4)
    assert chain(case, NEXT) == first
    later(case, 60)  # its tools took a while; the message is still the one that came at once
    after = [*NEXT, *turn("c2", "search", {"q": "book"}, "booked")]
    assert chain(case, after) == first
    later(case, 5)
    assert chain(case, [*after, said(), user("Thank you, and what about trains?")]) != first


def test_polls_draw_on_the_chain_of_the_task_they_belong_to() -> None:
    """A template recurs every minute, for hours: one budget, not a new one each time."""
    case = bench(budget={"chain": {"calls": 6}})
    messages, stopped = list(PLAN), 0
    for minute in range(10):
        stopped += case.send(messages).result.halt is not None
        messages += [said(), user(f"Poll {minute} at 10:0{minute}: anything new?")]
        later(case, 60)
    assert stopped == 3  # the first poll was new; it and what follows share six calls


def test_any_process_names_a_chain_alike() -> None:
    """A restart in the middle opens no new chain, nor does another worker."""
    case = bench()
    first = chain(case, PLAN)
    later(case, 20)
    assert chain(case.restart(), MORE) == first
    assert chain(bench(), MORE) == first  # not even a store is needed
    later(case, 60)
    again = chain(case, PLAN)
    assert again != first, "a job that asks the same every hour begins a task each time"
    later(case, 20)
    assert chain(case.restart(), MORE) == again
    later(case, 60)
    assert chain(case.restart(), PLAN) not in (first, again)


def test_many_who_begin_alike_at_once_are_in_one_chain() -> None:
    case = bench()
    with ThreadPoolExecutor(8) as pool:
        chains = set(pool.map(lambda _: chain_of(case), range(32)))
    assert len(chains) == 1


def chain_of(case: Bench) -> str:
    return case.send(PLAN).result.finished.identity.chain


def test_compaction_stays_in_the_chain() -> None:
    """L14: in a session that is named, whatever becomes of its history."""
    case = bench(Identity(session="s"))
    first = chain(case, NEXT)
    summary = user("This session is being continued from a previous conversation: a trip.")
    later(case, 30)
    assert chain(case, [summary, user("Now book the second one, please")]) == first
    later(case, 30)
    assert chain(case, [summary, *turn("c9", "search", {"q": "x"}, "y")]) == first


def test_a_side_conversation_of_a_session_moves_no_chain() -> None:
    """An agent has its title made, in the same session, while the task goes on."""
    case = bench(Identity(session="s"))
    first = chain(case, PLAN)
    later(case, 2)
    assert chain(case, [user("Write a title for: Plan a trip")]) != first
    later(case, 0.1)
    assert chain(case, MORE) == first


def test_a_childs_work_is_its_parents_chain() -> None:
    """B6: whoever a session starts draws on the same allowance, at any depth."""
    case = bench(Identity(session="root"), budget={"chain": {"calls": 8}})
    case.send(PLAN)
    made = 1
    for depth in range(1, 4):
        for number in range(10):
            above = "root" if depth == 1 else f"{depth - 1}.0"
            case.identity = Identity(session=f"{depth}.{number}", parent_session=above)
            sent = case.send([user(f"Part {'x' * depth} of it, {'y' * number}")])
            made += sent.result.halt is None
            who = sent.result.finished.identity
            assert (who.hop, who.chain.split("#")[0]) == (depth, "root")
            later(case, 1)
    assert made == 8


def test_a_child_stays_with_the_task_that_began_it() -> None:
    case = bench(Identity(session="root"))
    first = chain(case, PLAN)
    child = Identity(session="child", parent_session="root")
    case.identity = child
    assert chain(case, [user("Look up hotels")]) == first
    case.identity = Identity(session="root")
    later(case, 30)
    assert chain(case, NEXT) != first
    case.identity = child
    later(case, 5)
    after = [user("Look up hotels"), *turn("c1", "search", {"q": "x"}, "y")]
    assert chain(case, after) == first
    assert chain(case.restart(), after) == first


def test_a_named_chain_is_left_as_it_is() -> None:
    case = bench(Identity(session="s", chain="mine", parent="above", hop=2))
    for messages in (PLAN, MORE, NEXT):
        sent = case.send(messages)
        who = sent.result.finished.identity
        assert (who.chain, who.parent, who.hop) == ("mine", "above", 2)
        assert not any(isinstance(e, IdentityDerived) for e in sent.events)


# --- what holds for whoever gives a new id on every call --------------------------------------


@pytest.mark.parametrize("level", ["agent", "tenant"])
def test_a_new_id_on_every_call_meets_the_limits_above_it(level: str) -> None:
    case = bench(budget={"chain": {"calls": 1}, level: {"day": {"calls": 3}}})
    halted = []
    for number in range(5):
        case.identity = Identity(session=f"s{number}", chain=f"c{number}", agent="a")
        halt = case.send(PLAN).result.halt
        halted.append(str(halt.because) if halt else None)
    assert halted == [None] * 3 + [f"budget.{level}.day.calls"] * 2


def test_what_is_remembered_of_sessions_is_bounded() -> None:
    """X17: unbounded ids do not grow the process."""
    sessions = Sessions()
    for number in range(3 * MOST):
        who = Identity(session=f"s{number}", chain=f"c{number}", opener=f"{number}")
        sessions.begins(who, 0.0)
    assert len(sessions) <= MOST


# --- being told ------------------------------------------------------------------------------


def test_a_derived_identity_is_warned_about_once_a_session() -> None:
    case = bench()

    def warned(messages: list[dict[str, Any]]) -> list[tuple[str, ...]]:
        return [e.names for e in case.send(messages).events if isinstance(e, IdentityDerived)]

    assert warned(PLAN) == [("chain", "session")]
    assert [warned(m) for m in (PLAN, MORE, NEXT)] == [[], [], []]
    assert warned([user("Another conversation")]) == [("chain", "session")]
    case.identity = Identity(session="s")
    assert warned(PLAN) == [("chain",)]


def test_a_trace_says_what_was_derived(tmp_path: Path) -> None:
    from clawmw.observe.spans.attributes import Call
    from clawmw.observe.spans.marks import marks

    call = Call()
    for event in bench().send(PLAN).events:
        call.add(event)
    assert [(name, values) for name, _, values in marks(call)] == [
        ("clawmw.identity.derived", {"names": "chain, session"})
    ]


# --- what may not be shared -------------------------------------------------------------------

LONG = [
    {"role": "system", "content": "You look things up. " * 300},
    user("find the cheapest ticket"),
]


def refs(body: dict[str, Any]) -> list[str]:
    return re.findall(r"\[clawmw_expand (\w+): ", str(body["messages"]))


def gone(sent: Sent) -> bool:
    """Whether the model was told that there is nothing under what it asked for."""
    return GONE.partition("{")[0] in sent.bodies[-1].decode()


def wants(ref: str) -> Any:
    """A model that asks for `ref` once."""
    return lambda body: (
        asks(NAME, {"ref": ref}) if len(body["messages"]) < 6 else answer(str(body["messages"][-1]))
    )


@pytest.mark.parametrize("chain", ["", "c1"])
def test_conversations_that_only_open_alike_share_nothing(chain: str) -> None:
    """The same derived session holds both: no reference of the one is good in the other."""
    case = bench(Identity(chain=chain))
    mine = case.send([*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))], tools=TOOLS)
    [ref] = refs(mine.body)
    theirs = [*LONG, *turn("c1", "search", {"q": "b"}, "nothing found")]
    case.model = wants(ref)
    other = case.send(theirs, tools=TOOLS)
    assert mine.result.finished.identity.session == other.result.finished.identity.session
    assert gone(other)
    assert "tkt_1" not in str(other.bodies)
    # Where the whole prefix is the same, it is the same conversation, in any process.
    later(case, 60)
    case.model = wants(ref)
    again = case.restart().send(
        [*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))], tools=TOOLS
    )
    assert "tkt_1" in str(again.bodies[-1][len(again.bodies[0]) :])


def test_a_note_of_ours_stays_in_its_own_conversation() -> None:
    """The journal of a derived session: an expansion is put back only under its own prefix."""
    case = bench()
    history = [*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))]
    [ref] = refs(case.send(history, tools=TOOLS).body)
    case.model = wants(ref)
    case.send(history, tools=TOOLS)
    case.model = lambda body: answer()
    here = case.send([*history, said(), user("and?")], tools=TOOLS)
    there = [*LONG, *turn("c1", "search", {"q": "b"}, "nothing found"), said(), user("and?")]
    assert NAME in str(here.body["messages"])
    assert case.send(there, tools=TOOLS).body["messages"] == there


def test_a_child_of_a_named_chain_reads_nothing_of_a_session_nobody_named() -> None:
    case = bench(Identity(chain="c1"))
    mine = case.send([*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))], tools=TOOLS)
    [ref] = refs(mine.body)
    case.identity = Identity(session="child", chain="c1", hop=1)
    case.model = wants(ref)
    child = case.send([*LONG, *turn("c1", "search", {"q": "b"}, "nothing")], tools=TOOLS)
    assert gone(child)


def test_a_child_reads_what_its_named_parent_was_sent() -> None:
    case = bench(Identity(session="root"))
    mine = case.send([*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))], tools=TOOLS)
    [ref] = refs(mine.body)
    case.identity = Identity(session="child", parent_session="root")
    case.model = wants(ref)
    child = case.send([*LONG, *turn("c1", "search", {"q": "b"}, "nothing")], tools=TOOLS)
    assert "tkt_1" in str(child.bodies[-1])


def test_tenants_share_nothing_whatever_their_ids_say(tmp_path: Path) -> None:
    """Same ids, same words, same store: budgets, references and keys are each tenant's own."""
    budget = {
        "chain": {"calls": 2},
        "agent": {"day": {"calls": 50}},
        "tenant": {"day": {"calls": 50}},
    }
    case = bench(Identity(tenant="a", agent="x", session="s", chain="c"), budget=budget)
    history = [*LONG, *turn("c1", "search", {"q": "a"}, rows(300, 1))]
    [ref] = refs(case.send(history, tools=TOOLS).body)
    case.send(history, tools=TOOLS)
    assert case.send(history, tools=TOOLS).result.halt is not None
    case.identity = replace(case.identity, tenant="b")
    case.model = wants(ref)
    other = [*LONG, *turn("c1", "search", {"q": "b"}, "nothing found")]
    sent = case.send(other, tools=TOOLS)
    assert gone(sent)
    stores = case.runtime.stores
    homes = (stores.slots, stores.ledger, stores.evidence, stores.blobs)
    scopes = {kept.scope for home in homes for kept in home.kept()}
    owners = {scope.partition(":")[2].partition("\x1f")[0] for scope in scopes}
    assert owners == {"a", "b"}
    assert {scope.partition(":")[0] for scope in scopes} >= {"session", "chain", "agent", "tenant"}


def test_roles_in_one_process_do_not_cross() -> None:
    """X18: neither between threads nor between tasks of one loop."""
    import httpx

    from clawmw.adapters.http import make_async_transport, make_transport
    from clawmw.core.events import CallFinished

    events: list[CallFinished] = []
    case = bench()
    case.runtime.observers = (lambda e: events.append(e) if isinstance(e, CallFinished) else None,)
    reply = {"choices": [{"message": {"role": "assistant", "content": "ok"}}]}
    gate = threading.Barrier(4)

    def sync(role: str) -> None:
        def inner(_request: httpx.Request) -> httpx.Response:
            gate.wait(10)  # all are under way at once
            return httpx.Response(200, json=reply)

        transport = make_transport(
            case.runtime, inner=httpx.MockTransport(inner), identity=Identity(agent=role)
        )
        with httpx.Client(transport=transport) as client:
            client.post(
                "http://x/v1/chat/completions", json={"model": "m", "messages": [user(role)]}
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sync, "abcd"))

    async def role(name: str, all_in: asyncio.Barrier) -> None:
        async def inner(_request: httpx.Request) -> httpx.Response:
            await all_in.wait()
            return httpx.Response(200, json=reply)

        transport = make_async_transport(
            case.runtime, inner=httpx.MockTransport(inner), identity=Identity(agent=name)
        )
        async with httpx.AsyncClient(transport=transport) as client:
            body = {"model": "m", "messages": [user(name)]}
            await client.post("http://x/v1/chat/completions", json=body)

    async def all_roles() -> None:
        all_in = asyncio.Barrier(4)
        await asyncio.gather(*(role(name, all_in) for name in "efgh"))

    asyncio.run(all_roles())
    assert sorted(e.identity.agent for e in events) == list("abcdefgh")
    assert len({e.identity.session for e in events}) == 8
