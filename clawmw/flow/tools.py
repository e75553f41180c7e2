"""The tools of a flow: where they are imported from, what the model is told about them.

Nothing is imported but the modules that the flow names. A tool runs in this process, with
its rights: name only modules you trust.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic.errors import PydanticUserError

from clawmw.errors import PolicyError
from clawmw.flow.expr import did_you_mean
from clawmw.flow.models import ToolSource

__all__ = ["Tool", "Toolbox", "load_tools", "run_tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the model may ask for."""

    name: str
    schema: Mapping[str, Any]
    """As chat completions take it: `{"type": "function", "function": {...}}`."""
    call: Callable[[dict[str, Any]], Any]


Toolbox = Mapping[str, tuple[Tool, ...]]
"""Name of a source -> its tools, in the order they are offered."""


def load_tools(sources: Mapping[str, ToolSource], where: str, base: Path | None = None) -> Toolbox:
    """Import what the sources name. Modules beside the policy (`base`) are found too.

    Raises PolicyError, naming the source, if a module or what it should hold is not there.
    """
    box: dict[str, tuple[Tool, ...]] = {}
    owners: dict[str, str] = {}
    if base is not None and str(base) not in sys.path:
        sys.path.append(str(base))  # last, so that it shadows nothing
    for name, source in sources.items():
        place = f"{where}.{name}"
        box[name] = _function(name, source, place) if source.call else _module(source, place)
        for tool in box[name]:
            if tool.name in owners:
                raise PolicyError(
                    f"{place}: a tool {tool.name!r} comes from {owners[tool.name]!r} already",
                    where=place,
                )
            owners[tool.name] = name
    return box


def run_tool(tools: Mapping[str, Tool], name: str, arguments: str) -> str:
    """The result of a call as the model asked for it: text, or JSON of what is not text.

    What the model got wrong (no such tool, bad arguments) and what a tool raises become the
    result: the model reads it and can do better.
    """
    tool = tools.get(name)
    if tool is None:
        return f"error: no tool {name!r}{did_you_mean(name, tools)}"
    try:
        given = json.loads(arguments or "{}")
    except ValueError as e:
        return f"error: the arguments are not JSON: {e}"
    if not isinstance(given, dict):
        return "error: the arguments are not a JSON object"
    try:
        return as_text(tool.call(given))
    except Exception as e:  # noqa: BLE001 - whatever a tool raises, the model is told
        return f"error: {type(e).__name__}: {e}"


def as_text(value: Any) -> str:
    """A tool's result as a message: text as it is, else JSON. TypeError if it cannot be."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _module(source: ToolSource, place: str) -> tuple[Tool, ...]:
    """A module with `TOOLS` and `call_tool(name, arguments)`."""
    module = _import(str(source.module), place)
    schemas = getattr(module, "TOOLS", None)
    dispatch = getattr(module, "call_tool", None)
    if not isinstance(schemas, (list, tuple)) or not callable(dispatch):
        raise PolicyError(
            f"{place}: module {source.module!r} has no `TOOLS` list and `call_tool` function",
            where=place,
        )

    def bound(name: str) -> Callable[[dict[str, Any]], Any]:
        return lambda arguments: dispatch(name, arguments)

    tools = []
    for index, schema in enumerate(schemas):
        function = schema.get("function") if isinstance(schema, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise PolicyError(
                f"{place}: {source.module}.TOOLS[{index}] is not an OpenAI tool schema", where=place
            )
        tools.append(Tool(function["name"], schema, bound(function["name"])))
    return tuple(tools)


def _function(name: str, source: ToolSource, place: str) -> tuple[Tool, ...]:
    """One function; its arguments are checked against its signature."""
    path, _, attribute = str(source.call).partition(":")
    module = _import(path, place)
    function = getattr(module, attribute, None)
    if not callable(function):
        public = [n for n, v in vars(module).items() if inspect.isfunction(v) and n[:1] != "_"]
        raise PolicyError(
            f"{place}: module {path!r} has no function {attribute!r}"
            f"{did_you_mean(attribute, public)}",
            where=place,
        )
    try:
        checked = validate_call(function)
        parameters = source.parameters or TypeAdapter(function).json_schema()
    except (PydanticUserError, TypeError) as e:
        reason = str(e).partition("\n")[0]
        raise PolicyError(
            f"{place}: no schema from the signature of {source.call} ({reason});"
            " annotate its arguments or give `parameters`",
            where=place,
        ) from None
    if parameters.get("type") != "object":
        raise PolicyError(
            f"{place}: {source.call} takes arguments without names; a tool's have names",
            where=place,
        )
    described = {"name": name, "description": source.description or inspect.getdoc(function) or ""}
    schema = {"type": "function", "function": {**described, "parameters": parameters}}

    def call(arguments: dict[str, Any]) -> Any:
        try:
            return checked(**arguments)
        except ValidationError as e:
            raise ValueError(_explain(e)) from None

    return (Tool(name, schema, call),)


def _explain(error: ValidationError) -> str:
    """The first problems in one line, without the values: they could be long."""
    problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:3]]
    return "; ".join(problems)


def _import(name: str, place: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as e:
        raise PolicyError(f"{place}: cannot import {name!r}: {e}", where=place) from None
    except Exception as e:
        raise PolicyError(
            f"{place}: module {name!r} fails on import: {type(e).__name__}: {e}", where=place
        ) from e
