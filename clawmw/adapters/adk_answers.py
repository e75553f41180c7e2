"""What a model under ADK answered, as a chat completion, and back."""

from __future__ import annotations

import json
import uuid
from typing import Any

from clawmw.adapters.direct import Body
from clawmw.core.types import Json

__all__ = [
    "OWN",
    "UNNAMED",
    "call_of",
    "completion",
    "dumped",
    "id_of",
    "parts_of",
    "reason_of",
    "response_of",
    "said",
    "usage_of",
]

OWN = "adk"
"""The type of a part that is ADK's own: `at` is its digest."""
UNNAMED = "~"
"""How the ids begin of calls that have none: Gemini pairs them by name and order."""
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length"}


def completion(response: Any) -> Body:
    """What a model answered, as a chat completion."""
    text, calls = said(response)
    message: Body = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    reason = reason_of(response) or ("tool_calls" if calls else "stop")
    choice = {"index": 0, "message": message, "finish_reason": reason}
    body: Body = {"object": "chat.completion", "choices": [choice], "model": response.model_version}
    usage = usage_of(response)
    return {**body, "usage": usage} if usage else body


def said(response: Any) -> tuple[str, list[Body]]:
    """Its text, without thoughts, and the tools it asks for."""
    text, calls = "", []
    for part in (response.content.parts if response.content else None) or ():
        if part.function_call is not None:
            calls.append(call_of(part.function_call, part.function_call.id or _new()))
        elif part.text and not part.thought:
            text += part.text
    return text, calls


def response_of(body: Body, own: Any = None) -> Any:
    """ADK's answer for a chat completion; `own` is the model's, whose other facts hold."""
    from google.adk.models.llm_response import LlmResponse
    from google.genai import types

    choice = body["choices"][0]
    content = types.Content(role="model", parts=parts_of(choice["message"]))
    if own is not None:
        return own.model_copy(update={"content": content})
    reason = types.FinishReason.MAX_TOKENS if choice["finish_reason"] == "length" else "STOP"
    return LlmResponse(content=content, finish_reason=reason, partial=False)


def reason_of(response: Any) -> str | None:
    """Why a model stopped, in the words of chat completions; None: it did not say."""
    if response.error_code is not None:
        return "content_filter"
    if response.finish_reason is None:
        return None
    calls = (response.content.parts if response.content else None) or ()
    if any(part.function_call is not None for part in calls):
        return "tool_calls"
    return _REASONS.get(response.finish_reason.name, "content_filter")


def usage_of(response: Any) -> Body | None:
    """Tokens as chat completions count them: thoughts are among the answer's."""
    found = response.usage_metadata
    if found is None or found.prompt_token_count is None:
        return None
    thoughts = found.thoughts_token_count or 0
    prompt = found.prompt_token_count + (found.tool_use_prompt_token_count or 0)
    answer = (found.candidates_token_count or 0) + thoughts
    if found.total_token_count == prompt + answer - thoughts:
        answer -= thoughts  # LiteLlm counts them among the candidates'
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": found.cached_content_token_count or 0},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def parts_of(
    value: Json, kept: dict[str, Any] | None = None, calls: dict[str, Any] | None = None
) -> list[Any]:
    """The parts of a message that is no tool's; those known come back as they were."""
    from google.genai import types

    content, found = value.get("content"), []
    items = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    for item in items:
        if item.get("type") == OWN and kept and item["at"] in kept:
            found.append(kept[item["at"]])
        elif item.get("text"):
            found.append(types.Part(text=item["text"]))
    for call in value.get("tool_calls") or ():
        own = (calls or {}).get(call["id"])
        if own is not None and call_of(own.function_call, call["id"]) == call:
            found.append(own)
            continue
        function = call["function"]
        arguments = json.loads(function.get("arguments") or "{}")
        made = types.FunctionCall(id=id_of(call["id"]), name=function["name"], args=arguments)
        found.append(types.Part(function_call=made))
    return found or [types.Part(text="")]


def dumped(value: Any) -> str:
    """A value as JSON, whatever is in it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def call_of(call: Any, id_: str) -> Body:
    function = {"name": call.name or "", "arguments": dumped(call.args or {})}
    return {"id": id_, "type": "function", "function": function}


def id_of(id_: str) -> str | None:
    return None if id_.startswith(UNNAMED) else id_


def _new() -> str:
    return f"{UNNAMED}{uuid.uuid4().hex[:12]}"
