"""Web pages: the main text with its headings, lists, links, tables, prices, times and ids.

Scripts, styles, menus and attributes go, since they are most of a page and nothing an agent asked
for. What is kept of attributes is what cannot be had otherwise: link targets, alternative texts,
machine-readable times, values of form fields, and `data-*` attributes that name an id, a code, a
price or a time. The parser repairs and re-serialises the page; one pass over its tags follows,
so depth costs nothing.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import Encoder, decode_json, too_deep
from clawmw.stages.context.compress.prose import shorten
from clawmw.stages.context.compress.protocol import LOSSY_FLOOR, Level, Reduced, count, marker
from clawmw.stages.context.compress.squeeze import fold_repeats
from clawmw.stages.context.compress.table import cut_rows

__all__ = ["HtmlReducer"]

MAX_CHARS = 4_000_000
TABLE_ROWS = 40
"""A table with more rows than this is cut as other tables are."""

FLOOR: dict[Level, int] = {"balanced": 500, "aggressive": 150}
"""Estimated tokens below which a page stays as it is: its source may be what was asked for."""

COMMENT_CHARS = 200
COMMENTS = 20
"""Comments of at most so many characters, and at most so many of them, stay: people leave notes
there, templates leave longer or wordless ones."""

LINK_CHARS: dict[Level, int] = {"balanced": 160, "aggressive": 60}
"""A longer link target loses its query, then its end."""

_PAGE = re.compile(r"<!doctype html|<html[\s>]|<head>|<body[\s>]", re.IGNORECASE)
_FRAGMENT = re.compile(
    r"</?(?:div|p|span|li|ul|td|tr|table|a|h[1-6]|section|article|br|img)\b[^<>]*>", re.IGNORECASE
)
_DROP = (
    "script,style,noscript,svg,template,iframe,object,canvas,nav,footer,head>link,head>meta,"
    "[hidden],[aria-hidden=true],[role=navigation],[role=contentinfo]"
)
_BOILERPLATE = (
    "[class~=nav],[class~=navbar],[class*=nav-],[class*=-nav],[class*=navigation],[id=nav],[class*=breadcrumb],"
    "[class*=cookie],[id*=cookie],[class~=footer],[id=footer],[class*=site-footer],[class*=social-share],"
    "[class*=share-buttons],[class*=advert],[style*='display:none'],[style*='display: none']"
)
_TAG = re.compile(
    r'<(/?)([a-z][^\s/>]*)((?:\s+[^\s=>"/]+(?:="[^"]*")?)*)\s*/?>|<!--.*?-->|<![^>]*>',
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r'([^\s=>"/]+)="([^"]*)"')
_DATA = re.compile(
    r"(?:^|-)(?:id|ids|key|code|sku|slug|price|cost|amount|currency|time|date|datetime|value|count|status|lat|lng|ref|uuid)$"
)
_BLOCK = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form "
    "header hr li main ol p pre section summary table tbody tfoot thead tr ul option button label legend select title".split()
)
_HEADING = {f"h{n}": "#" * n + " " for n in range(1, 7)}
_SPACE = re.compile(r"[ \t\n\r\f\v\xa0]+")
_TRACKING = re.compile(r"(?:^|&)(?:utm_[a-z]+|fbclid|gclid|spm|ref_src|_ga|mc_[a-z]+)=[^&]*")


class HtmlReducer:
    """A page, or a fragment that is mostly tags; a few lines before it (a status, headers) stay."""

    name = "html"
    version = 1

    def matches(self, text: str) -> bool:
        if len(text) > MAX_CHARS:
            return False
        if _PAGE.search(text[:2000]):
            return True
        sample = text[:20_000]
        if not sample.lstrip().startswith("<") or sample.lstrip().startswith("<?xml"):
            return False
        tags = _FRAGMENT.findall(sample)
        return len(tags) >= 20 and sum(map(len, tags)) > 0.15 * len(sample)

    def reduce(self, text: str, level: Level, ref: str) -> Reduced | None:
        if level not in FLOOR or estimate(text) < FLOOR[level]:
            return None
        start = _PAGE.search(text[:2000])
        before = text[: start.start()] if start else ""
        tree = LexborHTMLParser(text[len(before) :].encode("utf-8", "replace").decode("utf-8"))
        writer = _Writer(level)
        shown = writer.text(_clean(tree))
        if len(shown) < 200:
            shown = "\n".join([shown, *_data_scripts(text)]).strip()
        said = ["page as text, markup, scripts and menus not shown"]
        if writer.missing:
            said.append(f"{count(writer.missing, 'table row')} not shown")
        if estimate(shown) > LOSSY_FLOOR[level]:
            shown, dropped, _ = shorten(shown, level)
            if dropped:
                said.append(f"{count(dropped, 'sentence')} not shown")
        return Reduced(f"{marker(ref, ', '.join(said))}\n{before}{shown}", "html", False)


def _clean(tree: LexborHTMLParser) -> str:
    """The main part of the page, re-serialised without what is not content."""
    title = tree.css_first("title")
    heading = title.html or "" if title is not None else ""
    for node in tree.css(_DROP):
        node.decompose()
    body = tree.body
    if body is None:
        return heading
    whole = len(_text_of(body))
    source = body.html or ""
    for node in body.css(_BOILERPLATE):
        if node.mem_id != body.mem_id:
            node.decompose()
    left = len(_text_of(body))
    if left < 0.4 * whole:
        return heading + source
    mains = body.css("main,[role=main]") or body.css("article")
    if len(mains) == 1 and len(_text_of(mains[0])) >= 0.5 * left:
        body = mains[0]
    return heading + (body.html or "")


def _text_of(node: LexborNode) -> str:
    return node.text(separator=" ", strip=True)


def _data_scripts(text: str) -> list[str]:
    """The data a page without text carries for its scripts, as far as it is JSON of moderate size."""
    found = []
    for script in LexborHTMLParser(text.encode("utf-8", "replace").decode("utf-8")).css(
        "script[type='application/ld+json'],script[type='application/json'],script#__NEXT_DATA__"
    ):
        source = script.text()
        if len(source) > 20_000:
            continue
        try:
            node = decode_json(source)
        except ValueError:
            continue
        if not too_deep(node):
            found.append(Encoder().encode(node))
    return list(dict.fromkeys(found))


class _Writer:
    """Writes cleaned HTML as lines of text in one pass over its tags."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._lines: list[str] = []
        self._now: list[str] = []
        self._lists: list[int] = []
        self._links: list[tuple[str, int]] = []
        self._rows: list[list[str]] | None = None
        self._tables = 0
        self._pre = 0
        self._comments = 0
        self.missing = 0

    def text(self, source: str) -> str:
        at = 0
        for tag in _TAG.finditer(source):
            if tag.start() > at:
                self._words(source[at : tag.start()])
            at = tag.end()
            if tag.group(2) is None:
                self._comment(tag.group())
                continue
            name = tag.group(2).lower()
            if tag.group(1):
                self._close(name)
            else:
                self._open(name, tag.group(3))
        self._words(source[at:])
        self._end_line()
        return "\n".join(fold_repeats(_without_copies(self._lines))).strip()

    def _words(self, source: str) -> None:
        words = html.unescape(source)
        if self._pre:
            first, *rest = words.split("\n")
            self._now.append(first)
            for line in rest:
                self._end_line()
                self._now.append(line)
        else:
            words = _SPACE.sub(" ", words)
            if words != " " or (self._now and not self._now[-1].endswith(" ")):
                self._now.append(words)

    def _comment(self, source: str) -> None:
        words = " ".join(source[4:-3].split())
        if len(words) <= COMMENT_CHARS and " " in words and not words.startswith(("[if", "<!", "/")):
            self._comments += 1
            if self._comments <= COMMENTS:
                self._now.append(f" <!-- {words} --> ")

    def _open(self, name: str, source: str) -> None:
        if name in _HEADING:
            self._end_line()
            self._now.append(_HEADING[name])
        elif name == "br":
            self._end_line() if not self._in_cell() else self._now.append(" ")
        elif name in _BLOCK:
            self._open_block(name)
        elif name in ("td", "th"):
            self._open_cell()
        given = dict(_ATTRIBUTE.findall(source)) if '="' in source else {}
        if name == "a":
            self._links.append((html.unescape(given.get("href", "")), len(self._now)))
        elif given:
            self._attributes(name, given)

    def _open_block(self, name: str) -> None:
        if self._in_cell() and name not in ("table", "tr", "tbody", "thead", "tfoot"):
            self._now.append(" ")
            return
        if name != "dd" or not "".join(self._now).endswith(": "):
            self._end_line()
        if name == "table":
            self._tables += 1
            if self._tables == 1:
                self._rows = []
        elif name in ("ul", "ol"):
            self._lists.append(0)
        elif name == "li":
            self._now.append("  " * max(len(self._lists) - 1, 0) + "- ")
        elif name == "pre":
            self._pre += 1

    def _open_cell(self) -> None:
        if self._now and "".join(self._now).strip():
            self._now.append(" \x1f ")
        else:
            self._now = ["\x1e"]

    def _attributes(self, name: str, given: dict[str, str]) -> None:
        if name == "img" and given.get("alt", "").strip():
            self._now.append(
                f"[image: {_SPACE.sub(' ', html.unescape(given['alt']))[:80].strip()}]"
            )
        elif name == "input" and given.get("type") != "hidden" and given.get("value"):
            self._now.append(f"[{given.get('name', 'input')}={given['value'][:80]}]")
        elif name in ("time", "data", "option", "meter") and (
            value := given.get("datetime") or given.get("value")
        ):
            self._now.append(f"[{value[:60]}] ")
        for key, value in given.items():
            if key.startswith("data-") and 0 < len(value) <= 60 and _DATA.search(key):
                self._now.append(f"[{key[5:]}={html.unescape(value)}] ")

    def _close(self, name: str) -> None:
        if name == "a" and self._links:
            self._close_link()
        elif name in _HEADING:
            self._end_line()
        elif name == "dt":
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
            if name in ("ul", "ol") and self._lists:
                self._lists.pop()
            elif name == "pre":
                self._pre = max(0, self._pre - 1)

    def _close_link(self) -> None:
        target, at = self._links.pop()
        target = _target(target, LINK_CHARS[self._level])
        words = "".join(self._now[at:]).strip()
        if not target or at > len(self._now) or not words:
            return
        if words == target or target in words:
            return
        self._now[at:] = [f"[{words}]({target})"] if "\x1f" not in words else [words]

    def _in_cell(self) -> bool:
        return bool(self._rows is not None and self._now and self._now[0] == "\x1e")

    def _end_line(self) -> None:
        words = "".join(self._now)
        self._now = []
        line = words if self._pre else words.rstrip()
        if words.startswith("\x1e"):
            cells = [" ".join(cell.split()) for cell in line[1:].split("\x1f")]
            if self._rows is not None and len(cells) > 1:
                self._rows.append(cells)
                return
            line = " ".join(cells)
        if not line.strip() or line.strip() in ("-", "#"):
            return
        indent = (
            len(line) - len(line.lstrip()) if line.lstrip().startswith("- ") or self._pre else 0
        )
        line = line if self._pre else line[:indent] + " ".join(line.split())
        if self._rows is not None:
            self._rows.append([line])
        else:
            self._lines.append(line)

    def _end_table(self) -> None:
        rows, self._rows = self._rows or [], None
        lines = [" | ".join(row) for row in rows]
        if len(rows) > TABLE_ROWS and sum(map(len, lines)) > 3000 and len(rows[0]) > 1:
            shown, missing = cut_rows(rows[0], rows[1:], lines[1:], self._level)
            self.missing += missing
            lines = [lines[0], *shown]
        self._lines.extend(lines)


def _without_copies(lines: list[str]) -> list[str]:
    """`lines` with each long line that stood before replaced by a note."""
    seen: set[str] = set()
    out = []
    for line in lines:
        if len(line) >= 100 and line in seen:
            out.append(f"… again: {line[:30]} …")
        else:
            out.append(line)
            seen.add(line)
    return out


def _target(target: str, longest: int) -> str:
    """A link's target as far as it identifies something: no scripts, anchors or tracking."""
    target = target.strip()
    if (
        not target
        or target.startswith(("#", "javascript:", "data:"))
        or any(c.isspace() for c in target)
    ):
        return ""
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
