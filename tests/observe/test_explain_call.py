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

from clawmw.cli.explain_call import command
from clawmw.observe.calls import find_calls
from clawmw.observe.explained.context import mechanism
from clawmw.observe.explained.facts import Facts
from clawmw.observe.explained.telling import tell
from clawmw.observe.spanstore import SpanRow, SpanStore
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
