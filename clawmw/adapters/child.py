"""A command whose model calls come here: its environment, and how it proves to be that command.

Every SDK reads where to call from the environment, so any program can be put behind the gateway
without a change. By default it keeps its own keys, and needs no token: the port is on loopback,
chosen by the system for this one run and gone with it; the gateway refuses web pages (Host,
Origin); and whoever else on this machine finds it can call only with a key of their own, since
the gateway adds none. A token in the URL would end up in logs and error messages. Where the
gateway holds the keys (`Keys`), the command is given a token in their place: every SDK sends its
API key along, so the token travels the same way, and the command cannot lose a key it never had.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_guard import App, GatewayError, Receive, Scope, Send
from clawmw.adapters.gateway_upstream import Places
from clawmw.runtime import Runtime

__all__ = ["KEYS", "ByFamily", "Families", "Keys", "Paths", "environment", "upstreams"]

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com"

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Variables that hold a provider's key."""
_SENT = {
    (False, b"authorization"): ("OPENAI_API_KEY",),
    (True, b"authorization"): ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"),
    (True, b"x-api-key"): ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
}
"""Which key goes in which header, of calls in Anthropic's dialect or in another."""

_WITH_V1 = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
"""The SDKs of OpenAI (Python, Node), the AI SDK, Pydantic AI; LiteLLM, LangChain, LlamaIndex."""
_WITHOUT = (
    "ANTHROPIC_BASE_URL",  # the SDKs of Anthropic, Claude Code, the AI SDK
    "ANTHROPIC_API_BASE",  # LiteLLM
    "ANTHROPIC_API_URL",  # LangChain
    "LITELLM_PROXY_API_BASE",
    "OPENAI_HOST",  # Goose
    "ANTHROPIC_HOST",
)
_HERE = "127.0.0.1,localhost"


def upstreams(env: Mapping[str, str]) -> dict[str, str]:
    """Base URLs by family, as an environment has them: what it says, else whose key is there."""
    found = {}
    openai = env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_BASE")
    anthropic = env.get("ANTHROPIC_BASE_URL")
    if openai or env.get("OPENAI_API_KEY"):
        found["openai"] = openai or OPENAI
    if anthropic or env.get("ANTHROPIC_API_KEY") or env.get("ANTHROPIC_AUTH_TOKEN"):
        url = (anthropic or ANTHROPIC).rstrip("/")
        found["anthropic"] = url if url.endswith("/v1") else f"{url}/v1"
    return found


def environment(
    env: Mapping[str, str], url: str, said: Mapping[str, str], token: str | None = None
) -> dict[str, str]:
    """The environment of a command that is to call the gateway at `url` (without /v1).

    `said` are clawmw's own variables for it. With `token`, it stands where keys stood.
    """
    given = {**env, **said, "CLAWMW_GATEWAY": url}
    given |= dict.fromkeys(_WITH_V1, f"{url}/v1") | dict.fromkeys(_WITHOUT, url)
    for name in ("NO_PROXY", "no_proxy"):  # else a proxy would be asked for this machine
        given[name] = ",".join(filter(None, (env.get(name), _HERE)))
    if token is not None:
        given |= {name: token for name in KEYS if env.get(name)}
    return given


class Paths:
    """Endpoints as SDKs spell them: some take a base URL with `/v1`, some add it themselves."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        path = str(scope["path"])
        plain = "/v1/" + path.removeprefix("/").removeprefix("v1/").removeprefix("v1/")
        if plain != path and plain.startswith(("/v1/chat/", "/v1/messages", "/v1/responses")):
            scope = {**scope, "path": plain, "raw_path": plain.encode()}
        await self.app(scope, receive, send)


class ByFamily(Gateway):
    """A gateway with another upstream for the calls of Anthropic's dialect, `messages`."""

    def __init__(self, runtime: Runtime, places: Places, messages: Places, **options: Any) -> None:
        super().__init__(runtime, places, **options)
        self.messages = Gateway(runtime, messages, **options)

    async def aclose(self) -> None:
        """Close the connections to the models."""
        await self.messages.aclose()
        await super().aclose()


class Families:
    """Calls to one gateway or the other, by their dialect."""

    def __init__(self, gateway: ByFamily) -> None:
        self.gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        theirs = str(scope["path"]).startswith("/v1/messages")
        app: App = self.gateway.messages.app if theirs else self.gateway.app
        await app(scope, receive, send)


class Keys:
    """Demands the token of this run, and puts the provider's own key in its place.

    `keys`: those of `KEYS`, by name. The token comes as an API key does, as a bearer or in
    `x-api-key`; the key goes on in the same header.
    """

    def __init__(self, app: App, keys: Mapping[str, str]) -> None:
        self.app = app
        self.token = secrets.token_urlsafe(32)
        self._keys = {name: keys[name] for name in KEYS if keys.get(name)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        path = str(scope["path"])
        headers, proven = [], path == "/healthz"
        for name, value in scope["headers"]:
            if not self._is_token(value):
                headers.append((name, value))
                continue
            proven = True
            theirs = path.startswith("/v1/messages")
            real = next((k for k in _SENT.get((theirs, name), ()) if k in self._keys), None)
            if real is not None:
                bearer = "Bearer " if name == b"authorization" else ""
                headers.append((name, f"{bearer}{self._keys[real]}".encode()))
        if not proven:
            message = "this gateway is one command's own; its token is in that command's API keys"
            refusal = GatewayError(401, message, "invalid_token", www_authenticate="Bearer")
            await refusal.answer(send)
            return
        await self.app({**scope, "headers": headers}, receive, send)

    def _is_token(self, value: bytes) -> bool:
        scheme, _, rest = value.partition(b" ")
        given = rest.strip() if scheme.lower() == b"bearer" else value.strip()
        return hmac.compare_digest(given, self.token.encode())
