"""`clawmw_expand` over the Model Context Protocol, on standard input and output.

For agents whose host asks MCP servers for tools: what was cut in one session can be read
there without another model call being changed. One server serves one session, which its
starter names; what a model writes cannot widen it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Protocol

from clawmw.adapters.propagation import received
from clawmw.core.identity import Identity
from clawmw.errors import ClawmwError
from clawmw.originals import Originals
from clawmw.stages.context.expand import NAME, PARAMETERS
from clawmw.stages.context.slices import Asked

__all__ = ["serve"]

_DESCRIPTION = (
    "Returns what a [clawmw_expand REF: ...] marker in a tool result left out. "
    "query: words to find; lines: A-B; path: a place in JSON, such as data.items[3].id. "
    "An answer is about 1,500 tokens and says what else there is."
)


class Tracer(Protocol):
    """Who writes down what was asked for."""

    def tool(self, identity: Identity, name: str, call_id: str) -> AbstractContextManager[Any]:
        """The span of one call."""
        ...


def serve(originals: Originals, identity: Identity, tracer: Tracer | None = None) -> None:
    """Serve until standard input ends. `ModuleNotFoundError` without the extra `mcp`.

    `tracer` is told of each call that says which chain it is part of (`params._meta`).
    """
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    async def tools(_context: Any, _params: Any) -> types.ListToolsResult:
        tool = types.Tool(name=NAME, description=_DESCRIPTION, input_schema=PARAMETERS)
        return types.ListToolsResult(tools=[tool])

    async def call(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        if params.name != NAME:
            text, found = f"there is no tool {params.name[:80]!r}; the only one is {NAME}", False
        else:
            asked = Asked.of(params.arguments)
            with _span(tracer, identity, params.meta):
                text, found = await asyncio.to_thread(_answered, originals, identity, asked)
        content = types.TextContent(type="text", text=text)
        return types.CallToolResult(content=[content], is_error=not found)

    async def run() -> None:
        server = Server("clawmw", version=version("clawmw"), on_list_tools=tools, on_call_tool=call)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(run())


def _span(
    tracer: Tracer | None, identity: Identity, meta: Mapping[str, Any] | None
) -> AbstractContextManager[Any]:
    """The call's span, in the trace of its caller; none where that names no chain."""
    came = received(meta)
    if tracer is None or not came.chain:
        return nullcontext()
    agent = came.parent_agent or "default"
    who = replace(came, tenant=identity.tenant, agent=agent, session=identity.session)
    return tracer.tool(who, NAME, "")


def _answered(originals: Originals, identity: Identity, asked: Asked) -> tuple[str, bool]:
    try:
        text, found = originals.answer(identity, asked)
    except ClawmwError as error:
        return f"clawmw cannot read its store: {error}", False
    # JSON-RPC is UTF-8: a lone surrogate, which JSON itself may hold, is shown as an escape.
    return text.encode("utf-8", "backslashreplace").decode(), found
