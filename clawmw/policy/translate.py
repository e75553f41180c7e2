"""Pydantic's findings in the words of whoever wrote the policy.

A value that a union refuses is reported once, by the alternative it comes closest to, not
once for each alternative; and always as it was written, not as a validator left it.
"""

from __future__ import annotations

import re
import types
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from clawmw.policy.problems import Path, suggestion

__all__ = ["translate"]

_WANTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping (`key: value` lines)",
    "mapping_type": "a mapping (`key: value` lines)",
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "none_required": "nothing",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
}
"""Pydantic's error type -> what was expected."""


def translate(
    error: ValidationError, model: type[BaseModel], data: Any, at: Path = ()
) -> Iterator[tuple[Path, str]]:
    """(path, message) of everything `model` found wrong with `data`, which lies at `at`."""
    found = [_Finding.of(e, data) for e in error.errors(include_url=False)]
    grouped = _by_path(_closest(found))
    for path, group in grouped.items():
        # A list whose entries failed is also reported as too short.
        if group[0]["type"] == "too_short" and any(_below(path, other) for other in grouped):
            continue
        yield (*at, *path), _message(path, group, model, _value(data, path))


@dataclass(frozen=True, slots=True)
class _Finding:
    """A pydantic error with its true path, and the union alternative it belongs to."""

    path: Path
    branch: tuple[Path, str] | None
    error: Mapping[str, Any]

    @classmethod
    def of(cls, error: Mapping[str, Any], data: Any) -> _Finding:
        """Steps that do not exist in the data are pydantic's names of alternatives."""
        path: list[str | int] = []
        branch: tuple[Path, str] | None = None
        cursor = data
        steps: Sequence[str | int] = error["loc"]
        for index, step in enumerate(steps):
            last = index == len(steps) - 1
            if _holds(cursor, step):
                cursor = cursor[step]
            elif not (last and error["type"] == "missing" and isinstance(cursor, Mapping)):
                branch = branch or (tuple(path), str(step))
                continue
            path.append(step)
        return cls(tuple(path), branch, error)


def _holds(cursor: Any, step: str | int) -> bool:
    if isinstance(cursor, Mapping):
        return step in cursor
    return isinstance(cursor, (list, tuple)) and isinstance(step, int) and step < len(cursor)


def _value(data: Any, path: Path) -> Any:
    """What was written at `path`; pydantic may report what a validator made of it."""
    for step in path:
        if not _holds(data, step):
            return None
        data = data[step]
    return data


def _below(path: Path, other: Path) -> bool:
    return len(other) > len(path) and other[: len(path)] == path


def _closest(findings: Sequence[_Finding]) -> Iterator[_Finding]:
    """Of the alternatives of one union, those that fit best: looked inside, fewest errors."""
    branches: dict[Path, dict[str, list[_Finding]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings:
        if finding.branch is None:
            yield finding
        else:
            branches[finding.branch[0]][finding.branch[1]].append(finding)
    for union, alternatives in branches.items():
        inside = [a for a in alternatives.values() if any(f.path != union for f in a)]
        if inside:
            yield from min(inside, key=len)
        else:
            yield from (f for a in alternatives.values() for f in a)


def _by_path(findings: Iterable[_Finding]) -> Mapping[Path, list[Mapping[str, Any]]]:
    grouped: dict[Path, list[Mapping[str, Any]]] = defaultdict(list)
    for finding in findings:
        grouped[finding.path].append(finding.error)
    return grouped


def _message(
    path: Path, errors: Sequence[Mapping[str, Any]], model: type[BaseModel], value: Any
) -> str:
    """What to tell about the value at `path`, which all of `errors` are about."""
    kind, step = errors[0]["type"], path[-1] if path else ""
    if kind == "missing":
        return "this key is required"
    if kind == "extra_forbidden":
        return f"unknown key; {suggestion(str(step), _keys(model, path[:-1]))}"
    wanted = list(dict.fromkeys(w for e in errors if (w := _wanted(e))))
    if wanted:
        counted = kind in ("too_short", "too_long") and isinstance(value, (list, dict))
        shown = str(len(value)) if counted else _shown(value)
        return f"expected {' or '.join(wanted)}, not {shown}{_advice(value, errors)}"
    return "; ".join(dict.fromkeys(_plain(e, value) for e in errors))


def _wanted(error: Mapping[str, Any]) -> str | None:
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("literal_error", "enum"):
        choices = _choices(error)
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if kind in ("string_type", "string_sub_type"):
        return "a text"
    if kind == "string_too_short":
        return "a text that is not empty"
    if kind in ("too_short", "too_long", "string_too_long"):
        least = "at least" if kind == "too_short" else "at most"
        count = context.get("min_length", context.get("max_length"))
        unit = "character" if kind.startswith("string") else "item"
        what = unit if count == 1 else f"{unit}s"
        return f"{least} {count} {what}"
    wanted = _WANTED.get(kind)
    return wanted.format(**{k: _number(v) for k, v in context.items()}) if wanted else None


def _plain(error: Mapping[str, Any], value: Any) -> str:
    """What a validator said, or pydantic's own words without its jargon."""
    if error["type"] == "string_pattern_mismatch":
        return f"{_shown(value)} is not written like {error['ctx']['pattern']}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "expected").replace("\n", " ")
    if error["type"] in ("value_error", "assertion_error"):
        return message or "this value is not accepted"
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _advice(value: Any, errors: Sequence[Mapping[str, Any]]) -> str:
    """What to do, where the slip is a common one."""
    kinds = {e["type"] for e in errors}
    choices = [c for e in errors if e["type"] in ("literal_error", "enum") for c in _choices(e)]
    if isinstance(value, str):
        if value in choices:
            return "; take the quotes off"
        close = get_close_matches(value.lower(), choices, 1, 0.7)
        return f'; did you mean "{close[0]}"?' if close else ""
    # YAML reads a bare `off` as false.
    spelled = {True: {"on", "yes"}, False: {"off", "no"}}
    if isinstance(value, bool) and (word := spelled[value] & set(choices)):
        return f'; write "{min(word)}" with its quotes'
    if "string_type" in kinds and isinstance(value, (bool, int, float)):
        return "; put it in quotes"
    return ""


def _choices(error: Mapping[str, Any]) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [choice.strip("'") for choice in re.split(r", | or ", expected)]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    short = text if len(text) <= 40 else text[:39] + "…"
    return f'"{short}"' if isinstance(value, str) else short


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _keys(model: type[BaseModel], path: Path) -> set[str]:
    """The keys allowed at `path` of a config."""
    found: set[str] = set()
    for at in _models_at(model, path):
        found |= {f.alias or name for name, f in at.model_fields.items()}
    return found


def _models_at(annotation: Any, path: Path) -> Iterator[type[BaseModel]]:
    """The models that may stand at `path` below something of this type."""
    if (alias := getattr(annotation, "__value__", None)) is not None:
        yield from _models_at(alias, path)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            yield annotation
        for name, field in annotation.model_fields.items():
            if path and path[0] == (field.alias or name):
                yield from _models_at(field.annotation, path[1:])
    elif (origin := get_origin(annotation)) is Annotated:
        yield from _models_at(get_args(annotation)[0], path)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _models_at(member, path)
    elif isinstance(origin, type) and path:
        for inner in get_args(annotation)[-1 if issubclass(origin, Mapping) else 0 :][:1]:
            yield from _models_at(inner, path[1:])
