"""What of another library's span may be kept: names, counts and sums; never content.

Texts are kept only under names that are known to hold a name, and only if they look like
one: short, and on one line. Numbers and switches are kept under any name but those of
content. Everything is bounded, in number and in length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from clawmw.observe.otlp.sound import sound_mark
from clawmw.observe.otlp.wire import Value, WireEvent
from clawmw.observe.spans.attributes import error_type, label

__all__ = ["LONGEST", "is_content", "kept", "kept_of_ours", "marked", "named"]

LONGEST = 128
"""Characters of a name."""
_MANY = 64
"""Attributes of one span of another library."""
_MANY_OF_OURS = 256
_EVENTS = 32
_EVENTS_OF_OURS = 512
_ITEMS = 16
"""Items of one list."""

_CONTENT = re.compile(
    # OpenTelemetry GenAI, as of today and as it was
    r"gen_ai\.(input\.messages|output\.messages|system_instructions|tool\.definitions"
    r"|tool\.call\.(arguments|result)|tool\.(description|input|output)|agent\.description"
    r"|prompt|completion|choice|request\.stop_sequences|system\.message|user\.message"
    r"|assistant\.message|tool\.message|event\.content|evaluation\.explanation"
    r"|retrieval\.(query|documents)|data_source\.description)(\..*)?"
    # OpenInference
    r"|(input|output)\.(value|mime_type)"
    r"|llm\.(input_messages|output_messages|prompts?|completions?|tools|function_call"
    r"|choices|prompt_template|invocation_parameters|request\.functions)(\..*)?"
    r"|(message|message_content|document|image|audio|reranker|retrieval|embedding|tool_call"
    r"|metadata|tag|prompt|exception|user|enduser)(\..*)?"
    r"|tool\.(description|parameters|json_schema)(\..*)?|tool_arguments|tool_response"
    # Traceloop, the Vercel AI SDK, Logfire and Pydantic AI, Langfuse, MLflow
    r"|traceloop\.(entity\.(input|output|path)|prompt|association\.properties)(\..*)?"
    r"|ai\.(prompt|response\.(text|object|toolCalls|reasoning)|toolCall\.(args|result)"
    r"|schema|request\.headers|telemetry\.metadata|value|values|embedding|embeddings)(\..*)?"
    r"|(pydantic_ai\.)?(all_messages|all_messages_events|final_result)|events|logfire\..*"
    r"|langfuse\.(observation|trace)\.(input|output|metadata)(\..*)?|langfuse\.user\.id"
    r"|mlflow\..*|graph\.state(\..*)?"
    # OpenClaw
    r"|openclaw\.(content|error|tool\.params|message\.from|security|ai_safety)(\..*)?"
    # whatever else says what was said
    r"|.*\.(content|text|body|arguments|statement|query|stacktrace|prompt|completion"
    r"|password|secret|token|authorization|cookie|email)",
    re.IGNORECASE,
)
_NAMES = re.compile(
    r"gen_ai\.(operation\.name|system|provider\.name|request\.(model|reasoning\.level|encoding_formats)"
    r"|response\.(id|model|finish_reasons?)|output\.type|tool\.(name|type|call\.id)"
    r"|agent\.(id|name|version)|workflow\.name|conversation\.id|data_source\.id|token\.type"
    r"|usage\..*|prompt\.(name|version))"
    r"|llm\.(model_name|provider|system|request\.(type|model)|response\.(model|finish_reason))"
    r"|openinference\.span\.kind|session\.id|langfuse\.session\.id|graph\.node\.\w+"
    r"|tool\.name|tool\.id|agent\.name|span\.type|error\.type|exception\.type"
    r"|traceloop\.(span\.kind|workflow\.name|entity\.(name|version)|correlation\.id)"
    r"|ai\.(operationId|model\.(id|provider)|response\.(finishReason|model|id)|toolCall\.(name|id)"
    r"|settings\.\w+|telemetry\.functionId)|operation\.name"
    r"|openclaw\.[\w.]+|clawmw\.(chain|session)\.id|clawmw\.[\w.]+"
    r"|(http|url|rpc|server|network|db|messaging|faas|process|code|thread|otel|mcp|jsonrpc|peer)"
    r"\.(method|request\.method|response\.status_code|status_code|route|scheme|system(\.name)?"
    r"|service|address|port|name|operation(\.name)?|function(\.name)?|namespace|transport"
    r"|protocol\.(name|version)|method\.name|type|collection\.name|destination\.name|flavor"
    r"|request\.id|session\.id|status_code|library\.name|scope\.name)"
)
_NAME_LIKE = re.compile(r"[^\s\x00-\x1f](?:[^\r\n\x00-\x1f]{0,126}[^\s\x00-\x1f])?")
_WORD = re.compile(r"[\w.:/@+=-]{1,120}")
_OWN_WORDS = ("openclaw.",)
"""Names so wide that their texts must look like identifiers."""


@lru_cache(maxsize=4096)  # the same names on every span; long ones are never asked about
def is_content(name: str) -> bool:
    """Whether an attribute of that name says what was said."""
    return _CONTENT.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAMES.fullmatch(name) is not None


def named(text: object) -> str | None:
    """A text that looks like a name; None for anything else."""
    if not isinstance(text, str) or not _NAME_LIKE.fullmatch(text):
        return None
    return label(text, LONGEST)


def _word(text: str) -> str | None:
    return text if _WORD.fullmatch(text) else None


def kept(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """What may be kept of another library's attributes."""
    found: dict[str, Value] = {}
    for name, value in attributes.items():
        if len(found) >= _MANY:
            break
        if len(name) > LONGEST or is_content(name):
            continue
        value_kept = _kept(name, value)
        if value_kept is not None:
            found[label(name, LONGEST)] = value_kept
    return found


def _kept(name: str, value: Value) -> Value | None:
    if isinstance(value, bool | int | float):
        return value
    if not _is_name(name):
        return None
    if name == "error.type":
        return error_type(value if isinstance(value, str) else None)
    read = _word if name.startswith(_OWN_WORDS) else named
    if isinstance(value, str):
        return read(value)
    items = [read(v) if isinstance(v, str) else v for v in value[:_ITEMS]]
    plain = tuple([item for item in items if item is not None])
    return plain or None


def kept_of_ours(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """What is kept of a span that says it is ours: all but content, bounded."""
    found: dict[str, Value] = {}
    for name, value in attributes.items():
        if len(found) >= _MANY_OF_OURS:
            break
        if len(name) <= 2 * LONGEST and not is_content(name):
            found[name] = _cut(value)
    return found


def _cut(value: Value) -> Value:
    if isinstance(value, str):
        return label(value, 2 * LONGEST)
    if isinstance(value, bool | int | float):
        return value
    return tuple([label(v, 2 * LONGEST) if isinstance(v, str) else v for v in value[:64]])


def marked(events: tuple[WireEvent, ...], *, ours: bool) -> tuple[Mapping[str, Value | int], ...]:
    """Span events as rows keep them; an exception keeps its type alone."""
    found: list[Mapping[str, Value | int]] = []
    for event in events[: _EVENTS_OF_OURS if ours else _EVENTS]:
        mark: dict[str, Value | int] = {
            "name": label(event.name.partition("\n")[0], LONGEST),
            "time_ns": event.time_ns,
        }
        said = kept_of_ours(event.attributes) if ours else kept(event.attributes)
        if event.name == "exception":
            kind = event.attributes.get("exception.type")
            said = {"exception.type": error_type(kind if isinstance(kind, str) else None)}
        whole = sound_mark(event.name, said)
        if whole is not None:
            found.append({**whole, **mark})
    return tuple(found)
