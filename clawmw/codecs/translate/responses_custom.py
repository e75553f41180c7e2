"""Custom tools of Responses, whose input is plain text: functions of one text for other servers.

Codex edits files with one. A grammar cannot be enforced elsewhere, so it is told in words.
"""

from __future__ import annotations

import json

from clawmw.codecs.translate.base import Body, arguments_of, encoded

__all__ = ["as_arguments", "as_function", "as_item", "customs", "text_input"]

_TEXT = "input"


def customs(tools: object) -> frozenset[str]:
    """The names of the custom tools among a request's tools."""
    given = tools if isinstance(tools, list) else []
    return frozenset(t["name"] for t in given if isinstance(t, dict) and t.get("type") == "custom")


def as_function(tool: Body) -> Body:
    """A custom tool as a function."""
    form = tool.get("format") or {}
    texts = [tool.get("description") or ""]
    if form.get("type") == "grammar":
        texts.append(
            f"`{_TEXT}` must follow this grammar ({form['syntax']}):\n{form['definition']}"
        )
    properties = {_TEXT: {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [_TEXT]}
    description = "\n\n".join(filter(None, texts))
    return {"name": tool["name"], "description": description, "parameters": schema}


def as_arguments(text: str) -> str:
    """A custom tool's input as a function's arguments."""
    return encoded({_TEXT: text}).decode()


def text_input(arguments: str) -> str:
    """The other way; arguments of another form are the input themselves."""
    found = arguments_of(arguments).get(_TEXT)
    return found if isinstance(found, str) else json.dumps(found) if found else arguments


def as_item(item: Body) -> Body:
    """A `function_call` item as one of a custom tool."""
    kept = {name: item[name] for name in ("id", "call_id", "name")}
    return {"type": "custom_tool_call", **kept, _TEXT: text_input(item["arguments"])}
