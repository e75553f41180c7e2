"""ADK's contents as chat completions, and back.

One `Content` is one message, but for the answers of tools, of which each is one. What the policy
left alone goes on as the very object it came as; what chat completions cannot say (data, code,
thoughts) is named by its digest and comes back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

from clawmw.adapters.adk_answers import OWN, UNNAMED, call_of, dumped, id_of, parts_of
from clawmw.adapters.direct import Asked, Body
from clawmw.core.types import Json

__all__ = ["Ask"]

_TEXT = ("result", "output")
"""Under which key the answer of a tool is its text alone (ADK wraps what is no mapping)."""
_LIMITS = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens"}
_MODES = {"ANY": "required", "NONE": "none", "AUTO": "auto"}

Places: TypeAlias = list[tuple[int, list[Any]]]
"""Of each message, the content it is of and its parts; -1: the system instruction."""


class Ask:
    """One request of ADK's, as the policy sees it, and what is then asked."""

    def __init__(self, request: Any, model: str, *, stream: bool = False) -> None:
        self.request = request
        self._parts: dict[str, Any] = {}
        self._calls: dict[str, Any] = {}
        self._answers: dict[str, tuple[int, Any]] = {}
        self._places: Places = []
        self._tools = dict(_declared(request.config))
        messages = list(self._messages())
        self.body: Body = {"model": model, "messages": messages}
        if self._tools:
            self.body["tools"] = [_tool(found) for found in self._tools.values()]
        self.body |= _params(request.config)
        if stream:
            self.body |= {"stream": True, "stream_options": {"include_usage": True}}

    @property
    def parsed(self) -> bool:
        """Whether a program reads the answer: a message of ours would be taken for it."""
        return "response_format" in self.body or self.body.get("tool_choice") == "required"

    # --- as the policy sees it -------------------------------------------------------

    def _messages(self) -> Iterator[Body]:
        system = self.request.config.system_instruction
        if system:
            self._places.append((-1, []))
            yield {"role": "system", "content": _instruction(system)}
        waiting: list[tuple[str, str]] = []
        for at, content in enumerate(self.request.contents):
            rest = []
            for n, part in enumerate(content.parts or ()):
                if part.function_response is None:
                    rest.append((n, part))
                    continue
                id_ = _answered(part.function_response, waiting) or f"{UNNAMED}{at}.{n}"
                self._answers[id_] = at, part
                self._places.append((at, [part]))
                said = _result(part.function_response.response)
                yield {"role": "tool", "tool_call_id": id_, "content": said}
            if rest or not content.parts:
                self._places.append((at, [part for _, part in rest]))
                yield self._message(content.role, at, rest, waiting)

    def _message(
        self, role: str | None, at: int, parts: list[tuple[int, Any]], waiting: list[Any]
    ) -> Body:
        calls, said = [], []
        for n, part in parts:
            if part.function_call is not None:
                call = part.function_call
                id_ = call.id or f"{UNNAMED}{at}.{n}"
                self._calls[id_] = part
                waiting.append((call.name or "", id_))
                calls.append(call_of(call, id_))
            elif part.text is not None and not part.thought:
                said.append({"type": "text", "text": part.text})
            else:
                said.append({"type": OWN, "at": self._kept(part)})
        plain = len(said) == 1 and "text" in said[0]
        content: Json = said[0]["text"] if plain else said or None
        value: Body = {"role": "assistant" if role == "model" else "user", "content": content}
        if calls:
            value["tool_calls"] = calls
        elif content is None:
            value["content"] = ""
        return value

    def _kept(self, part: Any) -> str:
        data = part.model_dump_json(exclude_none=True).encode()
        digest = blake2b(data, digest_size=16).hexdigest()
        self._parts[digest] = part
        return digest

    # --- as it is asked --------------------------------------------------------------

    def to(self, asked: Asked) -> Any:
        """ADK's request for what the policy wants asked; the very one if that is all the same."""
        contents, system = self._contents(asked.messages)
        change: dict[str, Any] = {}
        if not _same(contents, self.request.contents):
            change["contents"] = contents
        config = self._config(asked, system)
        if config:
            change["config"] = self.request.config.model_copy(update=config)
        if asked.model != self.body["model"]:
            change["model"] = asked.model
        return self.request.model_copy(update=change) if change else self.request

    def _contents(self, messages: Sequence[tuple[int | None, Json]]) -> tuple[list[Any], Any]:
        """Contents, and the system instruction where it was changed."""
        from google.genai import types

        system: str | None = None
        made: list[tuple[int | None, str, list[Any]]] = []
        names = {id_: part.function_call.name for id_, part in self._calls.items()}
        for n, (index, value) in enumerate(messages):
            if n == 0 and value["role"] == "system":
                system = None if index is not None else _text(value.get("content"))
                continue
            for call in value.get("tool_calls") or ():
                names[call["id"]] = call["function"]["name"]
            at, parts = self._places[index] if index is not None else self._made(value, names)
            role = "model" if value["role"] == "assistant" else "user"
            follows = made and (made[-1][0] == at is not None or _answers(made[-1][2], parts))
            if follows:
                made[-1] = made[-1][0], role, [*made[-1][2], *parts]
            else:
                made.append((at, role, list(parts)))
        found = []
        for at, role, parts in made:
            own = self.request.contents[at] if at is not None else None
            whole = own is not None and _same(parts, own.parts or ())
            found.append(own if whole else types.Content(role=role, parts=parts))
        return found, system

    def _made(self, value: Json, names: dict[str, str]) -> tuple[int | None, list[Any]]:
        """Parts of a message that was changed or added, and the content that it is of."""
        from google.genai import types

        if value["role"] != "tool":
            return None, parts_of(value, self._parts, self._calls)
        id_ = value["tool_call_id"]
        text = _text(value.get("content"))
        at, part = self._answers.get(id_, (None, None))
        if part is None:
            made = types.FunctionResponse(
                id=id_of(id_), name=names.get(id_, ""), response={"result": text}
            )
            return None, [types.Part(function_response=made)]
        own = part.function_response
        key = next((k for k in _TEXT if own.response and list(own.response) == [k]), "result")
        changed = own.model_copy(update={"response": {key: text}})
        return at, [part.model_copy(update={"function_response": changed})]

    def _config(self, asked: Asked, system: str | None) -> dict[str, Any]:
        from google.genai import types

        found: dict[str, Any] = {} if system is None else {"system_instruction": system}
        for name, theirs in _LIMITS.items():
            if asked.body.get(name) != self.body.get(name):
                found[theirs] = asked.body.get(name)
        tools = asked.body.get("tools") or []
        if tools != (self.body.get("tools") or []):
            found["tools"] = self._declarations(tools)
        choice = asked.body.get("tool_choice")
        if choice != self.body.get("tool_choice") and (choice is None or isinstance(choice, str)):
            mode = next((m for m, said in _MODES.items() if said == choice), "AUTO")
            calling = types.FunctionCallingConfig(mode=mode)
            found["tool_config"] = types.ToolConfig(function_calling_config=calling)
        return found

    def _declarations(self, tools: Sequence[Json]) -> list[Any]:
        """Tools as ADK takes them; those that were left alone as they came."""
        from google.genai import types

        own = {name: (_tool(found), found) for name, found in self._tools.items()}
        made = []
        for tool in tools:
            function = tool["function"]
            known, found = own.get(function["name"], (None, None))
            made.append(
                found
                if known == tool
                else types.FunctionDeclaration(
                    name=function["name"],
                    description=function.get("description"),
                    parameters_json_schema=function.get("parameters"),
                )
            )
        kept = [t for t in self.request.config.tools or () if not _functions(t)]
        return [*([types.Tool(function_declarations=made)] if made else []), *kept]


# --- pieces -----------------------------------------------------------------------------------


def _answered(answer: Any, waiting: list[tuple[str, str]]) -> str | None:
    """The id of the call that is answered: its own, else that of the first of its name."""
    for found in waiting:
        if found[1] == answer.id or (answer.id is None and found[0] == answer.name):
            waiting.remove(found)
            return found[1]
    return str(answer.id) if answer.id else None


def _answers(*groups: list[Any]) -> bool:
    """Whether all are answers of tools: those of one turn are one content."""
    return all(part.function_response is not None for parts in groups for part in parts)


def _result(response: dict[str, Any] | None) -> str:
    if response and len(response) == 1:
        key, value = next(iter(response.items()))
        if key in _TEXT and isinstance(value, str):
            return value
    return dumped(response)


def _instruction(system: Any) -> str:
    if isinstance(system, str):
        return system
    if isinstance(system, list | tuple):
        return "\n\n".join(_instruction(item) for item in system)
    parts = getattr(system, "parts", None) or (system,)
    return "\n\n".join(part.text for part in parts if getattr(part, "text", None))


def _functions(tool: Any) -> Sequence[Any]:
    return getattr(tool, "function_declarations", None) or ()


def _declared(config: Any) -> Iterator[tuple[str, Any]]:
    for tool in config.tools or ():
        for found in _functions(tool):
            yield found.name, found


def _tool(found: Any) -> Body:
    function: Body = {"name": found.name}
    if found.description:
        function["description"] = found.description
    schema = found.parameters_json_schema
    if schema is None and found.parameters is not None:
        schema = found.parameters.model_dump(mode="json", exclude_none=True)
    if schema is not None:
        function["parameters"] = schema
    return {"type": "function", "function": function}


def _params(config: Any) -> Body:
    found = {name: getattr(config, theirs) for name, theirs in _LIMITS.items()}
    if config.stop_sequences:
        found["stop"] = config.stop_sequences
    if config.response_schema is not None or config.response_json_schema is not None:
        schema = config.response_json_schema or str(config.response_schema)
        form = {"name": "answer", "schema": json.loads(dumped(schema))}
        found["response_format"] = {"type": "json_schema", "json_schema": form}
    chosen = config.tool_config and config.tool_config.function_calling_config
    if chosen and chosen.mode:
        found["tool_choice"] = _MODES.get(chosen.mode.name, "auto")
    return {name: value for name, value in found.items() if value is not None}


def _text(content: Json) -> str:
    if isinstance(content, list):
        return "\n".join(item.get("text") or "" for item in content)
    return content or ""


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
