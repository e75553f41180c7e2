"""An explanation as text for a terminal: no colours, 100 columns at most."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from clawmw.policy.explain import AgentView, Explanation, ModelView, Setting, StageView
from clawmw.stages.units import show_count

__all__ = ["render"]

_WIDTH = 100
_LONG_NUMBER = 10_000


def render(explanation: Explanation, name: str) -> str:
    """The explanation of the policy called `name`, ready to print."""
    return "\n".join(_lines(explanation, name)) + "\n"


def _lines(e: Explanation, name: str) -> Iterator[str]:
    yield f"{name}: mode {e.mode}, digest {e.digest}"
    yield "Values marked * are defaults."
    yield ""
    yield "Every call passes, in this order:"
    at_work = [s for s in e.stages if s.mode != "off"]
    width = max((len(s.section) for s in e.stages), default=0)
    for number, stage in enumerate(at_work, 1):
        yield from _stage(f"{number:>3}. ", stage, width)
    if not at_work:
        yield "  nothing: all stages are off"
    if off := [s for s in e.stages if s.mode == "off"]:
        yield ""
        yield "Off:"
        for stage in off:
            yield from _wrapped(f"  {stage.section:<{width}}  ", stage.does)
    yield from _section("Models:", _each(map(_model, e.models)))
    who = f"Rules for agent {e.agent}" if e.agent else "Agents"
    yield from _section(f"{who} (the first that matches is used):", _each(map(_agent, e.agents)))
    if e.agent and not e.agents:
        yield ""
        yield f"No rule is about agent {e.agent}: it gets the model it asks for, and the above."
    yield from _section("Otherwise:", _wrapped("  ", _settings(e.general)))
    yield from _section("Flows:", _each(e.flows))
    yield from _section("Warnings:", _each(e.warnings, "  ! "))


def _stage(number: str, stage: StageView, width: int) -> Iterator[str]:
    star = "" if stage.written else "*"
    head = f"{number}{stage.section + star:<{width + 1}}  "
    observed = " (observe: only says what it would do)" if stage.mode == "observe" else ""
    yield from _wrapped(head, stage.does + observed)
    if stage.settings:
        yield from _wrapped(" " * len(head), _settings(stage.settings))


def _settings(settings: Iterable[Setting]) -> str:
    told = (s for s in settings if s.value is not None or not s.default)
    return ", ".join(f"{s.name} {_value(s.value)}{'*' if s.default else ''}" for s in told)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return show_count(value) if value >= _LONG_NUMBER else str(value)
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        inner = ", ".join(f"{k}: {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + inner + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)


def _model(model: ModelView) -> str:
    where = f" at {model.base_url}" if model.base_url else ""
    where += f", {model.reached}" if model.reached else ""
    if model.input_usd is None:
        return f"{model.name}: {model.model}{where}; price unknown"
    usd = " / ".join(map(_usd, (model.input_usd, model.cached_usd, model.output_usd)))
    per = f"USD {usd} per million tokens in / cached / out ({model.as_of})"
    return f"{model.name}: {model.model}{where}; {per}"


def _usd(amount: float | None) -> str:
    return "?" if amount is None else _value(amount)


def _agent(rule: AgentView) -> str:
    who = f"agent {' or '.join(rule.agents)}" if rule.agents else "any agent"
    kind = f", calls of kind {' or '.join(rule.kinds)}" if rule.kinds else ""
    gets = f"model {rule.model}" if rule.model else "the model it asks for"
    return f"{rule.rule}: {who}{kind}: {gets}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    if listed:
        yield ""
        yield title
        yield from listed


def _each(texts: Iterable[str], head: str = "  ") -> Iterator[str]:
    for text in texts:
        yield from _wrapped(head, text)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
