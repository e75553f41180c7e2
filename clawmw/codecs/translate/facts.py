"""What decides a translation about models, by their ids. As of 2026-11.

Sources: platform.claude.com (sampling parameters are refused from Claude 4.7 on; adaptive
thinking and `output_config.effort` from 4.6 on; `max_tokens` is required), platform.openai.com
(reasoning models take `max_completion_tokens` and no sampling parameters), LiteLLM's table of
thinking budgets by effort.
"""

from __future__ import annotations

import re

__all__ = [
    "adapts",
    "by_claude",
    "effort_of",
    "openai_reasons",
    "output_default",
    "samples",
    "takes_effort",
    "thinking_budget",
]

_NEW = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2})(?!\d))?")
_OLD = re.compile(r"claude-(\d)(?:[-.](\d)(?!\d))?")
_OPENAI_REASONS = re.compile(r"(?:^|/)(?:gpt-(?:[5-9]|\d\d)|o[1-9])(?!\d)")
_OPENAI_PLAIN = re.compile(r"(?:^|/)(?:gpt-[34]|chatgpt-4)")
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
LEAST_BUDGET = 1024


def _claude(model: str) -> tuple[int, int] | None:
    """The version of a Claude model, None for another; one that is not known is a later one."""
    name = model.lower()
    if "claude" not in name:
        return None
    found = _NEW.search(name) or _OLD.search(name)
    if found is None:
        return (1, 0) if "claude-instant" in name else (99, 0)
    return int(found[1]), int(found[2] or 0)


def by_claude(model: str) -> bool:
    """Whether a model is of the family whose signed thinking all its members accept."""
    return "claude" in model.lower()


def samples(model: str) -> bool:
    """Whether `temperature`, `top_p` and `top_k` are accepted on Anthropic's wire."""
    version = _claude(model)
    return version is None or version < (4, 7)


def adapts(model: str) -> bool:
    """Whether a model thinks as long as it finds right, steered by an effort."""
    version = _claude(model)
    return version is not None and version >= (4, 6)


def output_default(model: str) -> int:
    """`max_tokens` where a caller gives none: Anthropic's wire requires one."""
    version = _claude(model)
    if version is None:
        return 8192
    return 4096 if version < (3, 5) else 8192 if version < (4, 0) else 32_000


def thinking_budget(effort: str, most: int) -> int | None:
    """Tokens of thinking for an effort, below `most`; None where there is no room."""
    budget = min(_BUDGETS.get(effort, _BUDGETS["medium"]), most - 1)
    return budget if budget >= LEAST_BUDGET else None


def effort_of(budget: int) -> str:
    """The effort that a budget of thinking stands for."""
    return next((e for e in ("high", "medium", "low") if budget >= _BUDGETS[e]), "minimal")


def openai_reasons(model: str) -> bool:
    """Whether a model is one of OpenAI's that reason."""
    return bool(_OPENAI_REASONS.search(model))


def takes_effort(model: str) -> bool:
    """Whether `reasoning_effort` is accepted: OpenAI's models that do not reason refuse it."""
    return not _OPENAI_PLAIN.search(model)
