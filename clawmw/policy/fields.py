"""What fields of a policy are made of: names, texts, addresses, and the base of its models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError

__all__ = [
    "EnvName",
    "FrozenMap",
    "Model",
    "Name",
    "Names",
    "Text",
    "Url",
    "checked_url",
    "empty",
    "or_bare",
]

V = TypeVar("V")

_NAME = re.compile(r"[A-Za-z0-9_][\w.:@/+-]{0,127}", re.ASCII)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


def empty() -> Mapping[str, Any]:
    """A mapping that nobody can fill."""
    return MappingProxyType({})


def _name(value: str) -> str:
    if _NAME.fullmatch(value):
        return value
    raise PydanticCustomError(
        "name", "a name is made of letters, digits and _ . : @ / + - (at most 128)"
    )


def checked_url(value: str) -> str:
    """A URL of http or https, without a slash at its end."""
    try:
        url = urlsplit(value)
        complete = url.scheme in ("http", "https") and bool(url.hostname)
        _ = url.port  # raises where it is not a number
    except ValueError:
        complete = False
    if not complete:
        raise PydanticCustomError("url", "expected a URL such as http://127.0.0.1:8000/v1")
    return value.rstrip("/")


def _env_name(value: str) -> str:
    if _ENV.fullmatch(value):
        return value
    # The value is not shown: it may be the secret itself.
    raise PydanticCustomError(
        "env", "expected the name of an environment variable, such as OPENAI_API_KEY"
    )


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Url = Annotated[Text, AfterValidator(checked_url)]
EnvName = Annotated[Text, AfterValidator(_env_name)]
"""The name of an environment variable; keys themselves never go in a policy."""
Names = Text | Annotated[tuple[Text, ...], Field(min_length=1)]
FrozenMap = Annotated[Mapping[Name, V], AfterValidator(MappingProxyType), PlainSerializer(dict)]


class Model(BaseModel):
    """Frozen, and strict about its keys; the docstring under a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def or_bare(schema: JsonSchemaValue, bare: JsonSchemaValue) -> JsonSchemaValue:
    """The schema of a model that may also be written as a bare value."""
    return {"anyOf": [schema, bare]}
