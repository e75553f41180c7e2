"""Where the models of a policy answer, and in which dialect: what an entry says, or leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from clawmw.policy.models import ModelEntry
from clawmw.providers.litellm_table import providers

__all__ = ["LITELLM", "OFFICIAL", "Server", "reached", "server"]

LITELLM = "litellm"
"""The scheme of what has no address but is reached by litellm: `litellm://PROVIDER`."""

_CHAT = ("openai.chat",)
_OPENAI = ("openai.chat", "openai.responses")
_MESSAGES = ("anthropic.messages",)
_HOMES = {
    "openai": ("https://api.openai.com/v1", _OPENAI, "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", _MESSAGES, "ANTHROPIC_API_KEY"),
}
OFFICIAL = frozenset({"api.openai.com", "api.anthropic.com"})
"""Hosts that answer for their own models only."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who answers for a model of the policy."""

    base_url: str
    dialects: tuple[str, ...]
    """What it speaks; the first is for callers of none of them."""
    model: str
    """The model's id there."""
    key_env: str | None
    """The environment variable that holds its key."""

    @property
    def by_litellm(self) -> bool:
        """Whether litellm is who reaches it."""
        return self.base_url.startswith(f"{LITELLM}:")

    def dialect_for(self, caller: str) -> str:
        """What to speak with it for a caller of a dialect."""
        return caller if caller in self.dialects else self.dialects[0]


def server(entry: ModelEntry) -> Server | None:
    """Who answers for `entry`; None: whoever the caller calls, the entry names no other."""
    said = (entry.dialect,) if entry.dialect else ()
    if entry.base_url is not None:
        spoken = said or _by_address(entry.base_url)
        return Server(entry.base_url, spoken, entry.model, entry.api_key_env)
    provider, slash, model = entry.model.partition("/")
    if slash and provider in _HOMES:
        base_url, dialects, key_env = _HOMES[provider]
        return Server(base_url, said or dialects, model, entry.api_key_env or key_env)
    if slash and provider in providers():
        return Server(f"{LITELLM}://{provider}", _CHAT, entry.model, entry.api_key_env)
    return None


def reached(entry: ModelEntry) -> str | None:
    """How a model's server is spoken to, in words; None: as the caller speaks to its own."""
    at = server(entry)
    if at is None:
        return None
    said = "by litellm" if at.by_litellm else f"in {' or '.join(at.dialects)}"
    stays = not (entry.base_url or entry.api_key_env)
    return f"{said}, unless its caller calls a gateway" if stays else said


def _by_address(base_url: str) -> tuple[str, ...]:
    """Several providers speak Anthropic's dialect under a path of that name."""
    url = urlsplit(base_url)
    if url.hostname == "api.openai.com":
        return _OPENAI
    path = url.path.removesuffix("/v1").rstrip("/")
    return (
        _MESSAGES if url.hostname == "api.anthropic.com" or path.endswith("/anthropic") else _CHAT
    )
