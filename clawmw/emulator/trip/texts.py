"""The long texts of the demo's world, kept as files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["text"]


@cache
def text(name: str) -> str:
    """One file of `data/`."""
    return (files("clawmw.emulator.trip") / "data" / name).read_text("utf-8")
