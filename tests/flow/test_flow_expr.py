from __future__ import annotations

from typing import Any

import pytest

from clawmw.errors import PolicyError
from clawmw.flow.expr import Arguments, Condition, Template

NAMES = ("input", "steps", "item")
SCOPE: dict[str, Any] = {
    "input": {"n": 3, "items": ["x", "y"], "who": "Ann"},
    "steps": {"plan": {"output": {"days": [{"b": 1, "a": 2}], "ok": True}}},
    "item": "x",
}


def condition(source: str) -> Condition:
    return Condition(source, "flows.f.steps[0].when", NAMES)


def template(source: str) -> Template:
    return Template(source, "flows.f.steps[0].prompt", NAMES)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("input.n > 2 && item in input.items", True),
        ("steps.plan.output.ok", True),
        ("steps['plan'].output.days.exists(d, d.a == 2)", True),
        ("input.who.startsWith('B')", False),
        ("size(input.items)", 2),
        ("[1, 2].map(x, x * 2)", [2, 4]),
    ],
)
def test_a_condition_looks_into_inputs_and_outputs(source: str, value: object) -> None:
    assert condition(source).value(SCOPE) == value


def test_maps_from_cel_have_an_order() -> None:
    days = condition("steps.plan.output.days").items(SCOPE)
    assert list(days[0]) == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("input.n >", "not a CEL expression, column 10"),
        ("stepz.plan.output", "unknown name 'stepz'; did you mean 'steps'?"),
        ("", "not a CEL expression"),
    ],
)
def test_a_wrong_condition_is_an_error_of_the_file(source: str, message: str) -> None:
    with pytest.raises(PolicyError) as e:
        condition(source)
    assert message in str(e.value)
    assert e.value.where == "flows.f.steps[0].when"
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("input.missing", "there is no 'missing'"),
        ("input.n + item", "failed:"),
        ("1 / 0", "failed:"),
        ("input.who.nothing()", "failed:"),
    ],
)
def test_a_failing_condition_names_its_place(source: str, message: str) -> None:
    with pytest.raises(PolicyError, match=r"^flows\.f\.steps\[0\]\.when: ") as e:
        condition(source).value(SCOPE)
    assert message in str(e.value)


def test_a_condition_must_be_true_or_false_and_a_list_a_list() -> None:
    with pytest.raises(PolicyError, match="gives a int, not true or false"):
        condition("input.n").holds(SCOPE)
    with pytest.raises(PolicyError, match="gives a str, not a list"):
        condition("input.who").items(SCOPE)


def test_the_steps_an_expression_reads_are_known() -> None:
    source = """steps.a.output == 'steps.no' && steps["b"].output.all(x, x == "steps.c")"""
    assert condition(source).steps == {"a", "b"}
    text = "{{ steps.a.output }}{% for x in steps['b'].output %}{{ x }} steps.c{% endfor %}"
    assert template(text).steps == {"a", "b"}


def test_a_template_renders_text_and_keeps_types_alone() -> None:
    assert template("Hi {{ input.who }}: {{ input.items | tojson }}").render(SCOPE) == (
        'Hi Ann: ["x", "y"]'
    )
    assert template("{{ steps.plan.output.days }}").value(SCOPE) == [{"b": 1, "a": 2}]
    assert template("{{- -input.n -}}").value(SCOPE) == -3
    assert template("n={{ input.n }}").value(SCOPE) == "n=3"


def test_data_is_never_a_template() -> None:
    scope = {**SCOPE, "item": "{{ input.n }}"}
    assert template("{{ item }}!").render(scope) == "{{ input.n }}!"
    assert template("{{ item }}").value(scope) == "{{ input.n }}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n{{ input.n", "line 2: unexpected end of template"),
        ("{{ imput.n }}", "unknown name 'imput'; did you mean 'input'?"),
        ("{{ input.n | nofilter }}", "nofilter"),
        ("{{ lipsum() }}", "unknown name 'lipsum'"),
        ("{{ input.items | random }}", "random"),
    ],
)
def test_a_wrong_template_is_an_error_of_the_file(source: str, message: str) -> None:
    with pytest.raises(PolicyError, match=r"^flows\.f\.steps\[0\]\.prompt: ") as e:
        template(source)
    assert message in str(e.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ input.nothing }}",
        "{{ steps.other.output }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ input.items.append(1) }}",
        "{{ 1 // 0 }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ],
)
def test_a_template_fails_clearly_and_cannot_reach_out(source: str) -> None:
    with pytest.raises(PolicyError, match=r"^flows\.f\.steps\[0\]\.prompt: "):
        template(source).value(SCOPE)


def test_arguments_are_filled_at_any_depth() -> None:
    raw = {"n": "{{ input.n }}", "deep": [{"who": "{{ input.who }}!"}, 7, None]}
    arguments = Arguments(raw, "flows.f.steps[0].args", NAMES)
    assert arguments.value(SCOPE) == {"n": 3, "deep": [{"who": "Ann!"}, 7, None]}
    with pytest.raises(PolicyError, match=r"^flows\.f\.steps\[0\]\.args\.deep\[0\]: unknown name"):
        Arguments({"deep": ["{{ nope }}"]}, "flows.f.steps[0].args", NAMES)
