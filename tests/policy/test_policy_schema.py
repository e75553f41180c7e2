"""The JSON Schema takes what the loader takes, and refuses what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy
from clawmw.policy.schema import policy_schema
from tests.policy.sections import STAGES

jsonschema = pytest.importorskip("jsonschema")


BOOL = "tag:yaml.org,2002:bool"


class Modern(yaml.SafeLoader):
    """Reads `on` and `off` as texts, as editors do (YAML 1.2)."""


Modern.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != BOOL]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Modern.add_implicit_resolver(BOOL, re.compile("^(true|false)$"), list("tf"))


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = policy_schema(STAGES)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1",
        "version: 1\nsqueeze: hard\nrare: on\nlimit: off\nsteer: true",
        "version: 1\nsqueeze: {level: hard, least: 5%, largest: 1GiB, enabled: off}",
        "version: 1\nsqueeze:\nmodels:\nagents:\nstore:\ntrace:",
        "version: 1\nlimit: {chain: {calls: 35k, usd: 0.2, wall: 30m}, window: auto}",
        "version: 1\nlimit: {window: {calls: 1}, mode: observe}",
        "version: 1\nmodels: {a: b/c}\nsteer: [{when: x, to: a}]",
        "version: 1\nmodels: {a: b, c: {model: d, base_url: http://h/v1, api_key_env: KEY}}",
        "version: 1\nmodels: {a: b}\nagents: {x: {match: {kind: [k, l], agent: y}, model: a}}",
        "version: 1\nstore: memory\ntrace: off\nholdout: 5%\nrefusal: error\nmode: observe",
        "version: 1\nstore: {disk: ~/x}\ntrace: {content: off, keep: 30d, store: off}",
    ],
)
def test_takes_what_the_loader_takes(text: str, validator: Any) -> None:
    load_policy(text + "\n", stages=STAGES)
    for loader in (yaml.SafeLoader, Modern):
        errors = [e.message for e in validator.iter_errors(yaml.load(text, Loader=loader))]
        assert errors == []


@pytest.mark.parametrize(
    "text",
    [
        "mode: observe",
        "version: 2",
        "version: 1\nsqeeze: hard",
        "version: 1\nstages: {}",
        "version: 1\nsqueeze: harder",
        "version: 1\nsqueeze: {levle: hard}",
        "version: 1\nlimit: {chain: {wall: soon}}",
        "version: 1\nlimit: {chain: {calls: 2m}}",
        "version: 1\nsteer: [{when: x}]",
        "version: 1\nstore: disk",
        "version: 1\nmodels: {a: {base_url: http://h}}",
    ],
)
def test_refuses_what_the_loader_refuses(text: str, validator: Any) -> None:
    with pytest.raises(PolicyError):
        load_policy(text + "\n", stages=STAGES)
    assert list(validator.iter_errors(yaml.safe_load(text)))


def test_every_key_of_an_installed_policy_is_described() -> None:
    schema = policy_schema()
    bare = [name for name, about in schema["properties"].items() if not about.get("description")]
    assert bare == []


def test_the_ready_policies_satisfy_it() -> None:
    validator = jsonschema.Draft202012Validator(policy_schema())
    for path in sorted((Path(__file__).parents[2] / "policies").glob("*.yaml")):
        for loader in (yaml.SafeLoader, Modern):
            data = yaml.load(path.read_text("utf-8"), Loader=loader)
            assert [e.message for e in validator.iter_errors(data)] == [], path.name
