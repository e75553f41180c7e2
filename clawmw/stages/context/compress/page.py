"""Cleaned HTML as lines of text, in one pass over its tags, so that depth costs nothing."""

from __future__ import annotations

import html
import re
from urllib.parse import urlsplit

from clawmw.stages.context.compress.protocol import Brief, Level, words
from clawmw.stages.context.compress.squeeze import fold_repeats
from clawmw.stages.context.compress.table import cut_rows

__all__ = ["PageWriter"]

TABLE_ROWS = 40
"""A table with more rows than this is cut as other tables are."""

COMMENT_CHARS = 200
COMMENTS = 20
"""Comments of at most so many characters, and at most so many of them, stay: people leave notes
there, templates leave longer or wordless ones."""

LINK_CHARS: dict[Level, int] = {"balanced": 160, "aggressive": 60}
"""A longer link target loses its query, then its end."""

COPY_CHARS = 100
"""A line at least this long that stood before is not written again."""

_CELL, _NEXT_CELL = "\x1e", "\x1f"
_TAG = re.compile(
    r'<(/?)([a-z][^\s/>]*)((?:[^">]++|"[^"]*+")*+)>|<!--.*?-->|<![^>]*>',
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r'([^\s=>"/]+)="([^"]*)"')
_DATA = re.compile(
    r"(?:^|-)(?:ids?|key|code|sku|slug|price|cost|amount|currency|time|date|datetime|value|count"
    r"|status|lat|lng|ref|uuid)$"
)
_BLOCK = frozenset(
    words(
        "address article aside blockquote body caption center dd details dialog div dl dt "
        "fieldset figcaption figure form header hr li main ol p pre section summary table tbody "
        "tfoot thead tr ul option button label legend select title"
    )
)
_APART = frozenset(words("a span small strong b em i time label button"))
"""Inline elements that a page's style usually sets apart, though no space stands between them."""

_TELLING = frozenset(words("img input time data option meter"))
_IN_TABLE = frozenset(words("table tr tbody thead tfoot"))
_HEADING = {f"h{n}": "#" * n + " " for n in range(1, 7)}
_SPACE = re.compile(r"[ \t\n\r\f\v\xa0]+")
_TRACKING = re.compile(r"(?:^|&)(?:utm_[a-z]+|fbclid|gclid|spm|ref_src|_ga|mc_[a-z]+)=[^&]*")


class PageWriter:
    """Headings as in Markdown, links as `[words](target)`, table cells between bars."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._lines: list[str] = []
        self._now: list[str] = []
        self._lists = 0
        self._links: list[tuple[str, int]] = []
        self._last_target = ""
        self._rows: list[list[str]] | None = None
        self._tables = 0
        self._pre = 0
        self._comments = 0
        self.missing = 0
        self.kept: set[str] = set()
        """Lines of tables that were cut already."""
        """Table rows left out."""

    def text(self, source: str) -> str:
        """`source`, re-serialised HTML, as text. To be called once."""
        at = 0
        closed_at = -1
        for tag in _TAG.finditer(source):
            start = tag.start()
            if start > at:
                self._words(source[at:start])
            at = tag.end()
            closing, name, attributes = tag.groups()
            if name is None:
                self._comment(tag.group())
            elif closing:
                self._close(name)
                closed_at = at
            else:
                if start == closed_at and name in _APART and self._now:
                    self._now.append(" ")
                self._open(name, attributes)
        self._words(source[at:])
        self._end_line()
        return "\n".join(fold_repeats(_without_copies(self._lines))).strip()

    def _words(self, source: str) -> None:
        said = html.unescape(source) if "&" in source else source
        if self._pre:
            first, *rest = said.split("\n")
            self._now.append(first)
            for line in rest:
                self._end_line()
                self._now.append(line)
        elif not said.isspace():
            self._now.append(said)
        elif self._now:
            self._now.append(" ")

    def _comment(self, source: str) -> None:
        said = " ".join(source[4:-3].split())
        if " " not in said or len(said) > COMMENT_CHARS or said.startswith(("[if", "<!", "/")):
            return
        self._comments += 1
        if self._comments <= COMMENTS:
            self._now.append(f" <!-- {said} --> ")

    def _open(self, name: str, source: str) -> None:
        if name in _BLOCK:
            self._open_block(name)
        elif name in _HEADING:
            self._end_line()
            self._now.append(_HEADING[name])
        elif name in ("td", "th"):
            if any(said and not said.isspace() for said in self._now):
                self._now.append(f" {_NEXT_CELL} ")
            else:
                self._now = [_CELL]
        elif name == "br":
            if self._in_cell():
                self._now.append(" ")
            else:
                self._end_line()
        if name == "a":
            given = dict(_ATTRIBUTE.findall(source))
            self._links.append((html.unescape(given.get("href", "")), len(self._now)))
        elif "data-" in source or (source and name in _TELLING):
            self._attributes(name, dict(_ATTRIBUTE.findall(source)))

    def _open_block(self, name: str) -> None:
        if self._in_cell() and name not in _IN_TABLE:
            self._now.append(" ")
            return
        if name != "dd" or not self._now or self._now[-1] != ": ":
            self._end_line()
        if name == "table":
            self._tables += 1
            if self._rows is None:
                self._rows = []
        elif name in ("ul", "ol"):
            self._lists += 1
        elif name == "li":
            self._now.append("  " * max(self._lists - 1, 0) + "- ")
        elif name == "pre":
            self._pre += 1

    def _attributes(self, name: str, given: dict[str, str]) -> None:
        if name == "img" and given.get("alt", "").strip():
            said = " ".join(html.unescape(given["alt"]).split())
            self._now.append(f"[image: {said[:80]}]")
        elif name == "input" and given.get("type") != "hidden" and given.get("value"):
            self._now.append(f"[{given.get('name', 'input')}={given['value'][:80]}]")
        elif name in ("time", "data", "option", "meter"):
            value = given.get("datetime") or given.get("value")
            if value:
                self._now.append(f"[{value[:60]}] ")
        for key, value in given.items():
            if key.startswith("data-") and 0 < len(value) <= 60 and _DATA.search(key):
                self._now.append(f"[{key[5:]}={html.unescape(value)}] ")

    def _close(self, name: str) -> None:
        if name == "a":
            if self._links:
                self._close_link()
        elif name in _HEADING:
            self._end_line()
        elif name == "dt" and not self._in_cell():
            self._now.append(": ")
        elif name == "title":
            self._now.insert(0, "title: ")
            self._end_line()
        elif name == "table":
            self._end_line()
            self._tables = max(0, self._tables - 1)
            if not self._tables:
                self._end_table()
        elif name == "tr" or (name in _BLOCK and not self._in_cell()):
            self._end_line()
            if name in ("ul", "ol"):
                self._lists = max(0, self._lists - 1)
            elif name == "pre":
                self._pre = max(0, self._pre - 1)

    def _close_link(self) -> None:
        """The words of the link in brackets, its target behind, where that says something more."""
        target, at = self._links.pop()
        if at > len(self._now):
            return
        said = " ".join("".join(self._now[at:]).split())
        target = _target(target, LINK_CHARS[self._brief.level])
        again, self._last_target = target == self._last_target, target or self._last_target
        if not said or not target or again or target in said or _NEXT_CELL in said:
            return
        image = said.startswith("[image: ") and said.endswith("]")
        self._now[at:] = [f"{said}({target})" if image else f"[{said}]({target})"]

    def _in_cell(self) -> bool:
        return self._rows is not None and bool(self._now) and self._now[0] == _CELL

    def _end_line(self) -> None:
        if not self._now:
            return
        said = "".join(self._now)
        self._now = []
        if self._pre:
            if said.strip():
                self._write(said.rstrip())
            return
        if said.startswith(_CELL):
            cells = [" ".join(cell.split()) for cell in said[1:].split(_NEXT_CELL)]
            if self._rows is not None and len(cells) > 1:
                self._rows.append(cells)
                return
            said = " ".join(cells)
        line = " ".join(said.split())
        if line.strip("-#: "):
            indent = len(said) - len(said.lstrip(" ")) if line.startswith("- ") else 0
            self._write(" " * indent + line)

    def _write(self, line: str) -> None:
        if self._rows is not None:
            self._rows.append([line])
        else:
            self._lines.append(line)

    def _end_table(self) -> None:
        rows, self._rows = self._rows or [], None
        lines = [" | ".join(row) for row in rows]
        if len(rows) > TABLE_ROWS and len(rows[0]) > 1 and sum(map(len, lines)) > 3000:
            shown, missing = cut_rows(rows[0], rows[1:], lines[1:], self._brief)
            self.missing += missing
            self.kept.update((lines[0], *shown))
            lines = [lines[0], *shown]
        self._lines.extend(lines)


def _without_copies(lines: list[str]) -> list[str]:
    """`lines` with each long line that stood before replaced by a note."""
    seen: set[str] = set()
    out = []
    for line in lines:
        if len(line) >= COPY_CHARS and line in seen:
            out.append(f"… again: {line[:30]} …")
        else:
            out.append(line)
            seen.add(line)
    return out


def _target(target: str, longest: int) -> str:
    """A link's target as far as it identifies something: no scripts, anchors or tracking."""
    target = target.strip()
    if not target or target.startswith(("#", "javascript:", "data:")) or len(target.split()) > 1:
        return ""
    if len(target) <= longest and "?" not in target and "#" not in target:
        return target
    try:
        parts = urlsplit(target)
    except ValueError:
        return ""
    query = _TRACKING.sub("", parts.query).lstrip("&")
    bare = parts._replace(query="", fragment="").geturl()
    full = f"{bare}?{query}" if query else bare
    if len(full) <= longest:
        return full
    return bare if len(bare) <= longest else f"{bare[:longest]}…"
