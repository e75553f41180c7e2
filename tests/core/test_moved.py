"""A predicted cache hit that does not come: the event names what moved, and only then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.events import CacheMissed
from clawmw.core.moved import first_difference
from clawmw.core.types import Outcome, Usage
from clawmw.emulator.bill import PrefixCache
from clawmw.observe.spans.attributes import Call
from clawmw.observe.spans.marks import marks
from clawmw.providers.load import profile_for
from clawmw.testing import Bench, Sent, answer
from tests.conftest import tool

PROFILE = "claude-sonnet-4-6"
SYSTEM = "".join(f"Rule {i}: of {i * 7} tickets, sell {i}. " for i in range(400))
TOOLS = [tool("read"), tool("write")]


@dataclass
class Provider:
    """A provider that bills by its own idea of a prefix."""

    reports: bool = True
    cache: PrefixCache = field(default_factory=PrefixCache)

    def __call__(self, body: dict[str, Any]) -> Outcome:
        usage = self.cache.bill(body, profile_for(PROFILE), tenant="t", now=0.0, output=5)
        return answer(usage=usage if self.reports else Usage(usage.input_tokens, 5))


def bench(provider: Provider, **policy: Any) -> Bench:
    models = {"m": {"model": "fake", "profile": PROFILE}}
    return Bench({"version": 1, "models": models, "compress": False, **policy}, provider)


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


FIRST = [said(SYSTEM, "system"), said("one " * 50), said("yes", "assistant"), said("two")]


def missed(sent: Sent) -> list[CacheMissed]:
    return [event for event in sent.events if isinstance(event, CacheMissed)]


def grown(*changed: tuple[int, dict[str, Any]]) -> list[dict[str, Any]]:
    messages = [*FIRST, said("yes", "assistant"), said("three")]
    for index, message in changed:
        messages[index] = message
    return messages


def test_a_hit_is_no_news() -> None:
    case = bench(Provider())
    assert not missed(case.send(FIRST, tools=TOOLS))
    later = case.send(grown(), tools=TOOLS)
    assert not missed(later)
    usage = later.result.finished.usage
    assert usage is not None
    assert (usage.cache_read_tokens or 0) > 3000


def test_the_tool_that_moved_is_named() -> None:
    case = bench(Provider())
    case.send(FIRST, tools=TOOLS)
    event = missed(case.send(grown(), tools=[TOOLS[0], tool("zip")]))[0]
    assert (event.part, event.index, event.tool) == ("tools", 1, "zip")
    assert event.read == 0
    assert event.predicted > 3000


def test_the_byte_of_the_system_prompt_is_named_as_far_as_this_process_knows_it() -> None:
    case = bench(Provider())
    case.send(FIRST, tools=TOOLS)
    changed = grown((0, said("é" + SYSTEM[:100] + "!" + SYSTEM[100:], "system")))
    event = missed(case.send(changed, tools=TOOLS))[0]
    assert (event.part, event.index, event.byte) == ("system", 0, 0)

    other = bench(Provider())
    other.send(FIRST, tools=TOOLS)
    late = grown((0, said(SYSTEM[:100] + "!" + SYSTEM[100:], "system")))
    event = missed(other.restart().send(late, tools=TOOLS))[0]
    assert (event.part, event.index, event.byte) == ("system", 0, None)


def test_a_message_that_was_edited_is_named() -> None:
    case = bench(Provider())
    case.send(grown(), tools=TOOLS)
    longer = [*grown((1, said("one " * 40 + "1 " * 10))), said("ok", "assistant"), said("four")]
    found = missed(case.send(longer, tools=TOOLS))
    # what is before it is still read from the head's mark: the miss is not worth a word
    assert not found
    small = bench(Provider(), prompt_cache=False)
    marked = [{"type": "text", "text": "go", "cache_control": {"type": "ephemeral"}}]
    history = [said("short", "system"), said(SYSTEM), said("yes", "assistant")]
    small.send([*history, {"role": "user", "content": marked}], tools=TOOLS)
    history[1] = said("x" + SYSTEM)
    again = [*history, {"role": "user", "content": marked}, said("yes", "assistant"), said("more")]
    event = missed(small.send(again, tools=TOOLS))[0]
    assert (event.part, event.index, event.byte) == ("message", 1, 0)


def test_a_tail_that_is_replaced_moves_nothing() -> None:
    case = bench(Provider())
    case.send([*FIRST, said("jobs: 1 running, since 10:00")], tools=TOOLS)
    longer = [*FIRST, said("yes", "assistant"), said("go"), said("jobs: none")]
    assert not missed(case.send(longer, tools=TOOLS))


def test_when_nothing_of_ours_moved_it_was_the_provider() -> None:
    provider = Provider()
    case = bench(provider)
    case.send(FIRST, tools=TOOLS)
    provider.cache = PrefixCache()  # evicted
    event = missed(case.send(grown(), tools=TOOLS))[0]
    assert (event.part, event.index, event.byte) == ("provider", None, None)
    call = Call()
    call.add(event)
    name, _, attributes = next(iter(marks(call)))
    assert name == "clawmw.cache.missed"
    assert attributes["moved"] == "provider"
    assert "index" not in attributes


def test_without_the_providers_own_count_nothing_is_claimed() -> None:
    case = bench(Provider(reports=False))
    case.send(FIRST, tools=TOOLS)
    assert not missed(case.send(grown(), tools=[tool("zip")]))


def test_a_cache_gone_cold_is_no_miss() -> None:
    case = bench(Provider())
    case.send(FIRST, tools=TOOLS)
    case.clock.now += 4000  # type: ignore[attr-defined]
    assert not missed(case.send(grown(), tools=[tool("zip")]))


@pytest.mark.parametrize(
    ("one", "other", "at"), [(b"", b"", 0), (b"ab", b"abc", 2), (b"a", b"b", 0)]
)
def test_the_first_difference(one: bytes, other: bytes, at: int) -> None:
    assert first_difference(one, other) == at


@given(st.binary(max_size=40), st.binary(max_size=20), st.binary(max_size=20))
def test_the_first_difference_is_the_first(head: bytes, one: bytes, other: bytes) -> None:
    at = first_difference(head + one, head + other)
    a, b = head + one, head + other
    assert a[:at] == b[:at]
    assert at == min(len(a), len(b)) or a[at] != b[at]
