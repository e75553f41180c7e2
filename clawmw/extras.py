"""Names that need an extra: loaded when first used, with one line where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["named"]


def named(module: str, homes: Mapping[str, str], name: str, extra: str) -> Any:
    """The public `name` of `module`, from where `homes` says it is.

    Raises AttributeError for a name that is none, and ModuleNotFoundError, which says what to
    install, where the extra is missing.
    """
    if name not in homes:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    try:
        return getattr(import_module(homes[name]), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] == "clawmw":
            raise  # a bug of ours
        advice = f'{module}.{name} needs {missing}: pip install "clawmw[{extra}]"'
        raise ModuleNotFoundError(advice, name=missing) from None
