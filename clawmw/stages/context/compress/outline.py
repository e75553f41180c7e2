"""Where the definitions, imports and constants of a source text are, in most languages at once.

One light scanner instead of a parser per language: a definition is known by its first words (the
keywords of 40 languages, C-like signatures, arrow functions, Lisp forms, SQL `CREATE`, sections
and keys of configuration), its extent by indentation, which formatted code of every family
keeps. tree-sitter was not taken: wheels with 30 grammars are 30 MB and more, fail on the partial
and numbered listings that tools print, and tell no more than this needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from clawmw.stages.context.compress.protocol import words

__all__ = ["Block", "Outline", "indentation", "scan"]

SIGNATURE = 12
"""A signature has at most so many lines."""

DEEP = 16
"""Columns of indentation beyond which nothing is looked for."""

WIDTH = 300
"""Characters of a line that are looked at."""


@dataclass(slots=True)
class Block:
    """A definition: lines `start` to `end` (exclusive); those before `body` are its head."""

    start: int
    body: int
    end: int
    indent: int
    depth: int
    name: str
    holds: bool
    """Whether values may stand in it: a class or a section, no function."""


@dataclass(slots=True)
class Outline:
    """What `scan` found, by line index."""

    blocks: list[Block]
    imports: list[int]
    constants: list[int]


_MODIFIERS = words(
    "export default public private protected internal static final abstract async override virtual "
    "sealed partial inline extern unsafe pub open suspend readonly declare local mutating implicit "
    "lazy case data companion inner annotation global typedef constexpr const synchronized native "
    "fileprivate recursive pure elemental cdef cpdef export_default"
)
_KEYWORDS = words(
    "def defp defmodule defmacro defprotocol defimpl defstruct class module fn func fun function "
    "sub subroutine proc procedure package namespace interface trait struct enum union record impl "
    "type protocol extension object contract macro instance newtype actor delegate event modifier "
    "message service rpc resource variable output provider theorem lemma program library entity "
    "architecture process task describe context it test method constructor operator "
    "mod schema component template interface impl<T> mutable"
)
_STARTS = frozenset(
    ["macro_rules!", *_MODIFIERS, *_KEYWORDS, *[f"{word}(" for word in ("describe", "it", "test")]]
)
_KEYWORD = re.compile(
    rf"(?:(?:{'|'.join(_MODIFIERS)}|pub\([\w: ]{{1,20}}\)|@[\w.]{{1,40}})\s+){{0,6}}"
    rf"(?:macro_rules!|{'|'.join(map(re.escape, _KEYWORDS))})"
    r"(?=[\s(\"'<*{])(?:\s\(\w{1,30} [\w.*\[\]]{1,60}\))?[ \t*&(\"']{0,4}(?P<name>[\w:.$?!-]{0,80})"
)
_FIRST = re.compile(r"[\w@#!]+")
_STATEMENTS = frozenset(words("CREATE ALTER DROP INSERT COPY WITH"))
_SQL = re.compile(
    r"(?:CREATE|ALTER|DROP|INSERT\s+INTO|COPY|WITH)\b[\w\s]{0,60}?"
    r"(?:TABLE|VIEW|INDEX|FUNCTION|PROCEDURE|TRIGGER|TYPE|SCHEMA|INTO|COPY|WITH)\s+"
    r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<name>[\w.\"`\[\]]+)",
    re.IGNORECASE,
)
_LISP = re.compile(r"\((?:cl-)?(?:def[\w*-]*|define[\w-]*|ns|module)\s+\(?(?P<name>[^\s()]{1,80})")
_SHELL = re.compile(r"(?P<name>[\w:-]{1,60})\s*\(\)\s*(?:\{|\($|$)")
_ARROW = re.compile(
    r"(?:export\s+)?(?:default\s+)?(?:(?:const|let|var)\s+)?(?P<name>[\w$.]{1,80})\s*"
    r"(?::[^=]{1,80})?[:=]\s*(?:async\s*)?(?:function\b|\([^()]{0,160}\)\s*(?::[^=]{1,60})?=>"
    r"|\w+\s*=>)"
)
_CALLABLE = re.compile(
    r"(?P<ret>(?:[\w$:.~<>\[\],?@*&]{1,60}\s+[*&]{0,2}){0,6})(?P<name>[~\w$:.!?]{1,80}"
    r"|operator\S{1,3})\s*"
    r"(?:<[^<>()]{1,60}>)?\("
)
_HASKELL = re.compile(r"(?P<name>[a-z][\w']{0,60})\s+::\s")
_SECTION = re.compile(r"\[\[?(?P<name>[\w .:\"'/@*-]{1,100})\]\]?\s*(?:[#;].*)?$")
_KEY = re.compile(
    r"(?:- )?(?P<name>[\w./\"'@*${}-][\w ./\"'@*${}()-]{0,60}):\s*(?:[|>][-+]?|&\w+)?\s*(?:#.*)?$"
)
_HEAD = re.compile(r"(?P<name>[^;(){}=]{1,120}?)\s*\{$")
_NOT = frozenset(
    words(
        "if for while switch return else catch throw new delete case do goto foreach elif elsif "
        "unless until when match using lock with try finally assert print await yield raise puts "
        "echo in not and or is sizeof typeof import from include require use super this self let "
        "var const val default end then defer go select except rescue ensure loop begin"
    )
)
_IMPORTS = frozenset(
    words("import from using use require extern @import const let var library open")
    + words("export package #include # (require (:require source include")
)
_IMPORT = re.compile(
    r"(?:import\b|from\s+\S+\s+import\b|#\s*include\b|using\s+[\w.:=\s]+;|use\s+[\w:\\{]|require\b"
    r"|require_once\b|extern\s+crate\b|@import\b|(?:const|let|var)\s+.{1,120}=\s*require\("
    r"|library\(|open\s+[A-Z][\w.]*$|export\s+.{0,200}\bfrom\s+[\"']|\(:?require\b"
    r"|package\s+[\w.]+;?$)"
)
_CONSTANT = re.compile(
    r"(?:[\w:<>*&\[\]]{1,30}\s+){0,4}(?:[A-Z][A-Z\d_]{2,})\s*(?::[^=]{1,60})?(?:=|:=)\s*\S"
    r"|#\s*define\s+\w+\s+\S|(?:const|final|val)\s+\w+\s*(?::[^=]{1,60})?=\s*\S"
    r"|[\w.]{1,60}\s*=\s*\S"
    r"|[\w.\"'-]{1,60}:\s+\S|\(def(?:var|const|parameter|custom)\s"
    r"|(?:FROM|RUN|COPY|CMD|ENTRYPOINT|ENV|ARG|EXPOSE|WORKDIR|USER|VOLUME|ADD)\s+\S"
)
_CLOSER = re.compile(
    r"(?:[})\]]+[\w\s,;.)(]{0,20}|end\b.{0,40}|done\b|fi\b|esac\b|\*/|END\b.{0,40}|\$\$.*|</.*)$"
)
_SEEN_THROUGH = re.compile(r"#|(?:public|private|protected|signals|slots|default)\s*:|//|\{$|\\")
_CLOSES_HEAD = ("{", ":", "}", ";", "do", "then", "=>", "is", "as", "where", "=")


def indentation(line: str) -> int:
    """Columns before the first character; a tab counts four."""
    lead = len(line) - len(line.lstrip(" \t"))
    return lead + 3 * line.count("\t", 0, lead) if lead else 0


def scan(lines: Sequence[str]) -> Outline:
    """The outline of `lines`. Linear: each line is looked at once, up to `WIDTH` characters."""
    found = Outline([], [], [])
    open_blocks: list[Block] = []
    last = -1
    skip = 0
    for index, line in enumerate(lines):
        bare = line.strip()
        if not bare:
            continue
        if index < skip or (line[0] in " \t" and len(line) - len(line.lstrip(" \t")) > DEEP):
            last = index
            continue
        if len(bare) > WIDTH:
            bare = bare[:WIDTH]
        indent = indentation(line)
        if (open_blocks and indent <= open_blocks[-1].indent) or bare[0] == "[":
            _close(open_blocks, index, indent, bare, last)
        last = index
        if indent > DEEP:
            continue
        start = _FIRST.match(bare)
        word = start[0] if start else bare[0]
        if (word in _IMPORTS or word.startswith("require")) and _IMPORT.match(bare):
            found.imports.append(index)
            continue
        if word not in _STARTS and open_blocks and not open_blocks[-1].holds:
            continue  # A statement of a function.
        named = _definition(bare, indent, word)
        if named is not None:
            section = bare[0] == "["
            body = _signature(lines, index)
            block = Block(
                index,
                body,
                len(lines),
                -1 if section else indent,
                len(open_blocks),
                named,
                "(" not in bare or word in ("class", "enum"),
            )
            found.blocks.append(block)
            open_blocks.append(block)
            skip = body
        elif (not open_blocks or (len(open_blocks) == 1 and open_blocks[0].holds)) and (
            _CONSTANT.match(bare)
        ):
            found.constants.append(index)
    for block in open_blocks:
        block.end = max(last + 1, block.body)
    return found


def _close(open_blocks: list[Block], index: int, indent: int, bare: str, last: int) -> None:
    """End the blocks that the line at `index` is no longer part of."""
    while open_blocks and indent <= open_blocks[-1].indent:
        block = open_blocks[-1]
        if _SEEN_THROUGH.match(bare) and block.indent >= 0:
            return
        if indent == block.indent and _CLOSER.match(bare) and index >= block.body:
            block.end = index + 1
            open_blocks.pop()
            return
        block.end = max(last + 1, block.body)
        open_blocks.pop()
    if bare[0] == "[" and open_blocks and open_blocks[-1].indent < 0 and _SECTION.match(bare):
        block = open_blocks.pop()
        block.end = max(last + 1, block.body)


def _definition(bare: str, indent: int, word: str) -> str | None:
    """The name that a line defines, or None where it defines nothing."""
    first = bare[0]
    if first == "(":
        found = _LISP.match(bare)
        return found["name"] if found else None
    if first == "[":
        found = _SECTION.match(bare)
        return found["name"] if found else None
    if word in _STARTS or first == "@":
        found = _KEYWORD.match(bare)
        if found:
            return found["name"] or word
    if "(" in bare:
        name = _callable(bare, word)
        if name is not None:
            return name
    elif word.upper() in _STATEMENTS:
        found = _SQL.match(bare)
        if found:
            return found["name"]
    return _heading(bare, indent)


def _heading(bare: str, indent: int) -> str | None:
    """The name before a `{`, a `:` or a `::`."""
    found = None
    if bare[-1] == "{":
        found = _HEAD.match(bare)
    elif ":" in bare[-20:]:
        found = _KEY.match(bare)
    if found is None and "::" in bare and indent == 0:
        found = _HASKELL.match(bare)
    if found is None or found["name"].split(" ", 1)[0].lstrip("}") in _NOT:
        return None
    return found["name"][:60]


def _callable(bare: str, word: str) -> str | None:
    """The name of a function whose head this is, in languages without a keyword for it."""
    found = _SQL.match(bare) if word.upper() in _STATEMENTS else None
    found = found or (_SHELL.match(bare) if "()" in bare else None)
    found = found or (_ARROW.match(bare) if "=>" in bare or "function" in bare else None)
    if found:
        return found["name"] if found["name"] not in _NOT else None
    if word in _NOT or bare[0] in "}.#/":
        return None
    opens = bare.endswith(("{", ") =>", ") ->"))
    if not opens and not bare.endswith((")", ";", "(", ",", "const", "override")):
        return None
    found = _CALLABLE.match(bare)
    if found is None:
        return None
    ret, name = found["ret"].split(), found["name"]
    if name in _NOT:
        return None
    return name if opens or (ret and "," not in found["ret"]) else None


def _signature(lines: Sequence[str], start: int) -> int:
    """The index after the signature that starts at `start`: parentheses closed, brace open."""
    depth = 0
    for index in range(start, min(start + SIGNATURE, len(lines))):
        line = lines[index][:WIDTH]
        depth += line.count("(") - line.count(")") + line.count("[") - line.count("]")
        if depth <= 0:
            after = lines[index + 1].strip() if index + 1 < len(lines) else ""
            closed = line.rstrip().endswith(_CLOSES_HEAD)
            return index + (2 if after == "{" and not closed else 1)
    return start + 1
