"""Reading recorded runs: every form, and every way a file can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawmw.replay.records import Found, Note, Problem, Run, Skipped
from clawmw.replay.sources import Sources
from tests.replay import samples


def read(*paths: Path, open_ends: bool = False) -> list[Found]:
    return list(Sources(paths, model="openai/gpt-5.6", open_ends=open_ends))


def runs(*paths: Path, open_ends: bool = False) -> list[Run]:
    return [found for found in read(*paths, open_ends=open_ends) if isinstance(found, Run)]


def problems(*paths: Path) -> list[str]:
    return [str(found) for found in read(*paths) if isinstance(found, Problem)]


def body(run: Run, index: int = 0) -> dict[str, Any]:
    value = json.loads(run.calls[index].body())
    assert isinstance(value, dict)
    return value


def test_each_assistant_message_is_a_call_on_what_came_before_it(tmp_path: Path) -> None:
    sample = samples.booking()
    (run,) = runs(samples.written(tmp_path / "a.jsonl", [sample]))
    assert [call.step for call in run.calls] == [2, 4, 6, 8]
    for index, call in enumerate(run.calls):
        sent = body(run, index)
        assert sent["messages"] == sample["messages"][: call.step]
        assert sent["tools"] == sample["tools"]
        assert json.loads(call.answer or b"") == sample["messages"][call.step]
    assert (run.source, run.id, run.open_end) == ("trips", "booking", False)


def test_a_greeting_nobody_asked_for_is_no_call_but_the_next_one_is(tmp_path: Path) -> None:
    (run,) = runs(samples.written(tmp_path / "a.jsonl", [samples.chat()]))
    assert [call.step for call in run.calls] == [1, 3, 4]
    assert run.id == "7"
    assert "tools" not in body(run)


def test_a_run_carries_the_tools_it_calls(tmp_path: Path) -> None:
    (run,) = runs(samples.written(tmp_path / "a.jsonl", [samples.missing_ids()]))
    (spec,) = body(run)["tools"]
    assert spec["function"]["name"] == "get"
    properties = spec["function"]["parameters"]["properties"]
    assert properties == {"n": {"type": "integer"}, "deep": {"type": "object"}}
    (call,) = body(run, 1)["messages"][1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"n": 1, "deep": {}}


def test_an_open_end_is_said_and_counted_only_when_asked_for(tmp_path: Path) -> None:
    path = samples.written(tmp_path / "a.jsonl", [samples.open_end()])
    (run,) = runs(path)
    assert run.open_end
    assert [call.step for call in run.calls] == [1]
    (run,) = runs(path, open_ends=True)
    assert [call.step for call in run.calls] == [1, 3]
    assert run.calls[1].answer is None


def test_doubled_run_ids_are_told_apart(tmp_path: Path) -> None:
    path = samples.written(tmp_path / "a.jsonl", [samples.chat(), samples.chat()])
    assert [run.id for run in runs(path)] == ["7", "7#2"]


def test_a_run_without_id_or_source_is_named_after_its_place(tmp_path: Path) -> None:
    (run,) = runs(samples.written(tmp_path / "mine.jsonl", [{"messages": [samples.user("x")]}]))
    assert (run.source, run.id) == ("mine", "mine.jsonl:1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"messages": [{"role": "us', "the JSON breaks off; is the file truncated?"),
        ('{"messages": [{"role": "user", "content": "x"}]', "the JSON breaks off"),
        ("nonsense", "not JSON at column 1"),
        ('{"id": 1}', "neither a run (`messages`)"),
        ("[1, 2]", "neither a run (`messages`)"),
        ('{"messages": []}', "a list of at least one message"),
        ('{"messages": {}}', "a list of at least one message"),
        ('{"messages": [{"role": "king"}]}', "messages[0]: role 'king' is none of the chat form"),
        ('{"messages": ["x"]}', "messages[0]: it is no message"),
        ('{"messages": [{"role": "user", "tool_calls": 5}]}', "messages[0]: it is no message"),
        ('{"messages": [{"role": "user"}], "tools": {"a": 1}}', "`tools` must be a list"),
        ('{"headers": {}, "body": "x"}', "`body` is not JSON"),
        ('{"headers": {}, "body": {"model": "m"}}', "no chat completions request"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_costs_only_itself(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps(samples.chat())
    path.write_text(f"{good}\n\n{line}\n{good}\n", "utf-8")
    found = read(path)
    assert len([f for f in found if isinstance(f, Run)]) == 2
    (problem,) = [str(f) for f in found if isinstance(f, Problem)]
    assert problem.startswith(f"{path}:3: ")
    assert said in problem
    assert "\n" not in problem


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"messages": "\xff\xfe"}\n')
    assert problems(path) == [f"{path}:1: not UTF-8 text at byte 14"]


def test_a_file_that_is_none_of_ours_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some words\n" * 500, "utf-8")
    said = problems(path)
    assert len(said) == 21
    assert said[-1] == f"{path}: no line so far is JSON; is it a file of runs?"


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n \n", "utf-8")
    gone = tmp_path / "gone.jsonl"
    assert problems(gone, empty, tmp_path) == [
        f"{gone}: there is no such file",
        f"{empty}: the file is empty",
        f"{tmp_path}: this is a folder; name the files in it, as in {tmp_path}/*.jsonl",
    ]


# --- captured requests -------------------------------------------------------------------


def captured(messages: list[samples.Message], **more: Any) -> dict[str, Any]:
    request = {"model": "m", "messages": messages, "stream": True, "tools": [samples.tool("get")]}
    return {
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": {
            "Authorization": "Bearer secret",
            "Traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        },
        "body": request,
        **more,
    }


TAIL = samples.user("<transient>")


def session() -> list[dict[str, Any]]:
    """Three requests of one session, each with a last message that is not kept."""
    history = [samples.SYSTEM, samples.user("Go.")]
    first = captured([*history, TAIL])
    history = [*history, *samples.turn("c1", "get", {"q": "a"}, "one")]
    second = captured([*history, TAIL])
    history = [*history, samples.says("Half."), samples.user("More.")]
    return [first, second, captured([*history, TAIL])]


def test_captured_files_of_one_session_are_one_run(tmp_path: Path) -> None:
    paths = []
    for index, value in enumerate(session()):
        paths.append(tmp_path / f"{index}.json")
        paths[-1].write_text(json.dumps(value, indent=1), "utf-8")
    (run,) = runs(*paths)
    assert (run.source, run.id) == ("captures", "0")
    assert [call.step for call in run.calls] == [3, 5, 7]
    assert body(run, 1) == session()[1]["body"]
    answers = [json.loads(call.answer) if call.answer else None for call in run.calls]
    assert answers[0]["tool_calls"][0]["function"]["name"] == "get"
    assert answers[1:] == [samples.says("Half."), None]
    assert run.chained
    assert dict(run.calls[0].headers) == {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


def test_a_log_of_requests_is_read_line_by_line(tmp_path: Path) -> None:
    other = captured([samples.user("Something else.")])
    path = samples.written(tmp_path / "log.jsonl", [*session(), other])
    one, two = runs(path)
    assert (one.id, len(one.calls)) == ("log", 3)
    assert (two.id, len(two.calls)) == ("log:4", 1)


def test_a_session_header_tells_sessions_apart(tmp_path: Path) -> None:
    lines = [captured([samples.user("Go.")], headers={"x-clawmw-session": n}) for n in "aba"]
    assert [len(r.calls) for r in runs(samples.written(tmp_path / "l.jsonl", lines))] == [2, 1]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/messages", "no codec for Anthropic messages yet"),
        ("/v1/responses?x=1", "no codec for OpenAI responses yet"),
        ("/v1/models", "no codec for requests to /v1/models yet"),
    ],
)
def test_what_there_is_no_codec_for_is_skipped(tmp_path: Path, path: str, reason: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(captured([samples.user("x")], path=path), indent=1), "utf-8")
    assert read(file) == [Skipped(f"{file}:1", reason)]


def test_a_truncated_capture_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(session()[0], indent=1)
    path.write_text(text[: len(text) // 2], "utf-8")
    (said,) = problems(path)
    assert "line " in said
    assert said.endswith("is the file truncated?")


# --- OpenClaw sessions -------------------------------------------------------------------


def entry(name: str, parent: str | None, **message: Any) -> dict[str, Any]:
    return {"type": "message", "id": name, "parentId": parent, "message": message}


def block(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def openclaw() -> list[dict[str, Any]]:
    called = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Let me look."},
        {"type": "toolCall", "id": "t1", "name": "exec", "arguments": {"command": "ls"}},
    ]
    usage = {"input": 100, "output": 5, "cacheRead": 400, "cacheWrite": 0}
    return [
        {"type": "session", "version": 3, "id": "s-1", "cwd": "/x"},
        {"type": "model_change", "id": "m", "parentId": None, "provider": "acme", "modelId": "big"},
        entry("u1", "m", role="user", content=block("Look.")),
        entry("a1", "u1", role="assistant", content=called, usage=usage),
        entry(
            "r1",
            "a1",
            role="toolResult",
            toolCallId="t1",
            toolName="exec",
            content=block("file1.go"),
        ),
        entry("a2", "r1", role="assistant", content=block("One file.")),
        entry("b2", "r1", role="assistant", content=block("Another answer.")),
        {
            "type": "compaction",
            "id": "k",
            "parentId": "a2",
            "summary": "They looked.",
            "firstKeptEntryId": "a2",
        },
        entry("u2", "k", role="user", content=block("And?")),
        entry("a3", "u2", role="assistant", content=block("That is all.")),
    ]


def test_an_openclaw_session_is_one_run(tmp_path: Path) -> None:
    found = read(samples.written(tmp_path / "s.jsonl", openclaw()))
    (run,) = [f for f in found if isinstance(f, Run)]
    assert (run.source, run.id) == ("openclaw-sessions", "s-1")
    assert [call.step for call in run.calls] == [1, 3, 4, 7]
    assert [call.reported for call in run.calls] == [500, None, None, None]
    assert body(run)["model"] == "acme/big"
    sent = body(run, 1)
    assert [m["role"] for m in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["content"] == "Let me look."
    assert sent["messages"][1]["tool_calls"][0]["function"] == {
        "name": "exec",
        "arguments": '{"command": "ls"}',
    }
    assert sent["messages"][2]["tool_call_id"] == "t1"
    assert body(run, 2)["messages"] == sent["messages"]  # a branch off the same place
    assert [m["content"] for m in body(run, 3)["messages"]] == ["They looked.", "One file.", "And?"]
    assert any(isinstance(f, Note) and "system prompt" in f.message for f in found)


def test_a_session_without_links_is_read_in_order_and_bad_entries_are_named(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"type": "session", "id": "s"},
        {"type": "message", "message": {"role": "user", "content": "Hi."}},
        {"type": "message", "message": 5},
        {"type": "custom", "data": {}},
        {"type": "message", "message": {"role": "assistant", "content": block("Hello.")}},
    ]
    path = samples.written(tmp_path / "s.jsonl", lines)
    (run,) = runs(path)
    assert body(run)["messages"] == [samples.user("Hi.")]
    assert problems(path) == [f"{path}:3: no readable 'message' entry"]


def test_a_circle_of_parents_ends(tmp_path: Path) -> None:
    lines = [
        {"type": "session", "id": "s"},
        entry("a", "b", role="user", content="1"),
        entry("b", "a", role="assistant", content="2"),
    ]
    (run,) = runs(samples.written(tmp_path / "s.jsonl", lines))
    assert len(run.calls) == 1
