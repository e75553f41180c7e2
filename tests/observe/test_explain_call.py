"""`clawmw explain-call`: what a person reads of one call, and that none of it is made up."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.cli.explain_call import command
from clawmw.observe.explained.context import mechanism
from clawmw.observe.explained.facts import Facts
from clawmw.observe.explained.telling import tell
from clawmw.observe.reading.calls import find_calls
from clawmw.observe.store.spanstore import SpanRow, SpanStore
from clawmw.stages.context.compress.base import REDUCERS
from tests.observe.scene import Scene, scene


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SCENE_KEY", "scene-secret-0815")
    with scene(tmp_path_factory.mktemp("scene"), "local") as made:
        yield made
    patch.undo()


def explained(seen: Scene, *arguments: str, ok: bool = True) -> Result:
    where = ("--store", str(seen.store))
    result = CliRunner().invoke(command, [*arguments, *where])
    assert (result.exit_code == 0) is ok, result.output
    return result


def told(seen: Scene, call: str, *more: str) -> str:
    """The text, its lines joined."""
    policy = ("--policy", str(seen.policy))
    return re.sub(r"\s+", " ", explained(seen, seen.calls[call], *policy, *more).output)


def test_it_tells_what_was_asked_and_what_was_sent(seen: Scene) -> None:
    text = told(seen, "third")
    assert "asked anthropic/claude-sonnet-5-5 with 8 messages and 2 tool definitions" in text
    assert re.search(r"About [\d,]+ of the [\d,]+ tokens were sent: \d+% less", text)
    assert "Tables put in a shorter form: saved about" in text
    assert "Message 4, a tool result of search: about" in text
    assert "offered one more tool, clawmw_expand" in text


def test_it_names_the_line_of_the_policy_that_decided(seen: Scene) -> None:
    lines = seen.policy.read_text().splitlines()
    for call, words in (
        ("third", "compress: balanced"),
        ("title", "kind == 'title'"),
        ("retried", "retry:"),
        ("loop", "loop_guard:"),
        ("pages", "chain: {calls: 40"),
    ):
        number = next(i for i, line in enumerate(lines, 1) if words in line)
        assert f"clawmw.yaml:{number}: {lines[number - 1].strip()}" in told(seen, call)


def test_a_policy_that_changed_since_is_not_quoted(seen: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(seen.policy.read_text().replace("calls: 40", "calls: 41"))
    text = explained(seen, seen.calls["third"], "--policy", str(other)).output
    assert "is another one now" in text
    assert "other.yaml:" not in text
    shutil.copy(seen.policy, tmp_path / "same.yaml")
    text = explained(seen, seen.calls["third"], "--policy", str(tmp_path / "same.yaml")).output
    assert "same.yaml:" in text


def test_it_tells_of_routing_with_both_sums(seen: Scene) -> None:
    text = told(seen, "title")
    assert "A rule sent it to deepseek/deepseek-v4-flash instead of anthropic" in text
    assert re.search(r"These tokens cost \$[\d.]+ there, and would cost about \$[\d.]+ with", text)


def test_it_tells_of_attempts_loops_budgets_and_the_cache(seen: Scene) -> None:
    retried = told(seen, "retried")
    assert "Attempt 1: anthropic/claude-sonnet-5-5 failed (503)" in retried
    assert "What failed for the moment was tried again." in retried
    assert re.search(r"After it, 3\d calls of this chain's 40 calls are left", retried)
    assert re.search(r"The provider read [\d,]+ of [\d,]+ input tokens", told(seen, "third"))
    stopped = told(seen, "loop")
    assert "Nothing was sent to a model" in stopped
    assert "saw a loop (the same tool call gave the same result 6 times)" in stopped
    assert "refused the call" in stopped
    assert "It cost nothing" in stopped


def test_the_sum_is_worked_out_and_agrees_with_what_was_recorded(seen: Scene) -> None:
    for call in ("first", "third", "title", "retried"):
        text = told(seen, call)
        assert re.search(r"[\d,]+ output tokens × \$[\d.]+ per million = \$", text)
        assert re.search(r"Together \$[\d.]+, at the prices of 20\d\d-\d\d-\d\d", text)
        assert "was recorded with" not in text


def test_json_says_the_same_and_has_the_outline(seen: Scene) -> None:
    policy = ("--policy", str(seen.policy))
    data = json.loads(explained(seen, seen.calls["third"], "--json", *policy).output)
    assert data["policy"]["agrees"] is True
    sent = next(s for s in data["sections"] if s["title"] == "What was sent")
    by = next(p for p in sent["points"] if p["rule"] == "compress.table")
    assert by["policy"]["text"] == "compress: balanced"
    assert [m["role"] for m in data["outline"]["messages"]][:3] == ["system", "user", "assistant"]
    assert "content" not in json.dumps(data["outline"])


def test_a_call_is_found_by_what_people_have_of_it(seen: Scene) -> None:
    store = SpanStore.read(seen.store)
    (span,) = find_calls(store, seen.calls["third"])
    store.close()
    for wanted in (span.span_id, span.span_id[:9], seen.calls["third"]):
        assert f"span {span.span_id}" in explained(seen, wanted).output
    assert "exchange" in explained(seen, "--latest").output
    unknown = explained(seen, "feedbeef0000", ok=False).output
    assert "no call's span id or exchange id begins with 'feedbeef0000'" in unknown
    assert "could be one of" in explained(seen, seen.calls["third"][:4], ok=False).output
    assert explained(seen, ok=False).exit_code == 2


def test_an_empty_store_is_said_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--latest", "--store", str(tmp_path / "none.sqlite")])
    assert result.exit_code == 1
    assert "no calls yet" in result.output


def test_the_texts_are_compared_where_they_are_kept(seen: Scene) -> None:
    text = explained(seen, seen.calls["third"], "--diff").output
    assert '- [{"id": "tkt_000000"' in text
    assert "+ [clawmw_expand " in text
    assert "message 4, tool: tables put in a shorter form" in text


def test_where_no_texts_are_kept_it_says_how_to_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENE_KEY", "scene-secret-0815")
    with scene(tmp_path) as made:
        text = explained(made, made.calls["third"], "--diff").output
        assert "`trace: {content: local}` keeps them" in text
        whole = b"".join(path.read_bytes() for path in tmp_path.glob("traces.sqlite*"))
        for word in (b"Lisbon.", b"flights.", b"alert", b"scene-secret", b"Ticket", b"89 euros"):
            assert word not in whole


def test_nothing_hostile_reaches_the_terminal(seen: Scene) -> None:
    for call in seen.calls:
        text = explained(seen, seen.calls[call], "--diff").output
        for sign in ("\x1b[31m", "\u202e"):
            assert sign not in text
    span = SpanRow("1" * 32, "2" * 16, None, "chat", "chat \x1b[31mm", 1, 2, "ok", agent="\x1b]0;x")
    for section in tell(Facts(span)):
        assert "\x1b" not in "".join(point.text for point in section.points)


@pytest.mark.parametrize("events", [[], [{"name": "clawmw.acted"}], [{"name": "clawmw.attempt"}]])
def test_a_span_that_says_little_is_told_of_all_the_same(events: list[dict[str, Any]]) -> None:
    """Other libraries' spans, and those of other releases, lack most of it."""
    row = SpanRow(
        "1" * 32, "2" * 16, None, "chat", "chat m", 1, 2, "ok", attempts=1, source="other",
        events=tuple({**event, "time_ns": 1, "stage": "loop_guard"} for event in events),
    )  # fmt: skip
    text = " ".join(point.text for section in tell(Facts(row)) for point in section.points)
    assert "recorded by other" in text
    assert "None" not in text


def test_every_mechanism_has_words_of_its_own() -> None:
    assert mechanism("compress.table@3") == mechanism("compress.table")
    assert mechanism("my_stage.thing@1") == "my_stage.thing"
    for kind in REDUCERS:
        said = mechanism(f"compress.{kind.name}")
        assert said != mechanism("compress"), kind.name


NAMES = (
    "acted", "loop.capped", "attempt", "admission.waited", "budget.near", "budget.overdrawn",
    "breaker", "cache.missed", "epoch", "stage.failed", "degraded", "cost.assumed", "body.unread",
    "identity.derived",
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([1])
)
KEYS = st.sampled_from(
    ["stage", "rule", "action", "would", "seconds", "number", "meter", "used", "limit", "state",
     "index", "byte", "lost_usd", "moved", "usd", "reason", "time_ns", "scope", "detail.count",
     "detail.used", "detail.limit", "expected_calls", "refused", "tool", "upstream"]
)  # fmt: skip


@given(
    events=st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(KEYS, VALUES)), max_size=4),
    attributes=st.dictionaries(
        st.sampled_from(["clawmw.messages", "clawmw.upstream_ms", "clawmw.saved.by.x"]), VALUES
    ),
    attempts=st.none() | st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_span_says_there_is_something_to_tell(
    events: list[tuple[str, dict[str, Any]]], attributes: dict[str, Any], attempts: int | None
) -> None:
    """A collector takes spans from whoever sends them."""
    row = SpanRow(
        "1" * 32, "2" * 16, None, "chat", "chat m", 1, 2, "ok", attempts=attempts,
        attributes=attributes,
        events=tuple({**more, "name": f"clawmw.{name}"} for name, more in events),
    )  # fmt: skip
    for section in tell(Facts(row)):
        assert all(point.text.isprintable() for point in section.points)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"name": "clawmw.cache.missed", "moved": "message", "index": 3, "byte": 1200,
             "lost_usd": 0.0312, "predicted": 9000, "read": 0},
            ("message 4 was not what it was in the call before, from its byte 1,200 on. All that "
            "follows it had to be read anew. That cost about $0.0312 more."),
        ),
        (
            {"name": "clawmw.cache.missed", "moved": "provider", "predicted": 9000, "read": 0},
            "nothing of the prompt had moved: the provider no longer held it",
        ),
        (
            {"name": "clawmw.admission.waited", "seconds": 2.5, "class": "background"},
            "It waited 2.5s for its turn, as background work.",
        ),
        (
            {"name": "clawmw.budget.near", "scope": "chain", "day": "", "meter": "usd",
             "limit": 10**9, "used": 85 * 10**7},
            "The budget of this chain is nearly used up: $0.8500 of $1.00.",
        ),
        (
            {"name": "clawmw.acted", "stage": "fallback", "action": "retry",
             "rule": "fallback.light"},
            "The model failed, so light was asked instead.",
        ),
        (
            {"name": "clawmw.acted", "stage": "degrade", "action": "rewrite",
             "rule": "degrade.compress"},
            "One step down the ladder of poorer answers: old history goes out in a shorter form.",
        ),
        (
            {"name": "clawmw.acted", "stage": "reuse", "action": "answer", "rule": "reuse.ttl"},
            "An earlier answer to the very same call was given again; no model was asked.",
        ),
        (
            {"name": "clawmw.epoch", "stage": "epochs", "reason": "pays", "tokens_before": 52_000,
             "tokens_after": 31_000, "price_usd": 0.03, "saving_usd": 0.12, "expected_calls": 9.5},
            ("writing it again costs about $0.0300, and saves about $0.1200 over this call and "
             "the 9.5 expected after it."),
        ),
        (
            {"name": "clawmw.stage.failed", "stage": "dedupe", "error": "KeyError"},
            "dedupe failed (KeyError), and was skipped.",
        ),
        (
            {"name": "clawmw.acted", "stage": "window", "action": "halt", "rule": "window.full",
             "detail.used": "about 9,000 tokens are left", "detail.limit": "about 8,000 tokens",
             "detail.scope": "call"},
            ("The call was refused: about 9,000 tokens are left; allowed is about 8,000 tokens "
             "for the call."),
        ),
        (
            {"name": "clawmw.acted", "stage": "night", "action": "rewrite", "rule": "night.owl"},
            "The stage night changed the request or the answer.",
        ),
        (
            {"name": "clawmw.cost.assumed", "usd": 0.25},
            "$0.2500 were charged, which is the most it can have been.",
        ),
    ],
)  # fmt: skip
def test_each_thing_that_can_happen_has_its_sentence(event: dict[str, Any], said: str) -> None:
    row = SpanRow(
        "1" * 32, "2" * 16, None, "chat", "chat m", 1, 2, "ok", attempts=1, model="m",
        cache_read_tokens=0, input_tokens=9000, predicted_tokens=9000, output_tokens=10,
        events=({"time_ns": 1, **event},),
    )  # fmt: skip
    text = " ".join(point.text for section in tell(Facts(row))
                    for point in section.points)  # fmt: skip
    assert said in text
    assert "cannot be read" not in text
