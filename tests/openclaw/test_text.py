"""A JSON5 text changed in place: what is not meant to change keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.openclaw.text import Document, TextError, at, dotted

BY_HAND = """\
// mine
{
  agents: { defaults: { model: { primary: 'anthropic/claude', }, list: [1, {y: 3}] } }, /* kept */
  "models": {
    providers: {
      anthropic: { baseUrl: "https://x//y", }, // not a comment: "//"
      open: {},
      "tab\\u0062ed": { /* empty */ }  // last
    }
  },
  url: "http://a//b" // the end
}
"""


def test_a_value_is_replaced_and_nothing_else() -> None:
    path = ("models", "providers", "anthropic", "baseUrl")
    changed = Document(BY_HAND).set(path, "http://127.0.0.1:4000")
    assert changed.text == BY_HAND.replace("https://x//y", "http://127.0.0.1:4000")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("models", "providers", "open", "baseUrl"), '        "baseUrl": 1\n      },'),
        (("models", "providers", "tabbed", "n"), '"n": 1, /* empty */ }  // last'),
        (("models", "providers", "new"), '// last\n      "new": 1\n    }'),
        (("models", "providers", "a/b", "c"), '      "a/b": {\n        "c": 1\n      }\n'),
        (("agents", "defaults", "list", 1, "z"), '{y: 3, "z": 1}'),
        (("agents", "defaults", "models", "a/b", "x"), '"models": {"a/b": {"x": 1}} } }, /* kept'),
        (("update",), '"http://a//b", // the end\n  "update": 1\n}'),
    ],
)
def test_a_key_is_added_where_people_would(path: Any, line: str) -> None:
    changed = Document(BY_HAND).set(path, 1)
    assert line in changed.text
    assert at(changed.value, path) == 1
    for comment in ("// mine", "/* kept */", '// not a comment: "//"', "/* empty */", "// the end"):
        assert comment in changed.text


def test_a_trailing_comma_stays_one() -> None:
    text = "{\n  a: 1, // one\n  b: 2, // two\n}\n"
    changed = Document(text).set(("c",), 3)
    assert changed.text == '{\n  a: 1, // one\n  b: 2, // two\n  "c": 3,\n}\n'
    assert changed.removed(("c",)).text == text
    assert changed.removed(("a",)).text == '{\n  b: 2, // two\n  "c": 3,\n}\n'


keys = st.text("ab/. \"'\\", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('x"\\/\n', max_size=3),
    lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(keys, values, max_size=4), st.lists(keys, min_size=1, max_size=3), values)
def test_what_was_set_is_there_and_gone_when_removed(
    value: dict[str, Any], path: list[str], new: Any
) -> None:
    for indent in (None, 2, "\t"):
        document = Document(json.dumps(value, indent=indent))
        try:
            changed = document.set(tuple(path), new)
        except (TextError, TypeError):
            return  # something else than an object stands on the way
        assert at(changed.value, tuple(path)) == new
        if at(value, tuple(path), "no") == "no":
            back = changed.removed(tuple(path)).value
            assert at(back, tuple(path), "no") == "no"


@pytest.mark.parametrize("text", ["", "[]", "{a: }", "{a: 1", "{,}", "\x00", "{a: 1} b"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(TextError, match="JSON5"):
        Document(text)


def test_a_key_that_stands_twice_is_not_touched() -> None:
    with pytest.raises(TextError, match="'a' stands twice"):
        Document("{a: 1, 'a': {}}").set(("b",), 1)


def test_paths_as_people_write_them() -> None:
    assert dotted(("agents", "a/b", "x", 0, "y")) == 'agents["a/b"].x[0].y'
