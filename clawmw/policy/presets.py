"""The ready policies that ship with clawmw, smallest first."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from clawmw.errors import PolicyError

__all__ = ["PRESETS", "preset"]

PRESETS = ("minimal", "balanced", "strict")


def preset(name: str) -> str:
    """The text of a ready policy. Raises `PolicyError` where there is none of that name."""
    if name not in PRESETS:
        raise PolicyError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    packaged = files("clawmw") / "policies" / f"{name}.yaml"
    if packaged.is_file():
        return packaged.read_text("utf-8")
    # In a checkout they lie beside the package, where people look for them.
    return (Path(__file__).parents[2] / "policies" / f"{name}.yaml").read_text("utf-8")
