"""`create_agent(model, tools, middleware=[clawmw.langchain.Middleware("policy.yaml")])`.

Each model call of the agent runs under the policy, streams included. Put it last: what stands
behind it may exchange the model for another that the policy does not see. What the agent has in
its state stays as the agent wrote it: only what is sent changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.language_models.chat_models import BaseChatModel

from clawmw.adapters.langchain_model import Guard, OnRefusal
from clawmw.core.identity import Identity

__all__ = ["Middleware"]

_MOST = 16
"""Models of one agent that are remembered."""


class Middleware(AgentMiddleware[Any, Any, Any]):
    """See the module. `policy`, `identity` and `on_refusal` are those of `clawmw.langchain.model`.

    A thread is a session, one invocation of the outermost graph a chain; an agent used as a tool
    is an agent of its own in that chain. Raises `PolicyError`.
    """

    def __init__(
        self,
        policy: Any,
        *,
        identity: Identity | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        super().__init__()
        self._guard = Guard(policy, identity, on_refusal)
        self._models: OrderedDict[int, tuple[BaseChatModel, BaseChatModel]] = OrderedDict()

    @property
    def name(self) -> str:
        """What traces and graphs call it."""
        return "clawmw"

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask a model that the policy guards."""
        return handler(request.override(model=self._guarded(request.model)))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """`wrap_model_call`, awaiting."""
        return await handler(request.override(model=self._guarded(request.model)))

    def _guarded(self, model: BaseChatModel) -> BaseChatModel:
        known = self._models.get(id(model))
        if known is not None and known[0] is model:
            return known[1]
        guarded = self._guard.over(model)
        self._models[id(model)] = (model, guarded)
        while len(self._models) > _MOST:
            self._models.popitem(last=False)
        return guarded
