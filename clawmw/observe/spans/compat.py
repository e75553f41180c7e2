"""Names emitted twice, because readers have not all followed the conventions' renames.

The names in `clawmw.observe.spans.attributes` are those of the OpenTelemetry GenAI conventions
(v0.1.0 of `semantic-conventions-genai`). Each row here copies one of them to the name a
group of readers looks for. `ALIASES` says which names are copies, so that the local store
does not keep them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from opentelemetry.util.types import AttributeValue

__all__ = ["ALIASES", "GROUPS", "duplicate", "provider_name"]

_RENAMED: dict[str, dict[str, str]] = {
    # OTel semantic conventions up to 1.41; read by Phoenix 20, OpenLIT 1.45, Langfuse.
    "semconv-1.41": {
        "gen_ai.usage.cache_write.input_tokens": "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.agent.name": "gen_ai.workflow.name",  # root spans only, see `duplicate`
    },
    # Phoenix and others group by it; Langfuse counts only spans that carry it.
    "openinference": {"gen_ai.conversation.id": "session.id"},
    "langfuse": {"gen_ai.conversation.id": "langfuse.session.id"},
    "openlit": {"clawmw.cost.usd": "gen_ai.usage.cost"},
    "logfire": {"clawmw.cost.usd": "operation.cost"},
}

GROUPS = tuple(sorted(_RENAMED))
"""The groups of readers `duplicate` knows."""

_KIND = "openinference.span.kind"
_KINDS = {
    "chat": "LLM",
    "invoke_workflow": "CHAIN",
    "invoke_agent": "AGENT",
    "execute_tool": "TOOL",
}
_COST_DETAILS = "langfuse.observation.cost_details"

ALIASES = frozenset(
    {new for names in _RENAMED.values() for new in names.values()} | {_KIND, _COST_DETAILS}
)
"""Every name `duplicate` may add."""

_PROVIDERS = {
    # litellm's prefix of a model id -> the conventions' well-known value
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "openai": "openai",
    "perplexity": "perplexity",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def duplicate(
    attributes: dict[str, AttributeValue], groups: Iterable[str] = GROUPS
) -> dict[str, AttributeValue]:
    """Add to `attributes`, in place, the second names the readers in `groups` want."""
    operation = str(attributes.get("gen_ai.operation.name", ""))
    if not operation:
        return attributes  # a note on another library's span: nothing of it may count
    for group in groups:
        for name, second in _RENAMED[group].items():
            value = attributes.get(name)
            if value is None:
                continue
            if second == "gen_ai.workflow.name" and operation != "invoke_workflow":
                continue
            attributes[second] = value
        if group == "openinference":
            attributes[_KIND] = _KINDS[operation]
        elif group == "langfuse":
            usd = attributes.get("clawmw.cost.usd")
            if usd is not None:
                attributes[_COST_DETAILS] = json.dumps({"total": usd})
    return attributes


def provider_name(model: str, dialect: str) -> str:
    """`gen_ai.provider.name`: from the model id's prefix, else from the wire dialect.

    A dialect names who defined it; an OpenAI-compatible host without a telling model id is
    `openai`, which is what the conventions ask of an instrumentation that cannot know.
    """
    prefix, slash, _ = model.partition("/")
    if slash and prefix in _PROVIDERS:
        return _PROVIDERS[prefix]
    return "anthropic" if dialect.startswith("anthropic") else "openai"
