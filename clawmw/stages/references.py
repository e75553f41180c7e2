"""Names in one section that must exist in another: `to: light` needs `models: {light: ...}`.

A config types such a field as `ModelName`. The policy's loader hands what exists to pydantic
as validation context; without it (a config built in code) any name is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = ["ModelName", "References"]


@dataclass(frozen=True, slots=True)
class References:
    """What a policy's sections may refer to; the validation context of their configs."""

    models: frozenset[str]
    """The names under `models:`."""


def _resolves(name: str, info: ValidationInfo) -> str:
    given = info.context
    if not isinstance(given, References) or name in given.models:
        return name
    close = get_close_matches(name, sorted(given.models), 1)
    advice = f'did you mean "{close[0]}"?' if close else f"add `{name}: MODEL` under models:"
    raise PydanticCustomError(
        "unknown_model",
        'there is no model "{name}"; {advice}',
        {"name": name[:60], "advice": advice[:160]},
    )


ModelName = Annotated[
    str,
    AfterValidator(_resolves),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
"""A name under `models:`."""
