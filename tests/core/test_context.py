"""Trace context and baggage as they come off the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.context import TraceContext, baggage, carried
from clawmw.core.identity import Identity, identify
from clawmw.core.types import Message, Request, Role, Text

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def who(headers: dict[str, str], explicit: Identity | None = None) -> Identity:
    request = Request("openai.chat", "m", (Message(Role.USER, (Text("hello"),)),))
    return identify(request, headers, explicit)


def test_a_traceparent_names_the_chain_and_keeps_its_span() -> None:
    found = who({"traceparent": PARENT, "tracestate": "vendor=1,other=a:b"})
    assert found.chain == TRACE
    assert found.context == TraceContext(TRACE, SPAN, True, "vendor=1,other=a:b")
    assert found.context.headers() == {
        "traceparent": PARENT,
        "tracestate": "vendor=1,other=a:b",
    }
    assert "chain" not in found.derived


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
    ],
)
def test_what_is_no_traceparent_is_nothing(header: str) -> None:
    found = who({"traceparent": header})
    assert found.context is None
    assert "chain" in found.derived


def test_the_sampled_flag_and_an_odd_tracestate() -> None:
    for flags, sampled in (("00", False), ("01", True), ("02", False), ("03", True)):
        found = TraceContext.of(
            {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": "a=\x07"}
        )
        assert found == TraceContext(TRACE, SPAN, sampled, "")
    assert TraceContext.of({"traceparent": PARENT, "tracestate": "a=" + "x" * 600}).state == ""  # type: ignore[union-attr]


def test_a_named_chain_keeps_its_name_and_the_callers_span() -> None:
    found = who({"traceparent": PARENT, "x-clawmw-chain": "trip-7"})
    assert found.chain == "trip-7"
    assert found.context is not None
    assert found.context.trace == TRACE


def test_baggage_says_who_called_and_the_hop_is_one_more() -> None:
    header = carried(
        {"chain": "trip-7", "hop": "2", "agent": "planner", "session": "s/1", "conversation": "c1"}
    )
    found = who({"baggage": f"userId=alice,{header};ttl=3"})
    assert (found.chain, found.hop) == ("trip-7", 3)
    assert (found.parent_agent, found.parent_session) == ("planner", "s/1")
    assert found.conversation == "c1"
    assert found.agent == "default"
    assert "session" in found.derived
    stated = who({"baggage": header, "x-clawmw-chain": "mine", "x-clawmw-hop": "7"})
    assert (stated.chain, stated.hop) == ("mine", 7)


@pytest.mark.parametrize(
    "value",
    ["a" * 129, "a b", "a%0Ab", "a%00", "%ff", "a%2Cb", "<script>", "", "../é\u2028", "a;b=c d"],
)
def test_baggage_that_is_no_id_is_left_out(value: str) -> None:
    found = who({"baggage": f"clawmw.chain.id={value},clawmw.agent=ok"})
    if value != "a;b=c d":  # a property, which is not part of the value
        assert "chain" in found.derived
    assert found.parent_agent == "ok"


def test_keys_of_others_are_not_taken() -> None:
    assert baggage("tenant=root,clawmw.tenant=root,x-clawmw-agent=a,Clawmw.Agent=b") == {}
    assert baggage("clawmw.agent=first,clawmw.agent=second") == {"agent": "first"}
    assert baggage("x=" + "y" * 9000 + ",clawmw.agent=late") == {}


@given(st.text(max_size=300))
def test_no_baggage_breaks_the_reader(text: str) -> None:
    for value in baggage(text).values():
        assert 0 < len(value) <= 128


@given(st.dictionaries(st.sampled_from(["chain", "agent", "session"]), st.text(max_size=140)))
def test_what_is_carried_arrives_or_is_left_out(values: dict[str, str]) -> None:
    arrived = baggage(carried(values))
    assert all(values[name] == value for name, value in arrived.items())
