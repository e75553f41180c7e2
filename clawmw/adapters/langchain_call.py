"""One call of a LangChain chat model: what the policy is told of it, and what is then asked."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from clawmw.adapters.direct import Asked, Body
from clawmw.adapters.langchain_messages import handed_on, value_of
from clawmw.adapters.langchain_stream import Signed
from clawmw.core.canon import MARKS
from clawmw.core.types import Json
from clawmw.policy.models import ModelEntry
from clawmw.runtime import Runtime

__all__ = ["Ask", "Others", "once", "signs", "wants_form"]

_SAID = ("temperature", "top_p", "seed", "n", "max_tokens", "max_completion_tokens")
"""What a chat model knows itself, and a call may say otherwise."""
_ASKED = ("parallel_tool_calls", "prompt_cache_key", "reasoning_effort", "cache_control")
_WIRE = frozenset({"model", "messages", "tools", "stream", "stream_options", "stop"})
"""What of a body is not handed on as an argument of the call."""
_LIMITS = ("max_tokens", "max_completion_tokens")
_PROVIDERS = {
    **{name: name for name in ("openai", "anthropic", "deepseek", "groq", "xai", "ollama")},
    "mistral": "mistralai",
    "gemini": "google_genai",
    "bedrock": "bedrock_converse",
}
"""Prefixes of a model's id (`provider/model`), and what LangChain calls the provider."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A call as its caller made it."""

    inner: BaseChatModel
    messages: Sequence[BaseMessage]
    stop: list[str] | None
    kwargs: Mapping[str, Any]
    body: Body

    @classmethod
    def of(
        cls,
        inner: BaseChatModel,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        *,
        stream: bool,
    ) -> Ask:
        """A call with the body that the policy sees."""
        body: Body = {
            "model": _name(inner, kwargs),
            "messages": [value_of(message) for message in messages],
        }
        if kwargs.get("tools"):
            body["tools"] = [_tool(tool) for tool in kwargs["tools"]]
        body.update(_params(inner, kwargs))
        if stop:
            body["stop"] = stop
        if stream:
            body["stream"] = True
            if _counts(inner, kwargs):
                body["stream_options"] = {"include_usage": True}
        return cls(inner, messages, stop, kwargs, body)

    def to(self, asked: Asked, others: Others) -> tuple[BaseChatModel, list[Any], dict[str, Any]]:
        """The model, messages and arguments that the policy wants asked."""
        if asked.target and (other := others.of(asked.target, self.inner)) is not None:
            messages = handed_on(asked.messages, self.messages, marks=_marks(other))
            return other, messages, self._elsewhere(other, asked)
        messages = handed_on(asked.messages, self.messages, marks=_marks(self.inner))
        return self.inner, messages, self._here(asked)

    def _here(self, asked: Asked) -> dict[str, Any]:
        """The arguments for the caller's own model: as they are, but for what was changed."""
        given = dict(self.kwargs)
        for name in self.body.keys() - asked.body.keys() - _WIRE:
            given.pop(name, None)
        for name, value in asked.body.items():
            if name in _WIRE or value == self.body.get(name):
                continue
            if name in _LIMITS:
                given["max_tokens"] = value
            elif _openai_like(self.inner):
                given[name] = value
        if asked.model != self.body["model"]:
            given["model"] = _bare(asked.model, self.inner)
        if _openai_like(self.inner) and "stream_options" in asked.body.keys() - self.body.keys():
            given["stream_usage"] = True  # for the policy alone: it takes it out again
        return self._with_tools(given, asked.body.get("tools") or ())

    def _with_tools(self, given: dict[str, Any], tools: Sequence[Json]) -> dict[str, Any]:
        """Tools as this model's class takes them; those that are unchanged as they came."""
        shown = self.body.get("tools") or []
        if len(tools) == len(shown) and all(
            a is b or a == b for a, b in zip(tools, shown, strict=True)
        ):
            return given
        own = dict(zip(map(_tool_name, shown), self.kwargs.get("tools") or (), strict=True))
        known = dict(zip(map(_tool_name, shown), shown, strict=True))
        made = []
        for tool in tools:
            name = _tool_name(tool)
            marks = {k: v for k, v in tool.items() if k in MARKS}
            if name not in own or {**known[name], **marks} != tool:
                made += self.inner.bind_tools([tool]).kwargs["tools"]  # type: ignore[attr-defined]
            else:
                made.append({**own[name], **marks} if marks and _marks(self.inner) else own[name])
        return {**given, "tools": made}

    def _elsewhere(self, other: BaseChatModel, asked: Asked) -> dict[str, Any]:
        """The arguments for a model of another class or place."""
        body = asked.body
        names = ("temperature", "response_format", "parallel_tool_calls")
        given = {k: body[k] for k in names if k in self.kwargs and k in body}
        limits = [body[name] for name in _LIMITS if body.get(name) is not None]
        if limits and any(name in self.kwargs for name in _LIMITS):
            given["max_tokens"] = limits[0]
        if tools := body.get("tools"):
            choice = _choice_for(body.get("tool_choice"))
            chosen = {"tool_choice": choice} if choice is not None else {}
            bound = other.bind_tools(tools, **chosen)
            given |= bound.kwargs  # type: ignore[attr-defined]
        return given


class Others:
    """Chat models for the policy's names, made when first asked for."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._made: dict[tuple[str, str], BaseChatModel | None] = {}

    def of(self, target: str, inner: BaseChatModel) -> BaseChatModel | None:
        """The model to ask for `target`; None: the caller's own class under another name."""
        key = (target, inner._llm_type)
        if key not in self._made:
            self._made[key] = self._make(self.runtime.terms.models[target], inner)
        return self._made[key]

    def _make(self, entry: ModelEntry, inner: BaseChatModel) -> BaseChatModel | None:
        from langchain.chat_models import init_chat_model

        prefix, slash, rest = entry.model.partition("/")
        if entry.base_url is not None:
            dialect = str(getattr(entry, "dialect", "") or "")
            kind = "anthropic" if dialect.startswith("anthropic") else "openai"
            key = os.environ.get(entry.api_key_env) if entry.api_key_env else None
            given: dict[str, Any] = {"base_url": entry.base_url, "api_key": key or "none"}
            made: BaseChatModel = init_chat_model(
                entry.model, model_provider=kind, max_retries=0, **given
            )
            return made
        if not slash or prefix not in _PROVIDERS or prefix == _provider(inner):
            return None
        found: BaseChatModel = init_chat_model(rest, model_provider=_PROVIDERS[prefix])
        return found


def wants_form(kwargs: Mapping[str, Any]) -> bool:
    """Whether a program parses the answer: a message of ours would be taken for it."""
    form = kwargs.get("response_format") or kwargs.get("output_format")
    form = form or (kwargs.get("output_config") or {}).get("format")
    if form is not None and not (isinstance(form, dict) and form.get("type") == "text"):
        return True
    return _choice(kwargs.get("tool_choice")) not in (None, "auto", "none")


def once(inner: BaseChatModel) -> BaseChatModel:
    """The same model, asked once a call: the policy retries, and its SDK beside would multiply."""
    same = copy.copy(inner)
    if _claude(inner):
        same.__dict__["max_retries"] = 0
        for name in ("_client", "_async_client"):  # made when first used
            same.__dict__.pop(name, None)
    elif _openai_like(inner):
        for name, root in (("client", "root_client"), ("async_client", "root_async_client")):
            client = getattr(inner, root, None)
            if client is not None:
                same.__dict__[root] = client.with_options(max_retries=0)
                same.__dict__[name] = same.__dict__[root].chat.completions
    return same


def signs(inner: BaseChatModel, kwargs: Mapping[str, Any]) -> Signed:
    """How thoughts must come back."""
    if _claude(inner):
        return "answer"
    return "item" if _responses(inner, kwargs) else "no"


# --- what is said of a call ------------------------------------------------------------------


def _name(inner: BaseChatModel, kwargs: Mapping[str, Any]) -> str:
    found = kwargs.get("model") or getattr(inner, "model_name", None)
    found = found or getattr(inner, "model", None)
    if not isinstance(found, str):
        found = inner._get_ls_params(**kwargs).get("ls_model_name")
    return str(found or inner._llm_type)


def _params(inner: BaseChatModel, kwargs: Mapping[str, Any]) -> Body:
    own = {**(getattr(inner, "model_kwargs", None) or {}), **kwargs}
    said = {name: own.get(name, getattr(inner, name, None)) for name in _SAID}
    said |= {name: own.get(name) for name in _ASKED}
    said["tool_choice"] = _choice(own.get("tool_choice"))
    for name in ("response_format", "output_config", "output_format"):
        if (form := own.get(name)) is not None:
            said["response_format"] = _plain(form)
    return {name: value for name, value in said.items() if value is not None}


def _plain(form: Any) -> Json:
    if isinstance(form, type):
        return {"type": "json_schema", "json_schema": {"name": form.__name__}}
    return json.loads(json.dumps(form, default=str))


def _choice(choice: Any) -> Json:
    """A choice of tools as a chat completion says it."""
    if choice in ("any", True):
        return "required"
    if not isinstance(choice, dict):
        return choice or None
    match choice.get("type"):
        case "tool":
            return {"type": "function", "function": {"name": choice.get("name")}}
        case "any":
            return "required"
        case "auto" | "none":
            return choice["type"]
    return _plain(choice)


def _choice_for(choice: Json) -> Any:
    """A choice of tools as every `bind_tools` takes it."""
    if isinstance(choice, dict):
        return (choice.get("function") or {}).get("name")
    return "any" if choice == "required" else choice


def _tool(tool: Any) -> Json:
    if isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool:
        return tool
    try:
        return convert_to_openai_tool(tool)
    except (ValueError, TypeError):  # a provider's own
        return _plain(tool)


def _tool_name(tool: Json) -> str:
    function = tool.get("function")
    return str((function or tool).get("name") or tool.get("type"))


def _bare(model: str, inner: BaseChatModel) -> str:
    prefix, slash, rest = model.partition("/")
    return rest if slash and prefix == _provider(inner) else model


def _provider(inner: BaseChatModel) -> str:
    kind = inner._llm_type.split("-")[0]
    custom = getattr(inner, "openai_api_base", None)
    return "" if kind == "openai" and custom else kind


@cache
def _comes_from(cls: type, package: str) -> bool:
    return any(base.__module__.startswith(package) for base in cls.__mro__)


def _openai_like(inner: BaseChatModel) -> bool:
    return _comes_from(type(inner), "langchain_openai")


def _claude(inner: BaseChatModel) -> bool:
    return _comes_from(type(inner), "langchain_anthropic")


def _responses(inner: BaseChatModel, kwargs: Mapping[str, Any]) -> bool:
    """Whether the call goes to OpenAI's Responses."""
    uses = getattr(inner, "_use_responses_api", None)
    return bool(uses(dict(kwargs))) if uses is not None else False


def _counts(inner: BaseChatModel, kwargs: Mapping[str, Any]) -> bool:
    """Whether the caller's own stream says what it used."""
    if _responses(inner, kwargs):
        return True
    asks = getattr(inner, "_should_stream_usage", None)
    return bool(asks(**kwargs)) if asks is not None else True


def _marks(inner: BaseChatModel) -> bool:
    """Whether blocks with `cache_control` reach the provider as they are."""
    return _openai_like(inner) or _claude(inner)
