"""What a policy says of traces: what is kept on this machine, and what leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from clawmw.policy.fields import Model, Text, Url, or_bare
from clawmw.stages.units import Duration, Share, Size, Usd

__all__ = ["ContentConfig", "OtlpConfig", "SampleConfig", "TraceConfig"]

_OFF = (False, "off")
"""YAML 1.1 reads a bare `off` as false, editors (1.2) as a text."""
_SWITCH: JsonSchemaValue = {"type": "boolean"}


class ContentConfig(Model):
    """Prompts and answers, kept on this machine only, to be read by `clawmw ui`."""

    keep: Annotated[Duration, Field(gt=0)] = 86_400.0
    """How long they are kept."""
    longest: Annotated[Size, Field(gt=0)] = 64_000
    """Bytes of one message that are kept; of a longer one, its beginning."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if value == "local" or isinstance(value, Mapping):
            return {} if value == "local" else value
        shown = f'"{value[:40]}"' if isinstance(value, str) else str(value).lower()[:40]
        raise PydanticCustomError(
            "content", "expected off, local or a mapping, not {shown}", {"shown": shown}
        )


class SampleConfig(Model):
    """Which chains are exported to `endpoint`. A bare share is `share`.

    With a share of less than all, a chain's spans wait in memory until it is known how it went.
    """

    share: Share = 1.0
    """The share of all chains, the same ones in every process."""
    usd: Usd = 100_000_000
    """Chains that cost at least this are exported in any case; so are those that failed, were
    stopped by a guard, or missed the prompt cache though a hit was due."""
    wall: Annotated[Duration, Field(gt=0)] = 300.0
    """So are those that took at least this long."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        bare = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"share": value} if bare else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_bare(handler(core), {"type": ["string", "number"]})


class OtlpConfig(Model):
    """Where spans and metrics are sent by OTLP over HTTP. A bare text is the `endpoint`.

    What is not said here is read from OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`,
    `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, ...); nothing is sent where neither names an
    endpoint, or where the application has a tracer provider of its own: that one is used.
    """

    endpoint: Url | None = None
    """The collector's address, such as http://127.0.0.1:4318; signals go to /v1/traces below it."""
    sample: SampleConfig = SampleConfig()
    """Which chains are exported; the local store keeps all of them."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"endpoint": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return or_bare(handler(core), {"type": "string", "minLength": 1})


class TraceConfig(Model):
    """What is written down about each call. `off`: nothing, neither here nor elsewhere."""

    content: ContentConfig | None = None
    """Prompts and answers: `off`, or `local` to keep them on this machine for a day."""
    keep: Annotated[Duration, Field(gt=0)] = 30 * 86_400.0
    """How long traces are kept."""
    size: Annotated[Size, Field(ge=1_000_000)] = 1_000_000_000
    """Bytes the store may take; beyond, the oldest chains go first."""
    store: Text | None = "default"
    """The SQLite file of traces; `default`: in the user's state folder; `off`: none."""
    ids: Literal["plain", "hashed"] = "plain"
    """`hashed`: the names of chains and sessions are exported and kept as digests only."""
    otlp: OtlpConfig | None = OtlpConfig()
    """Where they are sent besides; `off`: nowhere, whatever the environment says, and not to the
    application's own provider either."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if value is True or value is None:
            return {}
        if value in _OFF:
            return {"store": None, "otlp": None}
        if not isinstance(value, Mapping):
            return value
        said = dict(value)
        for key in ("store", "content", "otlp"):
            if key in said and said[key] in _OFF:
                said[key] = None
        return said

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        fields = handler.resolve_ref_schema(schema)["properties"]
        text: JsonSchemaValue = {"type": "string", "minLength": 1}
        fields["store"]["anyOf"] = [text, {"const": False}, {"type": "null"}]
        fields["content"]["anyOf"].append({"enum": [False, "off", "local"]})
        fields["otlp"]["anyOf"].append({"const": False})
        return or_bare(schema, _SWITCH)
