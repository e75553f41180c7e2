"""A request of the Responses API, as one in chat completions.

Reasoning items are left out: they are encrypted for the provider that made them. What the
provider would have to remember (`previous_response_id`, conversations, items by reference) is
refused: another one has not seen it.
"""

from __future__ import annotations

from typing import Any

from clawmw.codecs.translate import facts
from clawmw.codecs.translate.base import Body, Fields, items_of, refuse
from clawmw.codecs.translate.parts import part_from_item
from clawmw.codecs.translate.responses_custom import as_arguments, as_function

__all__ = ["chat_request"]

_HISTORY = ("another provider has not seen that history", "send the whole input with every call")
_OWN = "ask a model whose dialect is openai.responses"
_NO = {
    "previous_response_id": _HISTORY,
    "conversation": _HISTORY,
    "prompt": ("OpenAI's servers hold that template", "send its text"),
    "background": ("another provider answers at once or not at all", "leave it out"),
    "top_logprobs": ("the answer could not carry them", _OWN),
}
_LOGPROBS = "message.output_text.logprobs"
_FUNCTION = ("name", "description", "parameters", "strict")
_SAME = ("model", "parallel_tool_calls", "prompt_cache_key", "service_tier", "safety_identifier")
_SAME_TOO = ("prompt_cache_retention", "prompt_cache_options", "user")


def chat_request(body: Body, dropped: list[str]) -> Body:
    """See the module. Raises `TranslationError` for what has no counterpart."""
    fields = Fields(body, dropped)
    fields.refuse(_NO)
    if _LOGPROBS in (fields.take("include") or ()):
        refuse("include", *_NO["top_logprobs"])
    out: Body = {}
    fields.move(out, *_SAME, *_SAME_TOO)
    model = out["model"]
    out["messages"] = _Conversation(fields).messages()
    _tools(fields, out)
    _form(fields, out)
    reasons = facts.openai_reasons(model)
    most = fields.take("max_output_tokens")
    if most is not None:
        out["max_completion_tokens" if reasons else "max_tokens"] = most
    reasoning = fields.take("reasoning") or {}
    if reasoning.get("effort") and facts.takes_effort(model):
        out["reasoning_effort"] = reasoning["effort"]
    elif reasoning.get("effort"):
        fields.drop("reasoning.effort")
    fields.move(out, "temperature", "top_p")
    if not body.get("store"):
        fields.take("store")
    fields.take("stream_options")
    if fields.take("stream"):
        out |= {"stream": True, "stream_options": {"include_usage": True}}
    fields.rest()
    return out


class _Conversation:
    """Items as messages. What of results only a user can say comes behind all of them."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._said: list[Body] = []
        self._later: list[Body] = []

    def messages(self) -> list[Body]:
        """The messages of instructions and input."""
        if instructions := self._fields.take("instructions"):
            self._said.append({"role": "system", "content": instructions})
        given = self._fields.take("input", [])
        items = [{"role": "user", "content": given}] if isinstance(given, str) else items_of(given)
        for index, item in enumerate(items):
            self._add(item, f"input[{index}]")
        return self._said + self._later

    def _add(self, item: Body, where: str) -> None:
        kind = item.get("type") or "message"
        if kind not in ("function_call_output", "custom_tool_call_output"):
            self._said += self._later
            self._later = []
        match kind:
            case "message":
                self._said.append(_message(item, where))
            case "function_call":
                self._call(item)
            case "custom_tool_call":
                self._call({**item, "arguments": as_arguments(item["input"])})
            case "function_call_output" | "custom_tool_call_output":
                self._result(item, where)
            case "reasoning":
                self._fields.drop("input.reasoning")
            case "item_reference":
                refuse(where, *_HISTORY)
            case _:
                instead = f"leave it out, or {_OWN}"
                refuse(f"{where}.type", f"{kind!r} belongs to OpenAI's own tools", instead)

    def _call(self, item: Body) -> None:
        """Calls belong to the assistant's message before them."""
        function = {"name": item["name"], "arguments": item["arguments"]}
        last = self._said[-1] if self._said else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self._said.append(last)
        call = {"id": item["call_id"], "type": "function", "function": function}
        last.setdefault("tool_calls", []).append(call)

    def _result(self, item: Body, where: str) -> None:
        """A call's result. Images and files go into a user's message."""
        output = item["output"]
        if isinstance(output, str):
            output = [{"type": "input_text", "text": output}]
        parts = [
            part
            for place, inner in enumerate(items_of(output))
            for part in part_from_item(inner, f"{where}.output[{place}]")
        ]
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        self._said.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
        if beside := [part for part in parts if part["type"] != "text"]:
            head = {"type": "text", "text": f"From the tool call {item['call_id']}:"}
            self._later.append({"role": "user", "content": [head, *beside]})


def _message(item: Body, where: str) -> Body:
    role, content = item["role"], item["content"]
    role = "system" if role == "developer" else role  # which only OpenAI's models know
    if isinstance(content, str):
        return {"role": role, "content": content}
    parts = [
        part
        for place, inner in enumerate(items_of(content))
        for part in part_from_item(inner, f"{where}.content[{place}]")
    ]
    if all(part["type"] == "text" for part in parts) and (role != "user" or len(parts) == 1):
        return {"role": role, "content": "\n".join(part["text"] for part in parts)}
    return {"role": role, "content": parts}


def _tools(fields: Fields, out: Body) -> None:
    tools: list[Body] = []
    for index, tool in enumerate(items_of(fields.take("tools"))):
        if tool.get("type") == "custom":
            tools.append({"type": "function", "function": as_function(tool)})
            continue
        if tool.get("type") != "function":
            refuse(
                f"tools[{index}].type",
                f"{tool.get('type')!r} is a tool of OpenAI's own servers or of Responses alone",
                "offer a function instead",
            )
        function = {name: tool[name] for name in _FUNCTION if tool.get(name) is not None}
        tools.append({"type": "function", "function": function})
        for name in sorted(set(tool) - {"type", *_FUNCTION}):
            fields.drop(f"tools.{name}")
    choice = fields.take("tool_choice")
    if not tools:
        out.pop("parallel_tool_calls", None)
        return
    out["tools"] = tools
    match choice:
        case None:
            return
        case str():
            out["tool_choice"] = choice
        case {"type": "function" | "custom", "name": name}:
            out["tool_choice"] = {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "tools": allowed, "mode": mode}:  # OpenAI's alone
            chosen = {tool.get("name") for tool in allowed}
            out["tools"] = [tool for tool in tools if tool["function"]["name"] in chosen]
            out["tool_choice"] = mode
        case _:
            refuse("tool_choice", "it names a tool of OpenAI's own", "name a function")


def _form(fields: Fields, out: Body) -> None:
    text: Any = fields.take("text") or {}
    form = text.get("format") or {}
    if form.get("type") == "json_schema":
        names = ("name", "description", "schema", "strict")
        schema = {name: form[name] for name in names if form.get(name) is not None}
        out["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type") == "json_object":
        out["response_format"] = {"type": "json_object"}
    if text.get("verbosity"):
        out["verbosity"] = text["verbosity"]
