"""Which calls are the same, and which of those may share one answer."""

from __future__ import annotations

import hashlib
import json

from clawmw.core.stage import Context
from clawmw.core.types import Request

__all__ = ["deterministic", "key", "replayable"]

_ALONE = ("stream", "stream_options", "prompt_cache_key")
"""Fields that change how an answer comes, not what it is. `user` and `metadata` are none of them:
upstreams that are proxies route and bill by those."""
_ACTS = (
    *("store", "background", "previous_response_id", "conversation"),  # Responses
    *("container", "mcp_servers"),  # Anthropic
)
"""Fields by which a call does more than answer."""


def deterministic(request: Request) -> bool:
    """Whether the caller asked for the same answer every time: temperature 0, or a seed."""
    params = request.params
    return params.get("temperature") == 0 or params.get("seed") is not None


def replayable(request: Request) -> bool:
    """Whether an answer may stand for the call: it has no effect, and wants one sample."""
    return request.choices == 1 and not any(request.params.get(name) for name in _ACTS)


def key(request: Request, ctx: Context) -> str:
    """Names the call: who asks whom, under which key, and all that is said, byte for byte.

    By the agent's own messages as they came, and every field of the body that is not about the
    way an answer comes; unknown ones included.
    """
    who = ctx.identity
    params = {k: v for k, v in request.params.items() if k not in _ALONE}
    tools = [tool.digest for tool in request.tools]
    said = json.dumps([params, tools], sort_keys=True, default=str)
    names = (who.tenant, who.agent, request.dialect, ctx.upstream(request), said)
    digest = hashlib.blake2b("\x1f".join(names).encode("utf-8", "surrogatepass"), digest_size=16)
    for step in ctx.history.steps:
        digest.update(step.raw.wire or repr(step.raw.parts).encode("utf-8", "surrogatepass"))
        digest.update(b"\x1e")
    return digest.hexdigest()
