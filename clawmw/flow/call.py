"""How a flow reaches its models: one chat completion over HTTP per model call.

The client's transport is where clawmw's policy acts; the headers tell it who calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clawmw.core.identity import HEADERS
from clawmw.errors import FlowError, PolicyError
from clawmw.flow.turns import Caller, ModelCall, ModelReply
from clawmw.stages.base import ModelRef

if TYPE_CHECKING:
    import httpx

__all__ = ["STOPPED", "http_caller"]

STOPPED = "x-clawmw-stopped"
"""Response header: a guard ended the chain; its value is the rule."""


def http_caller(
    client: httpx.Client,
    models: Mapping[str, ModelRef],
    keys: Mapping[str, str] | None = None,
    extensions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Caller:
    """A caller that posts to each model's `base_url` + `/chat/completions`.

    `keys` are bearer tokens by model name, `extensions` what its requests carry for the client's
    transport. The body is the same bytes for the same state.
    """

    def call(request: ModelCall) -> ModelReply:
        import httpx

        model = models[request.model]
        if model.base_url is None:
            where = f"models.{request.model}"
            raise PolicyError(f"{where}: a flow needs its `base_url`", where=where)
        url = model.base_url.rstrip("/") + "/chat/completions"
        headers = _headers(request)
        if token := (keys or {}).get(request.model):
            headers["authorization"] = f"Bearer {token}"
        content = _bytes({**request.body, "model": model.id})
        place = f"step {request.step!r}, model {request.model!r} at {url}"
        try:
            more = dict((extensions or {}).get(request.model, {}))
            response = client.post(url, content=content, headers=headers, extensions=more)
        except httpx.HTTPError as e:
            raise FlowError(f"{place}: {type(e).__name__}: {e}") from None
        stopped = response.headers.get(STOPPED)
        if stopped is not None:
            return ModelReply({}, stopped, _reason(response.text))
        if response.is_error:
            raise FlowError(f"{place}: HTTP {response.status_code}: {_reason(response.text)}")
        try:
            return ModelReply(response.json())
        except ValueError:
            raise FlowError(f"{place}: the answer is not JSON") from None

    return call


def _headers(request: ModelCall) -> dict[str, str]:
    identity = request.identity
    return {
        "content-type": "application/json",
        HEADERS["agent"]: identity.agent,
        HEADERS["session"]: identity.session,
        HEADERS["chain"]: identity.chain,
        HEADERS["kind"]: identity.kind or "flow",
    }


def _bytes(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate, from a model or a tool
        return json.dumps(body, separators=(",", ":")).encode()


def _reason(text: str) -> str:
    """What a failed or stopped call says, on one line: its error, or its message."""
    try:
        body = json.loads(text)
        error = body.get("error")
        if isinstance(error, dict):
            text = str(error["message"])
        elif error is not None:
            text = str(error)
        else:
            text = str(body["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        pass
    return " ".join(text.split())[:400]
