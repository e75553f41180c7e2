"""The names under which instrumentations say the same thing. Data only.

GenAI: OpenTelemetry's conventions, today's and earlier ones. OpenInference: Arize's.
Traceloop: OpenLLMetry's own, of before the conventions. Vercel: the AI SDK's. OpenClaw: its
diagnostics plugin's, read in its source in November 2026. Where a span says a thing under
two names, the first of a row counts.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COUNTS", "KINDS", "NAMED", "OPENCLAW", "OPERATIONS", "TEXTS", "USD"]

TEXTS: Mapping[str, tuple[str, ...]] = {
    "model": (
        "gen_ai.request.model",
        "gen_ai.response.model",
        "llm.model_name",
        "llm.request.model",
        "llm.response.model",
        "ai.model.id",
        "embedding.model_name",
        "openclaw.model",
    ),
    "session_id": (
        "gen_ai.conversation.id",
        "session.id",
        "langfuse.session.id",
        "traceloop.correlation.id",
        "openclaw.session.key",
    ),
    "agent": (
        "gen_ai.agent.name",
        "agent.name",
        "openclaw.agent",
        "openclaw.agent.id",
        "gen_ai.workflow.name",
    ),
    "error_type": ("error.type",),
    "chain_id": ("clawmw.chain.id",),
}
"""Column -> the attributes it is read from."""

COUNTS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "openclaw.model_call.usage.prompt_tokens",
        "clawmw.reported.input_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        "openclaw.model_call.usage.output_tokens",
        "clawmw.reported.output_tokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.usage.cache_read_input_tokens",
        "ai.usage.cachedInputTokens",
        "openclaw.model_call.usage.cache_read_input_tokens",
        "clawmw.reported.cache_read_tokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "llm.token_count.prompt_details.cache_write",
        "llm.usage.cache_creation_input_tokens",
        "openclaw.model_call.usage.cache_creation_input_tokens",
        "clawmw.reported.cache_write_tokens",
    ),
}
"""Columns that count tokens."""

USD = (
    "clawmw.cost.usd",
    "gen_ai.usage.cost",
    "operation.cost",
    "llm.cost.total",
    "llm.usage.cost",
)
"""Attributes that hold a call's cost in USD, by whoever's price table."""

OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "completion": "chat",
    "text_completion": "chat",
    "generate_content": "chat",
    "message": "chat",
    "responses": "chat",
    "invoke_agent": "invoke_agent",
    "create_agent": "create_agent",
    "invoke_workflow": "invoke_workflow",
    "execute_tool": "execute_tool",
    "embeddings": "embeddings",
    "embedding": "embeddings",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "inference": "inference",
    "plan": "plan",
}
"""`gen_ai.operation.name`, or Traceloop's `llm.request.type` -> the operation of a row."""

KINDS: Mapping[str, str] = {
    "llm": "chat",
    "agent": "invoke_agent",
    "tool": "execute_tool",
    "workflow": "invoke_workflow",
    "embedding": "embeddings",
    "retriever": "retrieval",
    "reranker": "rerank",
}
"""`openinference.span.kind` or `traceloop.span.kind`, in lower case -> the operation."""

NAMED: Mapping[str, str] = {
    "ai.generateText": "invoke_agent",
    "ai.streamText": "invoke_agent",
    "ai.generateObject": "invoke_agent",
    "ai.streamObject": "invoke_agent",
    "ai.generateText.doGenerate": "chat",
    "ai.streamText.doStream": "chat",
    "ai.generateObject.doGenerate": "chat",
    "ai.streamObject.doStream": "chat",
    "ai.toolCall": "execute_tool",
    "ai.embed": "span",
    "ai.embedMany": "span",
}
"""`ai.operationId` -> the operation. The outer spans repeat the sums of those within."""

OPENCLAW: Mapping[str, str] = {
    "openclaw.run": "invoke_agent",
    "openclaw.harness.run": "invoke_agent",
    "openclaw.agent.turn": "invoke_agent",
    "openclaw.tool.execution": "execute_tool",
    # A report of what a run used, written when it is over: its calls have spans of their own.
    "openclaw.model.usage": "span",
}
"""OpenClaw's span names -> the operation, whatever else the span says."""
