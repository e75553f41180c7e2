"""From provider facts to profiles: what a model costs and how its prompts are cached.

The facts are YAML files in `facts/`, one a provider family, each dated with its sources.
They are read on first use and kept. Where two sources disagree the file says so; in the
end the provider's own `usage` wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, cast

import yaml

from clawmw.core.money import CacheRules, Price, Profile, Ttl, UsageDialect
from clawmw.providers import litellm_table

__all__ = ["families", "load_profiles", "profile_for"]

UNKNOWN = CacheRules(
    style="automatic",
    min_tokens=1024,
    assumed=("style", "min_tokens", "granularity", "ttl_s"),
)
"""For models nobody knows: taking them as cached keeps prefixes unmoved, the safe side."""

_REGION = re.compile(r"^(?:us-gov|us|eu|apac|global|jp|au)\.(?=[a-z])")
_VENDOR = re.compile(
    r"^(?:anthropic|openai|google|deepseek|qwen|moonshotai|z-?ai|baidu)\.(?=[a-z])"
)
_SUFFIX = re.compile(r"(?:[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest|default)|-v\d+(?::\d+)?|:\w+)$")


@dataclass(frozen=True, slots=True)
class _Family:
    """One facts file (or one variant of it), read."""

    name: str
    routes: tuple[str, ...]
    ids: tuple[str, ...]
    gateway: bool
    default: str
    dialect: UsageDialect
    as_of: str
    sources: tuple[str, ...]
    cache: CacheRules
    rules: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...]
    profiles: Mapping[str, Profile]
    free: bool

    def cache_for(self, *spellings: str) -> CacheRules:
        """The caching rules of one model: the family's, with what is special to it."""
        for ids, special in self.rules:
            if any(_matches(spelling, ids) for spelling in spellings):
                return replace(self.cache, **cast(Any, special))
        return self.cache


def load_profiles() -> Mapping[str, Profile]:
    """Every profile our own facts hold, by name (`anthropic/claude-sonnet-5-5`)."""
    return MappingProxyType(
        {p.name: p for family in _families().values() for p in family.profiles.values()}
    )


def families() -> Mapping[str, Profile]:
    """The provider families by short name, each with the profile of its default model."""
    return MappingProxyType({f.name: f.profiles[f.default] for f in _families().values()})


@lru_cache(maxsize=1024)
def profile_for(model: str) -> Profile:
    """The profile of a model id as litellm, a provider or a policy writes it.

    Accepts `provider/model`, bare ids, dated ids, gateway ids (`openrouter/...`) and family
    names (`anthropic`, `qwen-explicit`). A model our facts do not list gets its family's
    caching rules and, where litellm's bundled table has one, its price; one that nobody
    knows gets a generic profile whose price is None. Never raises on a string.
    """
    key = model.strip().lower()
    known = _families()
    if key in known:
        return known[key].profiles[known[key].default]
    route, _, rest = key.rpartition("/")
    routes = tuple(route.split("/")) if route else ()
    spellings = _spellings(rest)
    family = _family_of(routes, spellings)
    if family is None:
        return _from_table_alone(model, (key, *spellings))
    listed = next((family.profiles[s] for s in spellings if s in family.profiles), None)
    at_home = not routes or family.routes[:1] == routes[-1:] or family.name in routes
    if listed is not None and (at_home or family.gateway):
        return listed
    entry = litellm_table.find(key, *(() if listed else _table_ids(family, spellings)))
    if listed is not None:  # the same model at another host, which may have another price
        return replace(listed, name=model, price=entry.price if entry else listed.price)
    return _unlisted(model, family, rest, entry)


def _unlisted(model: str, family: _Family, rest: str, entry: litellm_table.Entry | None) -> Profile:
    cache = family.cache_for(*_spellings(rest))
    if entry is not None and entry.min_tokens is not None:
        cache = replace(cache, min_tokens=entry.min_tokens)
    price = entry.price if entry else None
    if family.free:
        price = family.profiles[family.default].price
    return Profile(
        name=model,
        family=family.name,
        price=price,
        cache=cache,
        usage_dialect=family.dialect,
        as_of=family.as_of,
        sources=family.sources,
        context_window=entry.context_window if entry else None,
        max_output=entry.max_output if entry else None,
    )


def _from_table_alone(model: str, ids: Iterable[str]) -> Profile:
    entry = litellm_table.find(*ids)
    if entry is not None:
        family = next((f for f in _families().values() if entry.provider in f.routes), None)
        if family is not None:
            return _unlisted(model, family, model.lower(), entry)
    return Profile(
        name=model,
        family="generic",
        price=entry.price if entry else None,
        cache=UNKNOWN,
        usage_dialect="cached_in_input",
        as_of="undated",
        sources=(f"litellm {litellm_table.version()} price table",) if entry else (),
        context_window=entry.context_window if entry else None,
        max_output=entry.max_output if entry else None,
    )


def _family_of(routes: tuple[str, ...], spellings: tuple[str, ...]) -> _Family | None:
    """The family whose rules hold: by the first route that names one, then by the id.

    A route several families share (`vertex_ai`) is decided by the id; a gateway passes its
    models' own rules through, so it counts only when nothing else is known.
    """
    everyone = tuple(_families().values())
    by_id = [f for f in everyone if any(s in f.profiles or _matches(s, f.ids) for s in spellings)]
    for route in routes:
        here = [f for f in everyone if not f.gateway and (route in f.routes or route == f.name)]
        if here:
            return next((f for f in here if f in by_id), here[0])
    plain = [f for f in by_id if f.ids or f.free]
    gateways = [f for f in everyone if f.gateway and any(r in f.routes for r in routes)]
    return next(iter(plain + gateways), None)


def _spellings(name: str) -> tuple[str, ...]:
    """Ways the facts may spell this id: as given, without region, vendor, date; dots as dashes."""
    found = [name]
    bare = _VENDOR.sub("", _REGION.sub("", name))
    while True:
        found.append(bare)
        found.append(bare.replace(".", "-"))
        shorter = _SUFFIX.sub("", bare)
        if shorter == bare:
            return tuple(dict.fromkeys(found))
        bare = shorter


def _table_ids(family: _Family, spellings: tuple[str, ...]) -> tuple[str, ...]:
    routed = tuple(f"{r}/{s}" for r in family.routes[:1] for s in spellings)
    return (*spellings, *routed)


def _matches(model: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


@lru_cache(maxsize=1)
def _families() -> Mapping[str, _Family]:
    found: dict[str, _Family] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    folder = files("clawmw.providers") / "facts"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            text = file.read_text("utf-8")
            raw = yaml.load(text, Loader=loader)  # noqa: S506 - in C or in Python, both safe
            for family in _read(raw):
                found[family.name] = family
    return found


def _read(raw: Mapping[str, Any]) -> Iterable[_Family]:
    yield _family(raw, raw["family"], tuple(raw["routes"]), {}, {})
    for name, variant in raw.get("variants", {}).items():
        full = f"{raw['family']}-{name}"
        yield _family(raw, full, (full,), variant["cache"], variant.get("multiples", {}))


def _family(
    raw: Mapping[str, Any],
    name: str,
    routes: tuple[str, ...],
    cache: Mapping[str, Any],
    multiples: Mapping[str, float],
) -> _Family:
    variant = bool(cache)
    bare = _Family(
        name=name,
        routes=routes,
        ids=() if variant else tuple(raw["ids"]),
        gateway=bool(raw.get("gateway", False)),
        default=raw["default"],
        dialect=cast(UsageDialect, raw["usage_dialect"]),
        as_of=str(raw["as_of"]),
        sources=tuple(raw["sources"]),
        cache=_rules({**raw["cache"], **cache}),
        rules=tuple((tuple(r["ids"]), _special(r["cache"])) for r in raw.get("rules", ())),
        profiles={},
        free=bool(raw.get("free", False)),
    )
    profiles = {
        model: Profile(
            name=f"{routes[0]}/{model}",
            family=name,
            price=_scaled(_listed_price(facts, raw["prices"]), multiples),
            cache=bare.cache_for(model),
            usage_dialect=bare.dialect,
            as_of=bare.as_of,
            sources=bare.sources,
            context_window=facts.get("window"),
            max_output=facts.get("output"),
        )
        for model, facts in raw["models"].items()
    }
    return replace(bare, profiles=profiles)


def _rules(raw: Mapping[str, Any]) -> CacheRules:
    return CacheRules(**_special(raw))


def _special(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of some rules as `CacheRules` holds them."""
    made = dict(raw)
    for name in ("assumed", "disputed"):
        if name in made:
            made[name] = tuple(made[name])
    if "ttls" in made:
        made["ttls"] = tuple(Ttl(name, *facts) for name, facts in made["ttls"].items())
    return made


def _listed_price(facts: Mapping[str, Any], dated: Mapping[str, Any]) -> Price | None:
    if "usd" not in facts:
        return None
    as_of, source = str(dated["as_of"]), str(dated["source"])
    long = _price(facts["long"], as_of, source) if "long" in facts else None
    return replace(_price(facts["usd"], as_of, source), long_from=facts.get("long_from"), long=long)


def _price(usd: list[float], as_of: str, source: str) -> Price:
    """From USD per million tokens, which is nano-USD per token times a thousand."""
    nano = [_up(Decimal(repr(amount)) * 1000) for amount in usd]
    read = nano[2] if len(nano) > 2 else nano[0]
    write = nano[3] if len(nano) > 3 else nano[0]
    return Price(nano[0], nano[1], read, write, as_of, source)


def _scaled(price: Price | None, multiples: Mapping[str, float]) -> Price | None:
    """The same price with cache reads and writes at multiples of the input price."""
    if price is None or not multiples:
        return price
    scaled = {k: _up(price.input * Decimal(repr(m))) for k, m in multiples.items()}
    return replace(price, long=_scaled(price.long, multiples), **cast(Any, scaled))


def _up(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_CEILING))
