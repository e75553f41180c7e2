"""The JSON Schema of a policy as its writer sees it, for editors and CI.

Made from the config models, so it holds whatever stages are installed: sections at the top
level, bare values where a section takes them. Draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from clawmw.policy.models import General
from clawmw.stages.base import Registration, StageConfig, registered

__all__ = ["policy_schema"]

Schema = dict[str, Any]


def policy_schema(stages: Mapping[str, Registration] | None = None) -> Schema:
    """The schema of the YAML file; `stages` as in `load_policy`."""
    known = registered() if stages is None else stages
    configs = {section: registration.config for section, registration in known.items()}
    mode: JsonSchemaMode = "validation"
    models: list[type[BaseModel]] = [General, *configs.values()]
    inputs = [(model, mode, model.__pydantic_core_schema__) for model in dict.fromkeys(models)]
    refs, definitions = GenerateJsonSchema().generate_definitions(inputs)
    root = _pointed(refs[General, mode], definitions)
    for section, config in configs.items():
        root["properties"][section] = _section(config, dict(refs[config, mode]), definitions)
    root["title"] = "clawmw policy"
    root["description"] = "What clawmw does with the model calls of an agent."
    for name, prop in root["properties"].items():
        if name != "version":
            root["properties"][name] = _optional(prop)
    root["$defs"] = {name: d for name, d in definitions.items() if d is not root}
    whole: Schema = _switchable(root)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def _switchable(schema: Any) -> Any:
    """Booleans may be written on and off, which editors (YAML 1.2) take for texts."""
    if isinstance(schema, list):
        return [_switchable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "boolean":
        rest = {key: value for key, value in schema.items() if key != "type"}
        return {"enum": [True, False, "on", "off"], **rest}
    return {key: _switchable(value) for key, value in schema.items()}


def _section(config: type[StageConfig], full: Schema, definitions: Mapping[Any, Any]) -> Schema:
    """A stage's section: a mapping, on or off, or the bare value of its shorthand field."""
    described = _pointed(full, definitions)
    choices: list[Schema] = [full, {"type": "boolean"}]
    if config.shorthand:
        field = dict(described["properties"][config.shorthand])
        field.pop("title", None)
        choices.append(field)
    schema: Schema = {"anyOf": choices}
    if about := described.get("description"):
        schema["description"] = about
    return schema


def _optional(prop: Schema) -> Schema:
    """A key with nothing after it says nothing, and is allowed to."""
    about: Schema = {k: prop[k] for k in ("description", "title", "default") if k in prop}
    if "anyOf" in prop:
        return {**prop, "anyOf": [*prop["anyOf"], {"type": "null"}]}
    inner = {key: value for key, value in prop.items() if key not in about}
    return {**about, "anyOf": [inner, {"type": "null"}]}


def _pointed(schema: Schema, definitions: Mapping[Any, Any]) -> Schema:
    """What a `$ref` points at."""
    if "$ref" not in schema:
        return schema
    target: Schema = definitions[schema["$ref"].rpartition("/")[2]]
    return target
