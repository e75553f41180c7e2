"""What every store promises, as plain functions over a fresh `Stores`.

`LAWS` are single promises, each called with empty stores; `contract_models` has the longer
stories. Neither needs pytest, so a backend of one's own is checked by::

    for law in LAWS:
        law(my_stores())
    run_state_machine_as_test(ledger_machine(my_stores))
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clawmw.core.effects import Charge, Note, Slot, Write
from clawmw.errors import StoreError
from clawmw.stores.base import Kept, Stores

__all__ = ["LAWS", "notes", "refused"]

Law = Callable[[Stores], None]
LAWS: list[Law] = []


def law(function: Law) -> Law:
    LAWS.append(function)
    return function


def refused(action: Callable[[], object]) -> str:
    """The one line that `action` fails with."""
    try:
        action()
    except StoreError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        return message
    raise AssertionError("no StoreError")


# -- slots ---------------------------------------------------------------------------------


@law
def slots_absent_is_version_zero(stores: Stores) -> None:
    assert stores.slots.load([("s", "a"), ("s", "b")]) == [Slot(None, 0), Slot(None, 0)]
    assert stores.slots.load([]) == []
    assert stores.slots.commit([], 1.0)


@law
def slots_come_back_in_the_order_asked(stores: Stores) -> None:
    writes = [Write(("s", str(i)), i, 0) for i in range(1200)]
    assert stores.slots.commit(writes, 1.0)
    keys = [("s", str(i)) for i in reversed(range(1201))]
    found = stores.slots.load([*keys, ("s", "7"), ("s", "7")])
    assert [slot.value for slot in found] == [None, *reversed(range(1200)), 7, 7]


@law
def slots_commit_all_or_none(stores: Stores) -> None:
    a, b = ("s", "a"), ("t", "b")
    assert stores.slots.commit([Write(a, 1, 0), Write(b, 1, 0)], 1.0)
    [one, two] = stores.slots.load([a, b])
    assert not stores.slots.commit([Write(a, 2, one.version), Write(b, 2, 0)], 2.0)
    assert not stores.slots.commit([Write(a, 2, one.version), Write(b, 2, two.version + 9)], 2.0)
    assert not stores.slots.commit([Write(a, 2, one.version), Write(("s", "new"), 2, 3)], 2.0)
    assert stores.slots.load([a, b]) == [one, two]
    assert stores.slots.commit([Write(a, 2, one.version), Write(b, 2, two.version)], 2.0)
    assert [slot.value for slot in stores.slots.load([a, b])] == [2, 2]


@law
def slots_share_nothing_with_the_caller(stores: Stores) -> None:
    key, value = ("s", "a"), {"list": [{"deep": 1}]}
    assert stores.slots.commit([Write(key, value, 0)], 1.0)
    value["list"][0]["deep"] = 2
    [first] = stores.slots.load([key])
    first.value["list"].append("mine")
    [again] = stores.slots.load([key])
    assert again.value == {"list": [{"deep": 1}]}


@law
def slots_come_back_as_json_would(stores: Stores) -> None:
    values: list[Any] = [
        {"a": (1, 2), 3: None, "f": 0.1, "big": 10**30, "é": "\ud83d \x00 \u2028"},
        [],
        "",
        0,
        False,
        None,
        -0.0,
        [[[[["deep"]]]]],
    ]
    for number, value in enumerate(values):
        key = ("s", str(number))
        assert stores.slots.commit([Write(key, value, 0)], 1.0)
        [slot] = stores.slots.load([key])
        assert repr(slot.value) == repr(json.loads(json.dumps(value)))
        assert slot.version > 0


@law
def slots_refuse_what_is_not_json(stores: Stores) -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), {1, 2}, b"bytes", float("nan"), float("inf"), endless, {(1, 2): 3}):
        write = Write(("s", "a"), value, 0)
        refused(lambda write=write: stores.slots.commit([Write(("s", "b"), 1, 0), write], 1.0))
    refused(lambda: stores.slots.commit([Write(("s", "a"), 1, 0)] * 2, 1.0))
    assert stores.slots.load([("s", "a"), ("s", "b")]) == [Slot(None, 0)] * 2


@law
def slots_lose_no_update_among_threads(stores: Stores) -> None:
    key = ("s", "counter")

    def add(_: int) -> None:
        while True:
            [slot] = stores.slots.load([key])
            if stores.slots.commit([Write(key, (slot.value or 0) + 1, slot.version)], 1.0):
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert stores.slots.load([key])[0].value == 200


# -- ledger --------------------------------------------------------------------------------


def usd(amount: int, limit: int | None = None, scope: str = "chain:a") -> Charge:
    return Charge(scope, "usd", amount, limit)


@law
def ledger_draws_all_or_none(stores: Stores) -> None:
    ledger = stores.ledger
    charges = [usd(5, 10), Charge("tenant:t", "calls", 1, 1), usd(3, None, "agent:x")]
    first = ledger.reserve("1", charges, 60.0, 0.0)
    assert first.granted
    assert first.usage == {("chain:a", "usd"): 5, ("tenant:t", "calls"): 1, ("agent:x", "usd"): 3}
    second = ledger.reserve("2", charges, 60.0, 0.0)
    assert not second.granted
    assert (second.scope, second.meter, second.limit, second.used) == ("tenant:t", "calls", 1, 1)
    assert second.usage == first.usage
    assert ledger.used("chain:a") == {"usd": 5}
    assert ledger.used("agent:x") == {"usd": 3}
    assert ledger.used("nobody") == {}


@law
def ledger_fills_a_limit_to_the_last_unit(stores: Stores) -> None:
    assert stores.ledger.reserve("1", [usd(10, 10)], 60.0, 0.0).granted
    assert stores.ledger.reserve("2", [usd(0, 10)], 60.0, 0.0).granted
    assert not stores.ledger.reserve("3", [usd(1, 10)], 60.0, 0.0).granted
    assert stores.ledger.reserve("4", [usd(1)], 60.0, 0.0).granted, "no limit only counts"
    assert stores.ledger.reserve("5", [usd(0, 10)], 60.0, 0.0).granted, "asks for nothing"
    assert not stores.ledger.reserve("6", [usd(1, 11)], 60.0, 0.0).granted


@law
def ledger_adds_up_charges_of_one_counter(stores: Stores) -> None:
    assert not stores.ledger.reserve("1", [usd(6, 10), usd(6, 10)], 60.0, 0.0).granted
    assert stores.ledger.reserve("2", [usd(5, 10), usd(5, 20)], 60.0, 0.0).granted
    assert stores.ledger.used("chain:a") == {"usd": 10}


@law
def ledger_answers_one_id_once(stores: Stores) -> None:
    ledger = stores.ledger
    granted = ledger.reserve("1", [usd(6, 10)], 60.0, 0.0)
    denied = ledger.reserve("2", [usd(6, 10)], 60.0, 0.0)
    assert ledger.reserve("1", [usd(6, 10)], 60.0, 1.0) == granted
    ledger.settle("1", [usd(1)], 2.0)
    ledger.settle("1", [usd(4)], 3.0)
    assert ledger.used("chain:a") == {"usd": 1}
    assert ledger.reserve("1", [usd(6, 10)], 60.0, 4.0) == granted
    assert ledger.reserve("2", [usd(6, 10)], 60.0, 4.0) == denied
    assert ledger.used("chain:a") == {"usd": 1}


@law
def ledger_tells_what_is_reserved_from_what_is_used(stores: Stores) -> None:
    ledger = stores.ledger
    charges = [Charge("chain:a", "usd", 5, 20), Charge("chain:a", "calls", 1, None)]
    assert ledger.reserved("chain:a", 0.0) == {}
    assert ledger.reserve("1", charges, 60.0, 0.0).granted
    assert ledger.reserve("2", charges, 90.0, 0.0).granted
    assert not ledger.reserve("3", [Charge("chain:a", "usd", 50, 20)], 90.0, 0.0).granted
    assert ledger.reserved("chain:a", 1.0) == {"usd": 10, "calls": 2}
    assert ledger.reserved("chain:b", 1.0) == {}
    ledger.settle("1", [Charge("chain:a", "usd", 2, 20), Charge("chain:a", "calls", 1, None)], 2.0)
    assert ledger.used("chain:a") == {"usd": 7, "calls": 2}
    assert ledger.reserved("chain:a", 2.0) == {"usd": 5, "calls": 1}
    assert ledger.reserved("chain:a", 91.0) == {}, "what has expired counts as used"


@law
def ledger_settles_what_was_used(stores: Stores) -> None:
    ledger = stores.ledger
    ledger.reserve("1", [usd(5, 10), Charge("chain:a", "calls", 1)], 60.0, 0.0)
    ledger.settle("1", [usd(25)], 1.0)
    assert ledger.used("chain:a")["usd"] == 25, "even beyond the limit"
    assert ledger.used("chain:a").get("calls", 0) == 0, "what is not named is released"
    ledger.settle("unknown", [usd(2), usd(1)], 1.0)
    ledger.settle("unknown", [usd(2), usd(1)], 1.0)
    assert ledger.used("chain:a")["usd"] == 28
    assert not ledger.reserve("refused", [usd(1, 28)], 60.0, 1.0).granted
    ledger.settle("refused", [usd(7)], 1.0)
    assert ledger.used("chain:a")["usd"] == 35, "made all the same, so it counts"


@law
def ledger_counts_an_expired_lease_as_used(stores: Stores) -> None:
    ledger = stores.ledger
    assert ledger.reserve("1", [usd(7, 10)], 5.0, 0.0).granted
    assert not ledger.reserve("2", [usd(7, 10)], 99.0, 6.0).granted
    assert ledger.used("chain:a") == {"usd": 7}
    ledger.settle("1", [usd(2)], 7.0)
    assert ledger.used("chain:a") == {"usd": 2}, "measured late is better than not"


@law
def ledger_refuses_to_hand_money_back(stores: Stores) -> None:
    refused(lambda: stores.ledger.reserve("1", [usd(-1)], 60.0, 0.0))
    refused(lambda: stores.ledger.settle("1", [usd(-1)], 0.0))
    assert stores.ledger.used("chain:a") == {}


@law
def ledger_remembers_ids_among_many(stores: Stores) -> None:
    for number in range(300):
        stores.ledger.reserve(str(number), [usd(2)], 60.0, float(number))
    for number in range(300):
        stores.ledger.settle(str(number), [usd(1)], 300.0)
        stores.ledger.settle(str(number), [usd(9)], 301.0)
    assert stores.ledger.used("chain:a") == {"usd": 300}


@law
def ledger_admits_exactly_the_limit_among_threads(stores: Stores) -> None:
    charges = [usd(1, 400), Charge("tenant:t", "calls", 1, 1000)]

    def ask(number: int) -> bool:
        return stores.ledger.reserve(str(number), charges, 60.0, 0.0).granted

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1000)))
    assert sum(answers) == 400
    assert stores.ledger.used("chain:a") == {"usd": 400}
    assert stores.ledger.used("tenant:t") == {"calls": 400}


# -- evidence ------------------------------------------------------------------------------


def notes(*values: object) -> tuple[Note, ...]:
    return tuple(Note("call", str(value)) for value in values)


@law
def evidence_gives_the_newest_in_order(stores: Stores) -> None:
    append = stores.evidence.append
    assert append("1", "c", notes(1, 2), 3, 0.0) == notes(1, 2)
    assert append("2", "c", notes(3, 4), 3, 0.0) == notes(2, 3, 4)
    assert append("3", "other", (), 3, 0.0) == ()
    assert append("4", "c", (), 2, 0.0) == notes(3, 4)
    assert append("5", "c", (), 0, 0.0) == ()
    assert append("6", "c", notes(5, 6, 7, 8), 2, 0.0) == notes(7, 8)
    assert append("7", "c", (), 3, 0.0) == notes(6, 7, 8), "a wider one was asked for before"


@law
def evidence_adds_one_id_once(stores: Stores) -> None:
    append = stores.evidence.append
    append("1", "c", notes(1), 9, 0.0)
    append("2", "c", notes(2), 9, 0.0)
    assert append("1", "c", notes(1), 9, 0.0) == notes(1, 2)
    assert append("1", "d", notes(1), 9, 0.0) == notes(1), "another scope, another list"


@law
def evidence_stays_bounded_and_loses_nothing_inside(stores: Stores) -> None:
    for number in range(500):
        newest = stores.evidence.append(str(number), "c", notes(number), 16, float(number))
        assert newest == notes(*range(max(0, number - 15), number + 1))


@law
def evidence_loses_nothing_among_threads(stores: Stores) -> None:
    def add(number: int) -> int:
        mine = notes(number)
        assert mine[0] in stores.evidence.append(str(number), "c", mine, 500, 0.0)
        return number

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(400)))
    held = stores.evidence.append("end", "c", (), 500, 0.0)
    assert sorted(int(note.value) for note in held) == list(range(400))


# -- blobs ---------------------------------------------------------------------------------


@law
def blobs_come_back(stores: Stores) -> None:
    blobs = stores.blobs
    for size in (0, 1, 2**15 - 1, 2**15, 200_000):
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        blobs.put("s", f"r{size}", data, 1.0)
        assert blobs.get("s", f"r{size}", 1.0) == data
    assert blobs.get("s", "never", 1.0) is None
    assert blobs.get("other", "r1", 1.0) is None, "a scope sees its own only"
    assert blobs.get("s\x1fr", "1", 1.0) is None


@law
def blobs_age_from_the_last_put(stores: Stores) -> None:
    week = 7 * 86400.0
    stores.blobs.put("s", "r", b"data", 0.0)
    stores.blobs.put("s", "r", b"data", week - 1)
    assert stores.blobs.get("s", "r", week + 1) == b"data"
    assert stores.blobs.get("s", "r", 2 * week) is None


@law
def what_is_kept_is_told_by_scope(stores: Stores) -> None:
    stores.blobs.put("a", "r1", b"12345", 3.0)
    stores.blobs.put("a", "r2", b"x" * 40_000, 7.0)
    stores.blobs.put("b", "r1", b"", 5.0)
    assert stores.slots.commit([Write(("a", "x"), [1], 0), Write(("b", "y"), "é", 0)], 2.0)
    assert stores.slots.commit([Write(("a", "z"), {}, 0)], 4.0)
    stores.evidence.append("1", "c", [Note("k", "v")], 5, 6.0)
    stores.ledger.reserve("1", [Charge("m", "usd", 1), Charge("m", "calls", 1)], 9.0, 8.0)
    assert stores.blobs.kept() == [Kept("a", 2, 40_005, 3.0, 7.0), Kept("b", 1, 0, 5.0, 5.0)]
    one, two = stores.slots.kept()
    assert (one.scope, one.items, one.oldest, one.newest) == ("a", 2, 2.0, 4.0)
    assert (two.scope, two.items) == ("b", 1)
    assert one.size > 0
    assert [(k.scope, k.newest) for k in stores.evidence.kept()] == [("c", 6.0)]
    assert stores.ledger.kept() == [Kept("m", 2, 0, 8.0, 8.0)]


@law
def purging_forgets_what_is_meant_and_no_more(stores: Stores) -> None:
    for scope in ("a", "b"):
        for number in range(150):
            stores.blobs.put(scope, f"r{number}", b"x" * 20 * number, float(number % 2))
        assert stores.slots.commit([Write((scope, "x"), 1, 0)], 1.0)
        stores.evidence.append("1", scope, [Note("k", "v")], 5, 1.0)
        stores.ledger.settle(f"done {scope}", [Charge(scope, "usd", 3)], 1.0)
    assert stores.blobs.purge(0.5, lambda scope: scope == "a") == 75
    assert [stores.blobs.get("a", f"r{n}", 1.0) is None for n in range(4)] == [True, False] * 2
    for home in (stores.slots, stores.evidence, stores.ledger):
        assert home.purge(9.0, lambda scope: scope == "a") == 1
        assert [kept.scope for kept in home.kept()] == ["b"]
    assert stores.blobs.purge(math.inf, lambda scope: scope == "a") == 75
    assert [kept.scope for kept in stores.blobs.kept()] == ["b"]
    assert stores.blobs.get("b", "r0", 1.0) == b""
    assert stores.blobs.purge(math.inf) == 150
    assert stores.blobs.kept() == []


@law
def closing_twice_is_fine(stores: Stores) -> None:
    stores.close()
    stores.close()
