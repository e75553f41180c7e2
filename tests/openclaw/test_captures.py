"""Requests captured from a real OpenClaw, where they are: `CLAWMW_CAPTURES` names their folder.

One JSON object a file: `path`, `headers`, `body`. They are no part of the project.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from clawmw.core.identity import Identity, identify
from clawmw.core.story import is_transient
from clawmw.core.types import Request
from clawmw.policy.build import codecs
from clawmw.testing import Bench

FOLDER = Path(os.environ.get("CLAWMW_CAPTURES", "no such folder"))
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
DIALECTS = {"/chat/completions": "openai.chat", "/messages": "anthropic.messages"}
pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(not FILES, reason=f"no captures in {FOLDER} (CLAWMW_CAPTURES)"),
]


def captured(name: str) -> tuple[dict[str, Any], Request, Identity]:
    """The body, decoded, and who it is from."""
    kept = json.loads(next(path for stem, path in FILES.items() if name in stem).read_text())
    body = json.loads(kept["body"]) if isinstance(kept["body"], str) else kept["body"]
    dialect = next(name for end, name in DIALECTS.items() if kept["path"].endswith(end))
    if dialect not in codecs():
        pytest.skip(f"no codec for {dialect} yet")
    request = codecs()[dialect].decode(json.dumps(body).encode())
    headers = {name.lower(): value for name, value in kept["headers"].items()}
    return body, request, identify(request, headers)


@pytest.mark.parametrize("name", FILES)
def test_each_is_recognised(name: str) -> None:
    _, request, who = captured(name)
    assert (who.client, who.agent) == ("openclaw", "main")
    assert not who.derived
    kinds = {"heartbeat": "heartbeat", "subagent": "subagent", "self-review": "review"}
    assert who.kind == next((kind for sign, kind in kinds.items() if sign in name), None)
    assert [is_transient(message) for message in request.messages[-2:]] == [False, True]


def test_a_sub_agent_is_of_its_parents_chain() -> None:
    parent, child = captured("spawn-call2")[2], captured("subagent-child")[2]
    assert parent.chain == child.chain
    assert parent.session != child.session
    assert captured("s1-turn1-call1")[2].chain != captured("s1-turn2-call1")[2].chain


@pytest.mark.parametrize("profile", ["claude-sonnet-4-6", "gpt-5.6"])
def test_what_is_said_anew_goes_as_it_came_and_the_rest_stays(profile: str) -> None:
    bench = Bench({"version": 1, "models": {"m": {"model": "fake", "profile": profile}}})
    before: list[Any] = []
    for name in ("s1-turn1-call1", "s1-turn1-call2", "s1-turn2-call1", "s1-turn2-call2"):
        body, _, _ = captured(name)
        sent = bench.send(body["messages"], tools=body["tools"]).body["messages"]
        assert sent[-1] == body["messages"][-1]
        texts = [(m["role"], _text(m)) for m in sent[:-1]]
        assert texts[: len(before)] == before
        before = texts


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else "".join(p["text"] for p in content or ())
