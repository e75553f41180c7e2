"""Conditions (CEL) and templates (sandboxed Jinja), compiled once, when a flow is loaded.

Both know the names they may use and the steps they refer to, so that a misspelt one is an
error of the file and not of the run. What models and tools return is data in them, never
source. An error says where in the policy the expression stands.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from clawmw.errors import PolicyError

__all__ = ["Arguments", "Condition", "Template", "did_you_mean"]

Scope = Mapping[str, Any]

_CEL_STEP = re.compile(
    r"""\bsteps\s*(?:\.\s*(\w+)|\[\s*(?:"([^"]*)"|'([^']*)')\s*\])"""
    r"""|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
)
"""A reference to a step; string literals match too, so that their text is passed over."""
_CEL_BOUND = re.compile(r"[(,]\s*([A-Za-z_]\w*)\s*(?=,)")
"""Names that a macro such as `list.exists(x, ...)` may bind."""
_SOLE = re.compile(r"\s*\{\{[-+]?(.*?)[-+]?\}\}\s*\Z", re.DOTALL)
_CEL_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A half sentence that helps: the nearest known name, or the few there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not known:
        return "; there are none"
    shown = ", ".join(sorted(known)[:8])
    return f"; there are: {shown}" if len(known) <= 8 else f"; there are, among others: {shown}"


class Condition:
    """A CEL expression. Raises PolicyError if it cannot be parsed or names what is not there."""

    def __init__(self, source: str, where: str, names: Collection[str]) -> None:
        self.source = source
        self.where = where
        try:
            import cel  # half a second to import: only where a flow has conditions

            self._program = cel.compile(source)
        except ValueError as e:
            raise PolicyError(f"{where}: {_cel_syntax(str(e))}", where=where) from None
        bound = set(_CEL_BOUND.findall(source))
        for name in self._program.variables():
            if name not in names and name not in bound:
                raise _unknown_name(name, names, where)
        found = (m.group(1) or m.group(2) or m.group(3) for m in _CEL_STEP.finditer(source))
        self.steps = frozenset(step for step in found if step)

    def value(self, scope: Scope) -> Any:
        """What it evaluates to, as plain data; maps have sorted keys (CEL's have no order)."""
        try:
            return _ordered(self._program.execute(dict(scope)))
        except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as e:
            raise PolicyError(
                f"{self.where}: `{self.source}` failed: {_cel_failure(e)}", where=self.where
            ) from None

    def holds(self, scope: Scope) -> bool:
        """Whether it is true; anything but a boolean is an error."""
        value = self.value(scope)
        if not isinstance(value, bool):
            kind = type(value).__name__
            raise PolicyError(
                f"{self.where}: `{self.source}` gives a {kind}, not true or false",
                where=self.where,
            )
        return value

    def items(self, scope: Scope) -> list[Any]:
        """The list it evaluates to; anything else is an error."""
        value = self.value(scope)
        if not isinstance(value, list):
            kind = type(value).__name__
            raise PolicyError(
                f"{self.where}: `{self.source}` gives a {kind}, not a list", where=self.where
            )
        return value


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja without what is unsafe or random; `a.items` means the key where there is one."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _environment() -> _Environment:
    env = _Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("lipsum", "cycler", "joiner"):
        del env.globals[name]
    del env.filters["random"]
    env.filters["tojson"] = _to_json
    return env


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter escapes for HTML, which a prompt is not."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


_ENV = _environment()


class Template:
    """A text with `{{ expressions }}`. Raises PolicyError like a condition."""

    def __init__(self, source: str, where: str, names: Collection[str]) -> None:
        self.where = where
        try:
            tree = _ENV.parse(source)
            self._template = _ENV.from_string(source)
            self._expression = _sole_expression(source, tree)
        except TemplateSyntaxError as e:
            raise PolicyError(f"{where}: line {e.lineno}: {e.message}", where=where) from None
        except TemplateError as e:
            raise PolicyError(f"{where}: {e}", where=where) from None
        for name in sorted(meta.find_undeclared_variables(tree)):
            if name not in names and name not in _ENV.globals:
                raise _unknown_name(name, names, where)
        self.steps = frozenset(_steps_in(tree))

    def render(self, scope: Scope) -> str:
        """The text."""
        return str(self._run(lambda: self._template.render(scope)))

    def value(self, scope: Scope) -> Any:
        """The text, or the very value where the template is one `{{ expression }}` only."""
        if self._expression is None:
            return self.render(scope)
        expression = self._expression
        value = self._run(lambda: expression(**scope))
        if isinstance(value, Undefined):
            return self.render(scope)  # fails, and says what is missing
        return value

    def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as e:
            raise PolicyError(f"{self.where}: {e}", where=self.where) from None


class Arguments:
    """The arguments of a tool step: templates at any depth of maps and lists."""

    def __init__(self, raw: Any, where: str, names: Collection[str]) -> None:
        self.steps: frozenset[str] = frozenset()
        self._raw = self._compile(raw, where, names)

    def value(self, scope: Scope) -> Any:
        """The arguments with every template filled in."""
        return self._fill(self._raw, scope)

    def _compile(self, raw: Any, where: str, names: Collection[str]) -> Any:
        if isinstance(raw, str):
            template = Template(raw, where, names)
            self.steps |= template.steps
            return template
        if isinstance(raw, Mapping):
            return {k: self._compile(v, f"{where}.{k}", names) for k, v in raw.items()}
        if isinstance(raw, (list, tuple)):
            return [self._compile(v, f"{where}[{i}]", names) for i, v in enumerate(raw)]
        return raw

    def _fill(self, node: Any, scope: Scope) -> Any:
        if isinstance(node, Template):
            return node.value(scope)
        if isinstance(node, dict):
            return {k: self._fill(v, scope) for k, v in node.items()}
        if isinstance(node, list):
            return [self._fill(v, scope) for v in node]
        return node


def _sole_expression(source: str, tree: nodes.Template) -> Callable[..., Any] | None:
    sole = (
        len(tree.body) == 1
        and isinstance(tree.body[0], nodes.Output)
        and len(tree.body[0].nodes) == 1
        and not isinstance(tree.body[0].nodes[0], nodes.TemplateData)
    )
    text = _SOLE.match(source)
    if not sole or text is None:
        return None
    return _ENV.compile_expression(text.group(1), undefined_to_none=False)


def _steps_in(tree: nodes.Template) -> list[str]:
    found = []
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        of = getattr(node, "node", None)
        if not (isinstance(of, nodes.Name) and of.name == "steps"):
            continue
        if isinstance(node, nodes.Getattr):
            found.append(node.attr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            found.append(str(node.arg.value))
    return found


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def _unknown_name(name: str, names: Collection[str], where: str) -> PolicyError:
    return PolicyError(f"{where}: unknown name {name!r}{did_you_mean(name, names)}", where=where)


def _cel_syntax(text: str) -> str:
    match = _CEL_PLACE.search(text)
    if match is None:
        return "not a CEL expression"
    problem = match.group(3).partition(" expecting ")[0]
    return f"not a CEL expression, column {match.group(2)}: {problem}"


def _cel_failure(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return str(error).partition(". Check that")[0].partition("\n")[0][:200]
