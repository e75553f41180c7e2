"""Reads recorded runs, whatever form they come in, and says what could not be read.

Forms, told apart line by line: a run a line (`{"id", "messages", "tools"?, "source"?}`), a
captured request (`{"headers", "body"}`, one a file or one a line, as `clawmw emulate --log`
writes them), an entry of an OpenClaw session file. One bad line costs only itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clawmw.core.types import Json
from clawmw.errors import SourceError
from clawmw.replay.captures import Captures
from clawmw.replay.openclaw import Session
from clawmw.replay.records import (
    Call,
    Found,
    Problem,
    Run,
    checked,
    derived_tools,
    dump,
)

__all__ = ["Sources", "run_of"]

_WHOLE_FILE = 64 * 2**20
"""A document spread over lines is read at once; a file of lines never is."""
_GIVE_UP = 20
"""Bad lines before a file without a good one is given up."""


class Sources:
    """The runs of some files, read once.

    `model` stands in the bodies of runs that name none. With `open_ends`, a run that ends in
    a tool result or a user message gets one more call: the one its record breaks off before.
    Without, it gets one that is in no figure but `answers`, if its labels name an answer and
    no recorded call could have given it.
    """

    def __init__(self, paths: Sequence[Path], *, model: str, open_ends: bool = False) -> None:
        self.paths = paths
        self.model = model
        self.open_ends = open_ends
        self._seen: dict[tuple[str, str], int] = {}

    def size(self) -> int:
        """Bytes to read, for progress; what cannot be looked at counts as nothing."""
        return sum(path.stat().st_size for path in self.paths if path.is_file())

    def __iter__(self) -> Iterator[Found]:
        """Runs, problems, skipped calls and notes as they are met; captured runs last."""
        captures = Captures()
        for path in self.paths:
            try:
                for found in self._file(path, captures):
                    yield self._named(found) if isinstance(found, Run) else found
            except SourceError as error:
                yield Problem(str(path), str(error))
            except OSError as error:
                yield Problem(str(path), f"cannot be read: {error.strerror or error}")
        for run in captures.runs():
            yield self._named(run)

    def _named(self, run: Run) -> Run:
        """The run under an id of its own: a doubled one would share a session."""
        key = (run.source, run.id)
        self._seen[key] = count = self._seen.get(key, 0) + 1
        if count == 1:
            return run
        return replace(run, id=f"{run.id}#{count}")

    def _file(self, path: Path, captures: Captures) -> Iterator[Found]:
        if not path.exists():
            raise SourceError("there is no such file")
        if path.is_dir():
            raise SourceError(f"this is a folder; name the files in it, as in {path}/*.jsonl")
        whole = _document(path)
        if whole is not None:
            yield from self._entry(whole, path, 1, path.stat().st_size, captures)
            return
        yield from self._lines(path, captures)

    def _lines(self, path: Path, captures: Captures) -> Iterator[Found]:
        session: Session | None = None
        good = bad = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = _parsed(line)
                except ValueError as error:
                    yield Problem(f"{path}:{number}", str(error))
                    bad += 1
                    if bad >= _GIVE_UP and not good:
                        raise SourceError("no line so far is JSON; is it a file of runs?") from None
                    continue
                good += 1
                if not _is_session_entry(value):
                    yield from self._entry(value, path, number, len(line), captures)
                    continue
                if session is None or value["type"] == "session":
                    if session is not None:
                        yield from session.runs(self.model)
                    session = Session(path, number)
                session.add(value, number, len(line))
        if session is not None:
            yield from session.runs(self.model)
        if not good and not bad:
            raise SourceError("the file is empty")

    def _entry(
        self, value: Json, path: Path, number: int, size: int, captures: Captures
    ) -> Iterator[Found]:
        """One document or line that is not part of a session file."""
        where = f"{path}:{number}"
        try:
            if isinstance(value, dict) and "messages" in value:
                yield run_of(value, path, where, size, self.model, open_ends=self.open_ends)
            elif isinstance(value, dict) and "body" in value:
                yield from captures.add(value, path, where, size)
            else:
                raise ValueError(  # noqa: TRY301 - one place says what is wrong with a line
                    "neither a run (`messages`), a captured request (`body`) nor an entry of an "
                    "OpenClaw session"
                )
        except ValueError as error:
            yield Problem(where, str(error))


def run_of(
    row: dict[str, Any], path: Path, where: str, size: int, model: str, *, open_ends: bool = False
) -> Run:
    """The run of one JSON object in chat form. `ValueError` says what is wrong with it."""
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` must be a list of at least one message")
    wires = [checked(message, index) for index, message in enumerate(messages)]
    tools = row.get("tools") or derived_tools(messages)
    if not isinstance(tools, list):
        raise ValueError("`tools` must be a list of tool definitions")  # noqa: TRY004 - of a file
    head = b'{"model":' + dump(_text(row.get("model")) or model) + b',"messages":['
    tail = b"]" + (b',"tools":' + dump(tools) if tools else b"") + b"}"
    reported = _reported(row.get("usage_per_message"), len(messages))
    steps = [i for i, m in enumerate(messages) if i and m.get("role") == "assistant"]
    calls = [Call(i, head, wires[:i], tail, wires[i], reported[i]) for i in steps]
    open_end = messages[-1].get("role") != "assistant"
    answers = _answers(row.get("labels"))
    due = _due(messages)
    if open_end and (open_ends or (answers and due == len(messages))):
        calls.append(Call(len(wires), head, wires, tail, None, counted=open_ends))
    name = row.get("id")
    return Run(
        _text(row.get("source")) or path.stem,
        str(name) if isinstance(name, str | int) else where.rpartition("/")[2],
        where,
        calls,
        open_end=open_end,
        answers=answers,
        answer_due=due,
        bytes=size,
    )


def _answers(labels: Json) -> tuple[str, ...]:
    """What the labels say the run should find out: `gold_answer`, or `answers` (any of them)."""
    if not isinstance(labels, dict):
        return ()
    given = labels.get("answers") or [labels.get("gold_answer")]
    return tuple(str(a) for a in given if a) if isinstance(given, list) else ()


def _due(messages: list[dict[str, Any]]) -> int:
    """The step that gives the run's answer: the last recorded one that follows a tool result,
    else the one that the record breaks off before."""
    roles = [m.get("role") for m in messages]
    last = max((i for i, role in enumerate(roles) if role == "assistant"), default=-1)
    return last if "tool" in roles[: max(last, 0)] else len(messages)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _reported(usages: Json, count: int) -> list[int | None]:
    """Input tokens a message by the provider's usage, where the record gives it."""
    given = usages if isinstance(usages, list) and len(usages) == count else [None] * count
    tokens = [u.get("prompt_tokens") if isinstance(u, dict) else None for u in given]
    return [t if isinstance(t, int) else None for t in tokens]


def _parsed(line: bytes) -> Json:
    """One line's value. `ValueError` in words a reader can act on."""
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text at byte {error.start}") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        if _breaks_off(error):
            raise ValueError("the JSON breaks off; is the file truncated?") from None
        raise ValueError(f"not JSON at column {error.colno}: {error.msg}") from None


def _document(path: Path) -> Json | None:
    """The one JSON document a file is, when it is spread over several lines; else None."""
    with path.open("rb") as file:
        if file.readline().strip() not in (b"{", b"[") or path.stat().st_size > _WHOLE_FILE:
            return None
        file.seek(0)
        try:
            return json.loads(file.read())
        except json.JSONDecodeError as error:
            reason = "the JSON breaks off" if _breaks_off(error) else f"not JSON: {error.msg}"
            raise SourceError(f"line {error.lineno}: {reason}; is the file truncated?") from None
        except (ValueError, RecursionError):
            raise SourceError("not JSON, or not in UTF-8") from None


def _breaks_off(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or "Unterminated" in error.msg


def _is_session_entry(value: Json) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and "messages" not in value
        and "body" not in value
    )
