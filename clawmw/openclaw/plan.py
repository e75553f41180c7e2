"""What an OpenClaw config needs so that its model calls go through clawmw, and what bypasses it.

Measured on OpenClaw 2026.9.6: a built-in provider takes a `baseUrl` alone; OpenAI's adapters add
no /v1 to it, Anthropic's does; `prompt_cache_key` is sent to api.openai.com only, unless a model's
`compat.supportsPromptCacheKey` says so; marks on Claude models are OpenRouter's only, unless
`compat.cacheControlFormat` says so. Without these keys a provider behind a proxy loses its prompt
cache. A custom provider of Anthropic's dialect gets its marks, though the documentation wants
`cacheRetention` for it. An entry in `agents.defaults.models` forbids all models without one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from clawmw.openclaw.config import ConfigError, Edit, Record
from clawmw.openclaw.text import Document, Path, at

__all__ = ["Finding", "Plan", "Route", "leads_to", "made"]

_BUILT_IN = {
    "anthropic": ("anthropic-messages", "https://api.anthropic.com"),
    "openai": ("openai-responses", "https://api.openai.com/v1"),
}
"""Providers that OpenClaw brings along: what they speak, and where they are."""
_WITH_V1 = ("openai-completions", "openai-responses")
_DIALECTS = {
    "openai-completions": "openai.chat",
    "openai-responses": "openai.responses",
    "anthropic-messages": "anthropic.messages",
}
_PROVIDERS: Path = ("models", "providers")
_DEFAULTS: Path = ("agents", "defaults")
_POLICY: Path = ("env", "vars", "CLAWMW_POLICY")
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_][A-Z0-9_]*)\}")
_SLOTS = frozenset(
    ("model", "utilityModel", "decisionModel", "imageModel", "pdfModel", "primary", "fallbacks")
)
"""Keys under `agents` that name models."""
_OWN_RUNTIMES = ("openclaw", "auto", "")
_MEMORY = {"openai": ("text-embedding-3-small",)}
"""What OpenClaw's memory search asks a built-in provider for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what is right (`ok`), wrong, or worth knowing (`note`)."""

    level: Literal["ok", "wrong", "note"]
    what: str
    where: str
    """The path in the config; "": none."""


@dataclass(frozen=True, slots=True)
class Route:
    """One base URL in the config that is to lead to the gateway."""

    provider: str
    api: str
    path: Path
    upstream: str
    """Where its calls went before, as OpenClaw has it."""
    models: tuple[str, ...]

    @property
    def base_url(self) -> str:
        """The upstream as a policy and `clawmw serve` have it: with /v1 where calls have it."""
        url = self.upstream.rstrip("/")
        return url if self.api in _WITH_V1 or url.endswith("/v1") else f"{url}/v1"

    @property
    def dialect(self) -> str:
        """What a policy has to say of the upstream's dialect; "": its address says it."""
        host = urlsplit(self.upstream).hostname
        return "" if host in ("api.openai.com", "api.anthropic.com") else _DIALECTS[self.api]


@dataclass(slots=True)
class Plan:
    """What is to be set, and what was found. `routes`: what then leads to the gateway."""

    routes: list[Route] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    through: set[str] = field(default_factory=set)
    """The providers whose calls go through clawmw, or are to."""

    def say(self, level: Literal["ok", "wrong", "note"], where: Path | str, what: str) -> None:
        """Add a finding."""
        from clawmw.openclaw.text import dotted

        place = where if isinstance(where, str) else dotted(where)
        self.findings.append(Finding(level, what, place))

    @property
    def upstreams(self) -> dict[tuple[str, str], list[str]]:
        """The models behind each upstream and dialect."""
        found: dict[tuple[str, str], list[str]] = {}
        for route in self.routes:
            models = found.setdefault((route.base_url, route.dialect), [])
            models += [model for model in route.models if model not in models]
        return found


def made(
    document: Document,
    url: str,
    *,
    record: Record | None = None,
    only: Sequence[str] = (),
    token_env: str | None = None,
    policy: str | None = None,
) -> Plan:
    """The plan for a config and the gateway at `url` (without /v1).

    `only` these providers; `policy`: the file that clawmw's commands in the agent's own shell are
    to read; `record` of an earlier change says where their calls went. Raises
    `ConfigError` for a config of several files, where the file is not the one to change.
    """
    value = document.value
    for path in ((), ("models",), _PROVIDERS):
        if "$include" in (at(value, path) or {}):
            from clawmw.openclaw.text import dotted

            raise ConfigError(
                f"{dotted(path) or 'the config'} comes from another file ($include); put "
                "models.providers into this one, or run this on the file that has them: --config"
            )
    plan, before = Plan(), {e.path: e.before for e in (record.edits if record else ()) if e.had}
    used = dict(_used(value))
    providers = at(value, _PROVIDERS) or {}
    for name in only:
        if name not in providers and name not in _BUILT_IN:
            raise ConfigError(f"no provider {name!r} in models.providers ({', '.join(providers)})")
    names = [*providers, *(name for name in used if name not in providers and name in _BUILT_IN)]
    for name in names:
        if not only or name in only:
            _Provider(plan, document, name, used.get(name, []), url, before).look(token_env)
    _bypasses(plan, value, used)
    _notes(plan, value)
    if policy is not None and plan.through and at(value, _POLICY) is None:
        plan.edits.append(Edit.of(document, _POLICY, policy))
    return plan


# --- one provider -------------------------------------------------------------------------------


class _Provider:
    """A provider of the config, as it is and as it should be."""

    def __init__(
        self,
        plan: Plan,
        document: Document,
        name: str,
        used: Sequence[str],
        url: str,
        before: Mapping[Path, Any],
    ) -> None:
        self.plan, self.document, self.name, self.used = plan, document, name, used
        self.url, self.before = url, before
        self.path: Path = (*_PROVIDERS, name)
        self.entry: Mapping[str, Any] = at(document.value, self.path) or {}
        api, place = _BUILT_IN.get(name, ("openai-completions", ""))
        self.api = str(self.entry.get("api") or api)
        self.place = place
        rows = self.entry.get("models")
        self.rows: list[Mapping[str, Any]] = (
            [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        )

    def look(self, token_env: str | None) -> None:
        """Add to the plan what this provider needs."""
        if self.api not in _DIALECTS:
            if self.used or self.rows:
                what = f"speaks {self.api}, which clawmw does not: its calls go past clawmw"
                self.plan.say("wrong", self.path, what)
            return
        if self.entry.get("auth") in ("oauth", "aws-sdk"):
            what = f"auth is {self.entry['auth']}: OpenClaw may call its provider past clawmw"
            self.plan.say("wrong", (*self.path, "auth"), what)
        ids = [str(row.get("id")) for row in self.rows]
        models = tuple(dict.fromkeys([*ids, *self.used, *_MEMORY.get(self.name, ())]))
        if not self._routed((*self.path, "baseUrl"), self.api, models):
            return
        for index, row in enumerate(self.rows):
            if "baseUrl" in row:
                place = (*self.path, "models", index, "baseUrl")
                self._routed(place, str(row.get("api") or self.api), (str(row.get("id")),))
        self._cache()
        if token_env is not None:
            self._want((*self.path, "headers", "x-clawmw-token"), f"${{{token_env}}}", "")

    def _routed(self, path: Path, api: str, models: tuple[str, ...]) -> bool:
        """Have a base URL lead to the gateway; False where nobody knows where it leads now."""
        now = at(self.document.value, path)
        target = f"{self.url}/v1" if api in _WITH_V1 else self.url
        ours = isinstance(now, str) and leads_to(now, self.url)
        was = self.before.get(path) if ours else now
        was = _resolved(was if isinstance(was, str) else self.place)
        if "${" in was or not (was or ours):
            why = f"{now}: a variable that is not set here" if was else "there is none"
            self.plan.say("wrong", path, f"{why}; write the URL out")
            return False
        if was:
            self.plan.routes.append(Route(self.name, api, path, was, models))
        else:
            self.plan.say("note", path, "leads to clawmw; where it led before is not recorded")
        self.plan.through.add(self.name)
        self._want(path, target, f"{now}: {api} wants {target}" if ours else f"leads to {was}")
        return True

    def _cache(self) -> None:
        """The keys without which a prompt cache is lost behind a proxy."""
        routes = [r for r in self.plan.routes if r.provider == self.name]
        host = urlsplit(routes[0].upstream).hostname or "" if routes else ""
        if self.api in _WITH_V1 and host == "api.openai.com":
            self._compat("supportsPromptCacheKey", True, "no prompt_cache_key is sent")
        if self.api == "openai-completions" and host.endswith("openrouter.ai"):
            self._compat("cacheControlFormat", "anthropic", "no cache marks are sent", "anthropic/")
        if self.api == "anthropic-messages" and self.name != "anthropic":
            value = self.document.value
            if at(value, (*_DEFAULTS, "params", "cacheRetention")) is not None:
                return
            # Only where the model stands there: the first entry would forbid all other models.
            named = at(value, (*_DEFAULTS, "models")) or {}
            for name in (n for n in named if n.partition("/")[0] == self.name):
                path = (*_DEFAULTS, "models", name, "params", "cacheRetention")
                if at(value, path) is None:
                    self._want(path, "short", "not said, and by its documentation then no marks")

    def _compat(self, key: str, wanted: Any, lost: str, begins: str = "") -> None:
        for index, row in enumerate(self.rows):
            if str(row.get("id")).startswith(begins) and key not in (row.get("compat") or {}):
                self._want((*self.path, "models", index, "compat", key), wanted, lost)
        if "models" not in self.entry and self.used:  # a built-in provider: its models, told apart
            rows = [{"id": m, "name": m, "compat": {key: wanted}} for m in self.used]
            self._want((*self.path, "models"), rows, lost)

    def _want(self, path: Path, value: Any, otherwise: str) -> None:
        if at(self.document.value, path) == value:
            self.plan.say(
                "ok", path, f"{value}" if isinstance(value, str | bool) else "as it should"
            )
            return
        self.plan.edits.append(Edit.of(self.document, path, value))
        self.plan.say("wrong", path, otherwise or "is not set")


def _resolved(text: str) -> str:
    """A text with the variables that are set here filled in, as OpenClaw does it."""
    return _VARIABLE.sub(lambda found: os.environ.get(found[1]) or found[0], text)


def leads_to(one: str, other: str) -> bool:
    """Whether two URLs lead to the same host and port of this machine."""
    hosts = []
    for url in (one, other):
        parts = urlsplit(url)
        name = parts.hostname or ""
        hosts.append(("localhost" if name in ("127.0.0.1", "::1") else name, parts.port))
    return hosts[0] == hosts[1]


# --- what goes past, and what is worth knowing --------------------------------------------------


def _used(value: Any) -> Iterator[tuple[str, list[str]]]:
    """The models that agents name, by provider."""
    found: dict[str, list[str]] = {}
    for _, name in _named(value.get("agents"), ("agents",)):
        provider, slash, model = name.partition("/")
        if slash and model and model != "*" and model not in found.setdefault(provider, []):
            found[provider].append(model)
    yield from found.items()


def _named(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every `provider/model` under `agents`, and where it stands."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        here = (*path, key)
        if isinstance(inner, str) and (key in _SLOTS or path[-1] == "fallbacks"):
            yield here, inner
        if key == "models":
            yield from (((*here, name), name) for name in inner if isinstance(name, str))
        yield from _named(inner, here)


def _bypasses(plan: Plan, value: Mapping[str, Any], used: Mapping[str, Sequence[str]]) -> None:
    """Models that agents name, and that are called past clawmw."""
    for path, name in _named(value.get("agents"), ("agents",)):
        provider = name.partition("/")[0]
        if "/" not in name or provider in plan.through or path[-2:-1] == ("models",):
            continue
        fallback = "fallbacks" in path
        what = f"{name} is called past clawmw"
        if fallback:
            what += ": a call that fails or is stopped here goes on there, without a limit"
        plan.say("wrong", path, what)
    profiles = at(value, ("auth", "profiles")) or {}
    for name, profile in profiles.items() if isinstance(profiles, Mapping) else ():
        mode = profile.get("mode") if isinstance(profile, Mapping) else None
        if mode in ("oauth", "token") and profile.get("provider") in used:
            what = f"{mode} of {profile.get('provider')}: such calls may not heed baseUrl"
            plan.say("wrong", ("auth", "profiles", name), what)
    for path, runtime in _runtimes(value.get("agents"), ("agents",)):
        plan.say("wrong", path, f"{runtime} is a program of its own: its calls go past clawmw")


def _runtimes(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "agentRuntime" and isinstance(inner, Mapping):
                runtime = str(inner.get("id") or "")
                if runtime not in _OWN_RUNTIMES:
                    yield (*path, key, "id"), runtime
            yield from _runtimes(inner, (*path, key))


def _notes(plan: Plan, value: Mapping[str, Any]) -> None:
    """What OpenClaw does by itself, and what that costs."""
    heartbeat = at(value, (*_DEFAULTS, "heartbeat")) or {}
    every = heartbeat.get("every", "30m (default)")
    if not str(every).startswith("0") and not heartbeat.get("isolatedSession"):
        plan.say(
            "note",
            (*_DEFAULTS, "heartbeat"),
            f"every {every} the whole main session is sent; isolatedSession and lightContext cut "
            "that, and a policy can give it a light model: agents: {heartbeat: {match: {kind: "
            "heartbeat}, model: NAME}}",
        )
    if at(value, ("skills", "workshop", "autonomous", "mode"), "auto") == "auto":
        plan.say(
            "note",
            ("skills", "workshop", "autonomous", "mode"),
            "auto: after a long turn the whole conversation is sent once more for a review; such "
            "calls are of kind `review`",
        )
