"""The net bill: prefix hits, what asking back costs, the clairvoyant bound."""

from __future__ import annotations

import os

import pytest

from clawmw.core.money import CacheRules, Price, Profile
from clawmw.core.types import Request
from clawmw.replay import tokens
from clawmw.replay.bill import Item, Money, Net, Prefixes, Sized, bare, price
from clawmw.replay.records import CODEC, dump
from clawmw.replay.tokens import Counter
from tests.conftest import turn
from tests.replay import samples

RULES = CacheRules("automatic", min_tokens=100, granularity=10)
PROFILE = Profile(
    "p",
    "p",
    Price(100, 500, 10, 125, "2026-11-22", "test"),
    CacheRules("marks", min_tokens=100, bills_writes=True),
    "cached_apart",
    "2026-11-22",
    (),
)
FREE_WRITES = Profile(
    "w", "w", Price(100, 500, 10, 100, "x", "x"), RULES, "cached_in_input", "", ()
)
UNKNOWN = Profile("u", "u", None, RULES, "cached_in_input", "", ())


def sized(*blocks: str, model: str = "m") -> Sized:
    """A request of blocks of 100 tokens, named by what they begin with."""
    digests = tuple("/".join(blocks[: i + 1]) for i in range(len(blocks)))
    return Sized(model, tuple(100 for _ in blocks), digests)


def billed(*items: Item, profile: Profile = PROFILE, cached: bool = True) -> int | None:
    return price(items, profile, lambda _: FREE_WRITES, cached=cached)[0]


def test_a_hit_is_the_longest_prefix_any_earlier_call_had() -> None:
    cache = Prefixes()
    assert cache.hit(sized("t", "a", "b")) == 0
    assert cache.hit(sized("t", "a", "c")) == 2
    assert cache.hit(sized("t", "a", "b", "d")) == 3  # of the first, not of the one before
    assert cache.hit(sized("x", "a", "b")) == 0
    assert cache.hit(sized("t", "a", model="other")) == 0


def test_caching_is_billed_by_the_providers_rules() -> None:
    assert billed(Item(0, 1000), cached=False) == 1000 * 100
    assert billed(Item(0, 1000)) == 1000 * 125
    assert billed(Item(600, 1000)) == 600 * 10 + 400 * 125
    assert billed(Item(0, 90)) == 90 * 100  # below the minimum nothing is written
    assert billed(Item(605, 1000), profile=FREE_WRITES) == 600 * 10 + 400 * 100
    assert billed(Item(0, 1000, "light")) == 1000 * 100  # routed: the other model's price
    assert billed(Item(0, 1000), profile=UNKNOWN) is None


def test_a_hidden_literal_costs_a_call_and_is_carried_from_then_on() -> None:
    net = Net()
    net.call(sized("t", "a"), 0, "", ())
    net.call(sized("t", "a", "b"), 2, "", (1500,))
    net.call(sized("t", "a", "b", "c"), 3, "", ())
    net.call(sized("t", "x"), 1, "", ())  # the agent went back to before the slice
    assert net.items == [
        Item(0, 200),
        Item(200, 300),
        Item(300, 1800),
        Item(1800, 1900),
        Item(100, 1700),
    ]


def test_the_bound_keeps_only_what_will_be_needed() -> None:
    counter = Counter()
    result = turn("a", "get", {"q": "x"}, samples.page(50))
    request = CODEC.decode(dump({"model": "m", "messages": [samples.user("Go."), *result]}))
    first, call, page = [counter.message(m) for m in request.messages]
    wire = request.messages[2].wire or b""
    assert bare(request.messages, {}, counter) == [first, call, tokens.MESSAGE]
    kept = bare(request.messages, {wire: ["Ride 7"]}, counter)
    assert tokens.MESSAGE < kept[2] < page / 50


def test_the_score_is_one_for_the_bound_and_none_without_room() -> None:
    assert Money(native=100, net=50, bound=50).score == 1
    assert Money(native=100, net=100, bound=50).score == 0
    assert Money(native=100, net=125, bound=50).score == -0.5
    assert Money(native=100, net=90, bound=100).score is None
    assert (Money(native=1, net=2) + Money(native=None, net=3)).native is None
    assert (Money(native=1, net=2) + Money(native=None, net=3)).net == 5


def test_counts_are_exact_without_a_network() -> None:
    counter = Counter()
    assert (counter.tokenizer, counter.basis) == ("o200k_base", "exact")
    assert counter.text("hello world") == 2
    assert counter.text("hello world " * 50) == counter.text("hello world " * 50) == 101
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_cache_marks_are_no_tokens() -> None:
    counter = Counter()
    marked = {
        "role": "user",
        "content": [
            {"type": "text", "text": "Hello there", "cache_control": {"type": "ephemeral"}},
        ],
    }
    plain = {"role": "user", "content": "Hello there"}
    assert counter.message(CODEC.message(dump(marked))) == counter.message(
        CODEC.message(dump(plain))
    )


def test_an_image_counts_by_its_kind_not_by_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}
    message = CODEC.message(dump({"role": "user", "content": [image]}))
    assert Counter().message(message) == tokens.IMAGE + tokens.MESSAGE


@pytest.mark.parametrize("missing", ["litellm", "files"])
def test_without_a_tokenizer_counts_are_estimates_and_say_so(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "litellm":
        monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    else:
        monkeypatch.setattr(tokens, "_URL", "nowhere/{}")
    counter = Counter()
    assert (counter.tokenizer, counter.basis) == ("estimate", "estimated")
    assert counter.text("hello world") == tokens.estimate("hello world")


def test_sizes_add_up() -> None:
    request: Request = CODEC.decode(dump({"model": "m", "messages": [samples.SYSTEM]}))
    size = Sized.of(request, Counter())
    assert len(size.tokens) == len(size.digests) == 2
    assert size.tokens[0] == 0
    assert size.total == size.prefix(2) > size.prefix(1) == 0
