"""A wrong policy says everything that is wrong, each in one line, with path and line.

In `broken/*.yaml` what is expected of a line stands on it, after `#!`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clawmw.errors import PolicyError
from clawmw.policy.load import load_policy, parse_policy
from clawmw.policy.problems import InvalidPolicyError, Problem
from tests.policy.sections import STAGES

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
SECRET = "this looks like a secret; keep it in an environment variable and give its name"


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, name="p.yaml", stages=STAGES)
    assert isinstance(caught.value, InvalidPolicyError)
    assert str(caught.value).splitlines() == [p.shown("p.yaml") for p in caught.value.problems]
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", BROKEN, ids=lambda p: p.stem)
def test_each_line_gets_its_message(path: Path) -> None:
    text = path.read_text("utf-8")
    expected = [
        f"p.yaml:{number}: {line.partition('#!')[2].strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if "#!" in line
    ]
    found = [line.replace(f"{SECRET} (`api_key_env: NAME`)", "SECRET") for line in problems(text)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: the file is empty; the smallest policy is `version: 1`"),
        ("# only\n", "p.yaml: the file holds only comments; the smallest policy is `version: 1`"),
        ("- a\n", "p.yaml:1: a policy is a mapping (`key: value` lines), not a list"),
        ("\n\nhello\n", "p.yaml:3: a policy is a mapping (`key: value` lines), not a single value"),
        ("squeeze: hard\n", "p.yaml: version: this key is required; write `version: 1`"),
        ("version: 1\n\tmode: x\n", "p.yaml:2: a tab is used for indentation; use spaces"),
        (
            "version: 1\nlimit:\n  chain:\n    calls: 1\n   usd: 3\n",
            "p.yaml:5: this is not YAML: the indentation does not match the lines above",
        ),
        ("version: 1\nmode: 'x\n", "p.yaml:2: this is not YAML: a quote is not closed"),
        (
            "version: 1\nlimit: {chain: {calls: 1}\nmode: observe\n",
            "p.yaml:2: this is not YAML: a '{' or '[' is not closed, or a comma is missing",
        ),
        (
            "version: 1\nmode: a: b\n",
            "p.yaml:2: this is not YAML: a second ':' on one line; quote the text, or indent it",
        ),
        (
            "version: 1\nsqueeze: @hard\n",
            "p.yaml:2: this is not YAML: a text may not begin with this character; quote it",
        ),
        ("version: 1\n---\nmode: x\n", "p.yaml:2: a second document begins here; a policy is one"),
        (
            "version: 1\nmode: !!python/object/apply:os.system [id]\n",
            "p.yaml:2: YAML tags (`!...`) are not allowed in a policy",
        ),
        ("? [a]\n: 1\n", "p.yaml:1: a key must be a plain text, not a list, mapping or alias"),
        ("a: *b\n", "p.yaml:1: `*b` refers to an anchor that does not exist"),
        ("a: &a [*a]\n", "p.yaml:1: `*a` contains itself"),
        ("a: 1\n<<: 5\n", "p.yaml:2: `<<` takes a mapping, or a list of mappings"),
        (b"version: 1\nmode: \xff\n", "p.yaml:2: this is not UTF-8 text; save the file as UTF-8"),
        ("version: 1".encode("utf-16"), "p.yaml: the file is UTF-16; save it as UTF-8"),
        (b"version: 1\n\x00\x01", "p.yaml:2: this is not a text file: it holds control characters"),
        (
            b"#" * 1_000_001,
            "p.yaml: the file is too large: 1,000,001 bytes, at most 1,000,000 are read",
        ),
        ("a: " + "[" * 900 + "]" * 900, "p.yaml:1: nested deeper than 40 levels"),
        ("a: [" + "1," * 60_000 + "]", "p.yaml:1: more than 50,000 values"),
    ],
    ids=lambda value: None if isinstance(value, bytes | str) else "",
)
def test_what_cannot_be_read_says_why_in_one_line(text: str | bytes, message: str) -> None:
    assert problems(text) == [message]


def test_anchors_that_expand_to_billions_are_stopped() -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (found,) = problems("\n".join(lines))
    assert found.endswith("anchors expand to more than 50,000 values")


def test_a_secret_is_never_repeated() -> None:
    text = (Path(__file__).parent / "broken" / "secrets.yaml").read_text("utf-8")
    said = "\n".join(problems(text))
    for secret in ("REDACTED", "hunter2", "abcdefghijkl"):
        assert secret in text
        assert secret not in said


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone.yaml", "there is no such file; `clawmw init` writes one to start from"),
        (".", "this is a folder; give the policy file in it"),
        ("nul\0byte", "cannot be read: embedded null byte"),
    ],
)
def test_a_path_that_is_no_policy(path: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(path, stages=STAGES)
    assert str(caught.value) == f"{Path(path)}: {message}"


def test_blobs_on_disk_need_a_disk() -> None:
    text = "version: 1\nexpand:\n  most: 2\n  blobs: disk\n"
    with pytest.raises(PolicyError) as caught:
        load_policy(text)
    said = "expand.blobs: disk needs a folder; write `store: {disk: FOLDER}`"
    assert str(caught.value) == f"policy.yaml:4: {said}"
    load_policy(text + "store: {disk: /tmp/x}\n")


def test_orders_that_conflict_name_the_stages() -> None:
    from clawmw.stages.base import Registration, StageConfig
    from tests.policy.sections import stage

    stages = {
        name: Registration(name, StageConfig, lambda c, b, n=name, o=other: stage(n, below=(o,)))
        for name, other in (("a", "b"), ("b", "a"))
    }
    with pytest.raises(PolicyError, match="these stages each want to run before the next"):
        load_policy({"version": 1}, stages=stages)


@given(st.text(max_size=200))
def test_any_text_gives_a_policy_or_a_policy_error(text: str) -> None:
    with suppress(PolicyError):
        parse_policy(text, stages=STAGES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
SECTIONS = st.sampled_from(
    ["mode", "models", "agents", "holdout", "trace", "store", "flows", "squeeze", "limit", "steer"]
)


@given(st.dictionaries(SECTIONS, JSON, max_size=4))
def test_any_data_gives_a_policy_or_lines_that_name_a_section(data: dict[str, object]) -> None:
    text = yaml.safe_dump({"version": 1, **data}, allow_unicode=True)
    found: tuple[Problem, ...] = ()
    try:
        parse_policy(text, stages=STAGES)
    except InvalidPolicyError as e:
        found = e.problems
    for problem in found:
        assert problem.line
        assert problem.message
        assert "\n" not in problem.shown("p")
        assert "pydantic" not in problem.message
