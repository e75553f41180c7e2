"""What OpenClaw keeps of each agent beside its config, where that leads past it.

By its documentation a `baseUrl` in an agent's `models.json` wins over the config's, and logins lie
in `auth-profiles.json` (releases before the autumn of 2026; later ones keep them in a database,
which is not read here: `openclaw models auth list` shows them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clawmw.openclaw.plan import Plan, leads_to

__all__ = ["look"]

_MOST = 4 * 2**20
"""Bytes of a file that are read."""


def look(plan: Plan, state: Path, url: str) -> None:
    """Add to a plan what lies in a state folder; a file that cannot be read says nothing."""
    for path, kept in _files(state, "models.json"):
        providers = kept.get("providers")
        for name, entry in (providers if isinstance(providers, Mapping) else {}).items():
            place = entry.get("baseUrl") if isinstance(entry, Mapping) else None
            named = name in plan.through and isinstance(place, str) and bool(place)
            if named and not leads_to(str(place), url):
                what = f"its baseUrl for {name} wins over the config's: {place}"
                plan.say("wrong", str(path), what)
    for path, kept in _files(state, "auth-profiles.json"):
        profiles = kept.get("profiles")
        for name, profile in (profiles if isinstance(profiles, Mapping) else {}).items():
            kind = profile.get("type") if isinstance(profile, Mapping) else None
            if kind in ("oauth", "token") and profile.get("provider") in plan.through:
                what = f"{name} is a login ({kind}): such calls may not heed baseUrl"
                plan.say("wrong", str(path), what)


def _files(state: Path, name: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in sorted(state.glob(f"agents/*/agent/{name}")):
        try:
            with path.open("rb") as file:
                kept = json.loads(file.read(_MOST))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(kept, Mapping):
            yield path, kept
