"""A request in chat completions, as one in Anthropic's messages.

Reasoning in the history is left out, but for Claude's own signed blocks on their way back to
Claude (`thinking_blocks`, LiteLLM's name): a provider refuses what it did not sign.
"""

from __future__ import annotations

import re
from typing import Any

from clawmw.codecs.translate import facts
from clawmw.codecs.translate.base import (
    Body,
    Fields,
    Names,
    arguments_of,
    items_of,
    refuse,
    text_of,
)
from clawmw.codecs.translate.messages_to_chat import FAILED
from clawmw.codecs.translate.parts import block_from_part, parts_of

__all__ = ["messages_request"]

_HERE = "ask a model whose dialect is openai.chat"
_NO = {
    "n": ("Anthropic's wire gives one answer a call", "make several calls"),
    "audio": ("Anthropic's wire carries no audio", _HERE),
    "functions": ("deprecated, and without a counterpart", "offer `tools`"),
    "function_call": ("deprecated, and without a counterpart", "use `tool_choice`"),
    "logprobs": ("Anthropic's wire gives none", _HERE),
    "top_logprobs": ("Anthropic's wire gives none", _HERE),
    "logit_bias": ("Anthropic's wire has none", _HERE),
    "web_search_options": ("a search of OpenAI's own servers", "offer a tool that searches"),
}
_JSON_ONLY = "Answer with one JSON object and nothing else."
_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_EFFORTS = {"minimal": "low"}


def messages_request(body: Body, names: Names, dropped: list[str]) -> Body:
    """See the module. Raises `TranslationError` for what has no counterpart.

    `max_tokens`, which Anthropic's wire requires, is `facts.output_default` where the caller
    gives none. A system message in mid-conversation goes, in `<system>` tags, where it stands:
    a system prompt that grows would lose its cache. `response_format: json_object` is asked
    for in words.
    """
    fields = Fields(body, dropped)
    model = fields.take("model")
    if fields.take("n", 1) != 1:
        refuse("n", *_NO["n"])
    if "audio" in (fields.take("modalities") or ()):
        refuse("modalities", *_NO["audio"])
    fields.refuse(_NO)
    messages = items_of(fields.take("messages"))
    system, said = _Conversation(model, names, fields).read(messages)
    limits = [fields.take(name) for name in ("max_completion_tokens", "max_tokens")]
    most = next((limit for limit in limits if limit), None) or facts.output_default(model)
    out: Body = {"model": model, "max_tokens": most}
    forced = _tools(fields, out, names)
    form = fields.take("response_format") or {}
    if form.get("type") == "json_object":
        system.append({"type": "text", "text": _JSON_ONLY})
    if system:
        bare = len(system) == 1 and "cache_control" not in system[0]
        out["system"] = system[0]["text"] if bare else system
    out["messages"] = said
    if form.get("type") == "json_schema":
        schema = {"type": "json_schema", "schema": form["json_schema"]["schema"]}
        out["output_config"] = {"format": schema}
    _effort(fields, out, forced)
    _sampling(fields, out)
    stop = fields.take("stop")
    if stop:
        out["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = fields.take("safety_identifier") or fields.take("user")
    if user:
        out["metadata"] = {"user_id": user}
    fields.take("user")
    fields.take("stream_options")
    fields.move(out, "stream")
    fields.rest()
    return out


def _sampling(fields: Fields, out: Body) -> None:
    """Temperature: OpenAI's goes to 2, Anthropic's to 1; with thinking, or from Claude 4.7 on,
    there is none, and one of it and `top_p` is all that Claude 4.5 takes."""
    thinks = out.get("thinking", {}).get("type") in ("enabled", "adaptive")
    fixed = thinks or not facts.samples(out["model"])
    for name in ("temperature", "top_p"):
        value = fields.take(name)
        if value is None:
            continue
        if fixed or (name == "top_p" and "temperature" in out):
            fields.drop(name)
        else:
            out[name] = min(value, 1)


def _effort(fields: Fields, out: Body, forced: bool) -> None:
    """Reasoning effort: `output_config.effort` where a model thinks as it finds right (LiteLLM's
    mapping), else a budget; a call whose tool is forced cannot think."""
    effort = fields.take("reasoning_effort")
    if effort is None:
        return
    if effort == "none":
        if facts.adapts(out["model"]):
            out["thinking"] = {"type": "disabled"}
        return
    if facts.adapts(out["model"]):
        level = {"effort": _EFFORTS.get(effort, effort)}
        out["output_config"] = {**out.get("output_config", {}), **level}
        if not forced:
            out["thinking"] = {"type": "adaptive"}
        return
    budget = facts.thinking_budget(effort, out["max_tokens"])
    if forced or budget is None or _in_a_turn_without_thinking(out["messages"]):
        fields.drop("reasoning_effort")
    else:
        out["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _in_a_turn_without_thinking(messages: list[Body]) -> bool:
    """Whether tools are being answered whose calls came without thinking: it cannot begin now."""
    last = next((m for m in reversed(messages) if m["role"] == "assistant"), None)
    if last is None or messages[-1]["role"] != "user":
        return False
    answered = any(b["type"] == "tool_result" for b in parts_of(messages[-1]["content"]))
    return answered and "thinking" not in parts_of(last["content"])[0]["type"]


def _tools(fields: Fields, out: Body, names: Names) -> bool:
    """The tools and which of them; whether one must be called."""
    tools = []
    for index, tool in enumerate(items_of(fields.take("tools"))):
        if tool.get("type") != "function":
            refuse(
                f"tools[{index}].type",
                f"{tool.get('type')!r} has no counterpart on Anthropic's wire",
                "offer it as a function",
            )
        function = tool["function"]
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        given = {"name": names.out(function["name"]), "input_schema": {"type": "object", **schema}}
        for name in ("description", "strict"):
            if function.get(name):
                given[name] = function[name]
        mark = tool.get("cache_control") or function.get("cache_control")
        tools.append(given | ({"cache_control": mark} if mark else {}))
    choice, parallel = fields.take("tool_choice"), fields.take("parallel_tool_calls")
    if not tools:
        return False
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools") or choice
        chosen = {names.out(t["function"]["name"]) for t in allowed["tools"] if "function" in t}
        tools, choice = [t for t in tools if t["name"] in chosen], allowed.get("mode")
    out["tools"] = tools
    said: Body = {}
    match choice:
        case "auto" | "none":
            said = {"type": choice}
        case "required":
            said = {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            said = {"type": "tool", "name": names.out(name)}
    if parallel is False and said.get("type") != "none":
        said = {**(said or {"type": "auto"}), "disable_parallel_tool_use": True}
    if said:
        out["tool_choice"] = said
    return said.get("type") in ("any", "tool")


class _Conversation:
    """The messages: those of one side that follow each other become one."""

    def __init__(self, model: str, names: Names, fields: Fields) -> None:
        self._model, self._names, self._fields = model, names, fields
        self._said: list[Body] = []

    def read(self, messages: list[Body]) -> tuple[list[Body], list[Body]]:
        """System blocks and messages. A system prompt alone is what there is to be answered."""
        system: list[Body] = []
        for index, message in enumerate(messages):
            where = f"messages[{index}]"
            if message.get("name"):
                self._fields.drop("messages.name")
            match message["role"]:
                case "system" | "developer" if not self._said:
                    system += self._blocks(message, where)
                case "system" | "developer":
                    text = f"<system>\n{text_of(message['content'])}\n</system>"
                    self._add("user", [{"type": "text", "text": text}])
                case "user":
                    self._add("user", self._blocks(message, where))
                case "tool":
                    self._add("user", [self._result(message, where)])
                case "assistant":
                    self._add("assistant", self._assistant(message, where))
                case role:
                    refuse(f"{where}.role", f"{role!r} has no counterpart", "use user or tool")
        if not self._said and system:
            self._add("user", [system.pop()])
        self._end()
        return system, [{"role": m["role"], "content": _content(m["content"])} for m in self._said]

    def _end(self) -> None:
        """An answer that is to be gone on with may not end in white space."""
        if self._said and self._said[-1]["role"] == "assistant":
            blocks = self._said[-1]["content"]
            if blocks[-1]["type"] == "text":
                blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}

    def _add(self, role: str, blocks: list[Body]) -> None:
        """Put blocks to the side that speaks. Results come first: the wire has it so."""
        if not blocks:
            return
        if not self._said or self._said[-1]["role"] != role:
            self._said.append({"role": role, "content": blocks})
            return
        said: list[Body] = self._said[-1]["content"]
        results = sum(block["type"] == "tool_result" for block in said)
        at = results if blocks[0]["type"] == "tool_result" else len(said)
        said[at:at] = blocks

    def _blocks(self, message: Body, where: str) -> list[Body]:
        parts = parts_of(message.get("content") or "")
        if any(isinstance(p.get("image_url"), dict) and "detail" in p["image_url"] for p in parts):
            self._fields.drop("image_url.detail")
        found = [
            block
            for place, part in enumerate(parts)
            for block in block_from_part(part, f"{where}.content[{place}]")
        ]
        if found and message.get("cache_control"):
            found[-1].setdefault("cache_control", message["cache_control"])
        return found

    def _result(self, message: Body, where: str) -> Body:
        blocks = self._blocks(message, where)
        mark = blocks[-1].pop("cache_control", None) if blocks else None
        failed = bool(blocks) and str(blocks[0].get("text", "")).startswith(FAILED)
        if failed:
            blocks[0]["text"] = blocks[0]["text"].removeprefix(FAILED)
        result: Body = {
            "type": "tool_result",
            "tool_use_id": _id(message["tool_call_id"]),
            "content": _content([b for b in blocks if b.get("text") != ""]),
        }
        if failed:
            result["is_error"] = True
        return result | ({"cache_control": mark} if mark else {})

    def _assistant(self, message: Body, where: str) -> list[Body]:
        blocks = [*self._thinking(message), *self._blocks(message, where)]
        if message.get("refusal"):
            blocks.append({"type": "text", "text": message["refusal"]})
        if message.get("function_call"):
            refuse(f"{where}.function_call", *_NO["functions"])
        if message.get("audio"):
            refuse(f"{where}.audio", *_NO["audio"])
        for place, call in enumerate(items_of(message.get("tool_calls"))):
            if call.get("type", "function") != "function":
                at = f"{where}.tool_calls[{place}].type"
                refuse(at, f"{call['type']!r} has no counterpart", "offer it as a function")
            function = call["function"]
            use = {
                "type": "tool_use",
                "id": _id(call["id"]),
                "name": self._names.out(function["name"]),
                "input": arguments_of(function.get("arguments")),
            }
            mark = call.get("cache_control")
            blocks.append(use | ({"cache_control": mark} if mark else {}))
        return blocks

    def _thinking(self, message: Body) -> list[Body]:
        for name in ("reasoning_content", "reasoning", "reasoning_details"):
            if message.get(name):
                self._fields.drop(f"messages.{name}")
        found = items_of(message.get("thinking_blocks"))
        if found and not facts.by_claude(self._model):
            self._fields.drop("messages.thinking_blocks")
            return []
        return [b for b in found if b.get("signature") or b.get("type") == "redacted_thinking"]


def _content(blocks: list[Body]) -> Any:
    """Blocks, or the text where there is but one without a mark."""
    if not blocks:
        return ""
    bare = len(blocks) == 1 and set(blocks[0]) == {"type", "text"}
    return blocks[0]["text"] if bare else blocks


def _id(call_id: str) -> str:
    """A call's id in the letters that Anthropic's wire takes."""
    return _IDS.sub("_", call_id) or "_"
