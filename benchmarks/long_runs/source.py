"""Source files in five languages, of a run's own names."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.long_runs.words import Words

__all__ = ["STYLES", "File", "Style"]


@dataclass(frozen=True, slots=True)
class Style:
    """How a language looks."""

    name: str
    suffix: str
    comment: str
    head: str
    constant: str
    function: str
    close: str
    statements: tuple[str, ...]

    def statement(self, words: Words) -> str:
        """One line of a body."""
        return words.of(self.statements).format(
            a=words.noun(),
            b=words.noun(),
            c=words.camel(),
            f=words.snake(),
            g=words.snake(3),
            n=words.dice.randrange(2, 4000),
            s=f"{words.noun()} {words.noun()}",
        )

    def line(self, words: Words, about: str) -> str:
        """A line in which `about` occurs, as a search finds it."""
        forms = ("{i}{about} = {f}({a})", "{i}return {a}.{about}", "{i}{f}({about}, {a}={b})")
        indent = " " * words.dice.choice([2, 4, 8])
        return words.of(forms).format(
            i=indent, about=about, f=words.snake(), a=words.noun(), b=words.noun()
        )


@dataclass(slots=True)
class File:
    """A file as it stands, and what is defined in it where."""

    path: str
    lines: list[str] = field(default_factory=list)
    names: list[tuple[int, str]] = field(default_factory=list)
    constants: list[tuple[int, str, str]] = field(default_factory=list)

    @classmethod
    def made(cls, words: Words, style: Style, path: str, tokens: int) -> File:
        """A new file of about so many tokens."""
        file, dice = cls(path), words.dice
        for _ in range(dice.randint(2, 12)):
            file.lines.append(style.head.format(a=words.noun(), b=words.noun(), c=words.camel()))
        size = 0
        while size < tokens * 3:
            file._add(words, style)
            size = sum(map(len, file.lines))
        return file

    def _add(self, words: Words, style: Style) -> None:
        """A constant or a function with its comment and body."""
        dice = words.dice
        self.lines.append("")
        if dice.random() < 0.25:
            name = f"{words.noun()}_{words.noun()}_{words.noun()}".upper()
            value = words.of([str(dice.randrange(10, 10**6)), f'"{words.ident()}"', words.amount()])
            self.lines.append(style.constant.format(name=name, value=value))
            self.names.append((len(self.lines), name))
            self.constants.append((len(self.lines), name, value.strip('"')))
            return
        if dice.random() < 0.5:
            self.lines.append(f"{style.comment} {words.sentence()}")
        name = words.snake(dice.randint(2, 4))
        self.lines.append(
            style.function.format(f=name, a=words.noun(), b=words.noun(), c=words.camel())
        )
        self.names.append((len(self.lines), name))
        depth = 1
        for _ in range(dice.randint(2, 30)):
            depth = min(4, max(1, depth + dice.choice([-1, 0, 0, 1])))
            self.lines.append("    " * depth + style.statement(words))
        if style.close:
            self.lines.append(style.close)

    def edit(self, old: str, new: str, words: Words) -> int:
        """Replace the line that holds `old`, sometimes add some more; where, from 0."""
        at = next((n for n, line in enumerate(self.lines) if old in line), len(self.lines) // 2)
        if self.lines:
            self.lines[at] = self.lines[at].replace(old, new) if old in self.lines[at] else new
        for _ in range(words.dice.choice([0, 0, 1, 3, 8])):
            self.lines.insert(at + 1, f"    {words.snake(3)}({words.noun()})")
        return at


STYLES = (
    Style(
        "python",
        ".py",
        "#",
        "from {a}.{b} import {c}",
        "{name} = {value}",
        "def {f}({a}: {c}, {b}: int = 0) -> {c}:",
        "",
        (
            "{a} = self.{f}({b}, limit={n})",
            "if {a} is None or {b}.{f}():",
            "return {c}({a}, {b})",
            "for {a} in sorted({b}.{f}()):",
            'raise {c}Error(f"{s}: {{{a}}}")',
            "{a}.{b} += {n}",
            'log.info("{s}", extra={{"{a}": {b}}})',
            "with {f}({a}) as {b}:",
            "{a}[{n}] = {g}({b})",
            "assert {a} <= {n}, {b}",
        ),
    ),
    Style(
        "typescript",
        ".ts",
        "//",
        "import {{ {c} }} from '../{a}/{b}';",
        "export const {name} = {value};",
        "export async function {f}({a}: {c}, {b}?: number) {{",
        "}",
        (
            "const {a} = await {f}({b}, {{ limit: {n} }});",
            "if (!{a}?.{b}) {{ return null; }}",
            "throw new {c}Error(`{s}: ${{{a}}}`);",
            "return {{ ...{a}, {b}: {n} }};",
            "{a}.push(...{b}.map((x) => {f}(x)));",
            "this.{a} = new {c}({b});",
            "}} else {{",
            "for (const {a} of {b}.{f}()) {{",
            "logger.warn('{s}', {{ {a}, {b} }});",
        ),
    ),
    Style(
        "rust",
        ".rs",
        "//",
        "use crate::{a}::{b}::{c};",
        "pub const {name}: u64 = {value};",
        "pub fn {f}({a}: &{c}, {b}: usize) -> Result<{c}, Error> {{",
        "}",
        (
            "let {a} = self.{f}({b})?;",
            "match {a}.{f}() {{ Some({b}) => {b}, None => continue }}",
            'return Err(Error::{c}(format!("{s}: {{}}", {a})));',
            "let mut {a} = Vec::with_capacity({n});",
            "{a}.{b}.extend({f}(&{b})?);",
            "if {a}.len() > {n} {{ break; }}",
            "Ok({c} {{ {a}, {b} }})",
            'tracing::debug!({a} = ?{b}, "{s}");',
        ),
    ),
    Style(
        "go",
        ".go",
        "//",
        'import {a} "internal/{a}/{b}"',
        "const {name} = {value}",
        "func (s *{c}) {f}(ctx context.Context, {a} string, {b} int) error {{",
        "}",
        (
            "{a}, err := s.{f}(ctx, {b})",
            'if err != nil {{ return fmt.Errorf("{s}: %w", err) }}',
            "for _, {a} := range {b} {{",
            "s.{a}[{b}] = {c}{{Limit: {n}}}",
            "defer s.{f}({a})",
            'slog.Info("{s}", "{a}", {b})',
            "select {{ case <-ctx.Done(): return ctx.Err() }}",
            "if len({a}) == {n} {{ return nil }}",
        ),
    ),
    Style(
        "java",
        ".java",
        "//",
        "import org.{a}.{b}.{c};",
        "private static final long {name} = {value};",
        "public {c} {f}({c} {a}, int {b}) throws {c}Exception {{",
        "}",
        (
            "{c} {a} = this.{f}({b}, {n});",
            "if ({a} == null || {b}.isEmpty()) {{",
            'throw new {c}Exception("{s}: " + {a});',
            "return {c}.builder().{a}({b}).build();",
            "{a}.stream().filter(x -> x.{f}()).forEach({b}::{g});",
            'log.warn("{s} {{}}", {a});',
            "for ({c} {a} : {b}.{f}()) {{",
            "@Override",
        ),
    ),
)
