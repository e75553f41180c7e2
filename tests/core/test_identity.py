"""Who is calling: every source, in its order, and what may not cross."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from clawmw.codecs.openai_chat import OpenAIChat
from clawmw.codecs.openai_responses import OpenAIResponses
from clawmw.core.identity import Identity, identify
from clawmw.core.types import Earlier, Request

CLAW = "You are a personal assistant running inside OpenClaw."
LINE = "Runtime: agent=main | session={key} | sessionId=s-1 | host=vm"
TRACE = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


def request(*messages: tuple[str, str], **params: Any) -> Request:
    said = [{"role": role, "content": text} for role, text in messages or (("user", "hello"),)]
    return OpenAIChat().decode(json.dumps({"model": "m", "messages": said, **params}).encode())


def openclaw(key: str = "agent:main:main", text: str = "hi", **params: Any) -> Request:
    return request(("system", CLAW), ("user", f"{text}\n\n{LINE.format(key=key)}"), **params)


def test_what_code_says_comes_first() -> None:
    given = Identity("acme", "writer", "s", "c", "p", "flow", 3)
    headers = {f"x-clawmw-{n}": "other" for n in ("agent", "session", "chain", "parent", "kind")}
    who = identify(openclaw(), {**headers, **TRACE, "x-clawmw-hop": "9"}, given)
    assert (who.tenant, who.agent, who.session, who.chain) == ("acme", "writer", "s", "c")
    assert (who.parent, who.kind, who.hop) == ("p", "flow", 3)
    assert not who.derived


def test_our_headers_come_before_those_of_agents_and_the_body() -> None:
    headers = {
        "x-clawmw-agent": "scout",
        "x-clawmw-session": "s9",
        "x-clawmw-chain": "c9",
        "x-clawmw-parent": "p9",
        "x-clawmw-kind": "title",
        "x-clawmw-hop": "2",
        "x-session-id": "theirs",
        **TRACE,
    }
    who = identify(openclaw(), headers)
    assert (who.agent, who.session, who.chain) == ("scout", "s9", "c9")
    assert (who.parent, who.kind, who.hop, who.client) == ("p9", "title", 2, "openclaw")


@pytest.mark.parametrize(
    ("headers", "client", "agent", "session", "above"),
    [
        ({"x-claude-code-session-id": "s"}, "claude-code", "claude-code", "s", None),
        (
            {"x-claude-code-session-id": "s", "x-claude-code-agent-id": "a1"},
            "claude-code",
            "claude-code",
            "s/a1",
            "s",
        ),
        (
            {
                "x-claude-code-session-id": "s",
                "x-claude-code-agent-id": "a2",
                "x-claude-code-parent-agent-id": "a1",
            },
            "claude-code",
            "claude-code",
            "s/a2",
            "s/a1",
        ),
        ({"session-id": "t", "originator": "codex_cli_rs"}, "codex", "codex", "t", None),
        ({"session-id": "t2", "x-codex-parent-thread-id": "t"}, "codex", "codex", "t2", "t"),
        ({"x-session-id": "o", "user-agent": "opencode/1.2"}, "opencode", "opencode", "o", None),
        ({"x-session-id": "o2", "x-parent-session-id": "o"}, "opencode", "opencode", "o2", "o"),
        ({"x-session-affinity": "o3", "user-agent": "ai-sdk/5"}, "", "default", "o3", None),
        ({"user-agent": "claude-cli/2.0 (external)"}, "claude-code", "claude-code", None, None),
        ({"user-agent": "OpenAI/Python 2.54.0"}, "", "default", None, None),
    ],
)
def test_known_agents_name_their_sessions(
    headers: dict[str, str], client: str, agent: str, session: str | None, above: str | None
) -> None:
    who = identify(request(), headers)
    assert (who.client, who.agent, who.parent_session) == (client, agent, above)
    assert who.session == session or (session is None and "session" in who.derived)


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("agent:main:main", "hi", None),
        ("agent:main:subagent:77c4", "hi", "subagent"),
        ("agent:main:internal-session-effects:skill-workshop-review_1", "hi", "review"),
        ("agent:main:main", "Follow the heartbeat monitor scratch context when", "heartbeat"),
        ("agent:main:main", "A background task completed. source: x", "announce"),
    ],
)
def test_openclaw_says_who_it_is_in_the_prompt(key: str, text: str, kind: str | None) -> None:
    who = identify(openclaw(key, text), {"user-agent": "OpenAI/JS 7.15.0", **TRACE})
    assert (who.client, who.agent, who.session, who.kind) == ("openclaw", "main", "s-1", kind)
    assert who.chain == "ab" * 16
    assert not who.derived


def test_a_cache_key_of_openclaws_form_is_its_session() -> None:
    assert identify(request(prompt_cache_key="s-7:0"), {}).session == "s-7"
    assert "session" in identify(request(prompt_cache_key="my-prompt"), {}).derived


def test_who_gives_nothing_gets_a_derived_session_and_chain() -> None:
    """Never no limit. A name from outside cannot be one of ours."""
    who = identify(request(), {})
    assert who.derived == {"session", "chain"}
    assert who.agent == "default"
    claimed = identify(request(), {"x-clawmw-session": who.session, "x-clawmw-chain": who.chain})
    assert claimed.session != who.session
    assert claimed.chain != who.chain


def test_ids_from_outside_are_short_and_printable() -> None:
    """X14, X17: whatever a header holds, keys stay small and on one line."""
    wild = "a\r\nset-cookie: x\x1f~#" + "b" * 9000
    who = identify(request(), {"x-clawmw-session": wild, "x-clawmw-agent": "\x00", **TRACE})
    assert len(who.session) <= 128
    assert not set(who.session) & set("\r\n\x1f~# ")
    assert who.agent == "_"


@pytest.mark.parametrize("hop", ["-1", "1e3", "99999", "²", "x", ""])
def test_a_hop_that_is_no_number_is_none(hop: str) -> None:
    assert identify(request(), {"x-clawmw-hop": hop}).hop == 0


@pytest.mark.parametrize("value", ["", "00-xyz", f"00-{'0' * 32}-{'1' * 16}-01", "00-" + "AB" * 16])
def test_a_traceparent_that_is_none_names_no_chain(value: str) -> None:
    assert "chain" in identify(request(), {"traceparent": value}).derived


@pytest.mark.parametrize(
    ("priority", "deadline"),
    [("5", "nan"), ("[1]", "-3"), ("1e9", "inf"), ("x" * 999, "soon"), ("", "")],
)
def test_wild_wishes_are_clamped(priority: str, deadline: str) -> None:
    """A5: never a TypeError, never a deadline that cannot be waited for."""
    headers = {"x-clawmw-priority": priority, "x-clawmw-deadline": deadline}
    wishes = identify(request(), headers).wishes
    assert wishes.deadline is None or 0 < wishes.deadline <= 86_400
    assert wishes.priority is None or len(wishes.priority) <= 128


def test_no_header_names_a_tenant_and_every_key_begins_with_it() -> None:
    """Ids never cross tenants, however they are chosen."""
    names = ("agent", "session", "chain", "parent", "tenant")
    headers: Mapping[str, str] = {f"x-clawmw-{n}": "same" for n in names}
    one, other = (identify(request(), headers, Identity(tenant=t)) for t in ("a", "ab"))
    for level in ("tenant", "agent", "session", "chain"):
        assert one.scope(level).split(":", 1)[1].split("\x1f")[0] == "a"
        assert one.scope(level) != other.scope(level)
    # A name cannot be made to read like a tenant and a name.
    sly = identify(request(), {"x-clawmw-session": "b\x1fsame"}, Identity(tenant="a"))
    assert sly.scope("session").count("\x1f") == 1


@pytest.mark.parametrize(
    ("params", "session"),
    [
        ({"conversation": {"id": "conv_1"}}, "conv_1"),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"previous_response_id": "resp_1"}, "known"),
    ],
)
def test_a_conversation_that_its_provider_holds_is_the_session(
    params: dict[str, Any], session: str
) -> None:
    body = {"model": "m", "input": "and then?", **params}
    request = OpenAIResponses().decode(json.dumps(body).encode())
    earlier = Earlier("resp_1", "known", (), None) if request.previous else None
    who = identify(request.going_on(earlier), {})
    assert who.session == session
    assert ("session" in who.derived) is (session == "known")
    assert identify(request, {"x-clawmw-session": "mine"}).session == "mine"
