"""Web pages: the main text with its headings, lists, links, tables, prices, times and ids.

Scripts, styles, menus and attributes go, since they are most of a page and nothing an agent asked
for. What is kept of attributes is what cannot be had otherwise: link targets, alternative texts,
machine-readable times, values of form fields, and `data-*` attributes that name an id, a code, a
price or a time. The parser repairs and re-serialises the page; one pass over its tags follows,
so depth costs nothing.
"""

from __future__ import annotations

import re
from itertools import accumulate

from selectolax.lexbor import LexborHTMLParser

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import Encoder, decode_json, too_deep
from clawmw.stages.context.compress.page import PageWriter
from clawmw.stages.context.compress.prose import shorten
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Level,
    Reduced,
    count,
    marker,
    words,
)

__all__ = ["HtmlReducer"]

MAX_CHARS = 4_000_000
MAX_DEPTH = 3000
"""Elements that may be open at once: the parser's time grows with the square of that."""

FLOOR: dict[Level, int] = {"balanced": 500, "aggressive": 150}
"""Estimated tokens below which a page stays as it is: its source may be what was asked for."""

_PAGE = re.compile(r"<!doctype html|<html[\s>]|<head>|<body[\s>]", re.IGNORECASE)
_FRAGMENT = re.compile(
    r"</?(?:div|p|span|li|ul|td|tr|table|a|h[1-6]|section|article|br|img)\b[^<>]*>", re.IGNORECASE
)
_NESTING = re.compile(
    r"<(/?)(?!(?:br|img|input|hr|meta|link|source|wbr|col|area|p|li|td|th|tr|dt|dd|option)\b)[a-zA-Z]"
)
_DROP = (
    "script,style,noscript,noembed,noframes,xmp,plaintext,svg,template,iframe,object,canvas,nav,footer,"
    "[hidden],[aria-hidden=true],[role=navigation],[role=contentinfo]"
)
_MARK = "x-clawmw"
_MAIN = re.compile(r"<(main)(?=[\s>])")
_ARTICLE = re.compile(r"<(article)(?=[\s>])")
_NAME = re.compile(r"[^\s/>]+")
_ANY_TAG = re.compile(r"<[^>]*>")
_VOID = frozenset(words("link meta img input br hr source wbr col area embed"))
_RAW = frozenset(words("script style xmp iframe noembed noframes plaintext"))
_BOILERPLATE = (
    "[class~=nav],[class~=navbar],[class*=nav-],[class*=-nav],[class*=navigation],[id=nav],[class*=breadcrumb],"
    "[class*=cookie],[id*=cookie],[class~=footer],[id=footer],[class*=site-footer],[class*=social-share],"
    "[class*=share-buttons],[class*=advert],[style*='display:none'],[style*='display: none']"
)


class HtmlReducer:
    """A page, or a fragment that is mostly tags; a few lines before it (a status, headers) stay."""

    name = "html"
    version = 1

    def matches(self, text: str) -> bool:
        return len(text) <= MAX_CHARS and _looks_like_page(text) and _depth(text) <= MAX_DEPTH

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        if brief.level not in FLOOR or estimate(text) < FLOOR[brief.level]:
            return None
        start = _PAGE.search(text[:2000])
        before = text[: start.start()] if start else ""
        tree = LexborHTMLParser(_encodable(text[len(before) :]))
        writer = PageWriter(brief)
        shown = writer.text(_content(tree))
        if len(shown) < 200:
            shown = "\n".join([shown, *_data_scripts(tree)]).strip()
        said = ["page as text, markup, scripts and menus left out"]
        if writer.missing:
            said.append(f"{count(writer.missing, 'table row')} left out")
        if estimate(shown) > LOSSY_FLOOR[brief.level]:
            shown, dropped = shorten(shown, brief, writer.kept)
            if dropped:
                said.append(f"{count(dropped, 'sentence')} left out")
        return Reduced(f"{marker(brief.ref, ', '.join(said))}\n{before}{shown}", "html", False)


def _looks_like_page(text: str) -> bool:
    if _PAGE.search(text[:2000]):
        return True
    sample = text[:20_000].lstrip()
    if not sample.startswith("<") or sample.startswith("<?xml"):
        return False
    tags = _FRAGMENT.findall(sample)
    return len(tags) >= 20 and sum(map(len, tags)) > 0.15 * len(sample)


def _depth(text: str) -> int:
    """How many elements stand open at most, those that end by themselves left out."""
    steps = (-1 if closing else 1 for closing in _NESTING.findall(text))
    return max(accumulate(steps), default=0)


def _encodable(text: str) -> str:
    """`text` without lone surrogates, which the parser cannot take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _content(tree: LexborHTMLParser) -> str:
    """The main part of the page, re-serialised, without what is no content.

    Elements are marked and cut from the text, not removed from the tree, since a removed
    element's descendants may be among the others found.
    """
    for selector, mark in ((_BOILERPLATE, "soft"), (_DROP, "drop")):
        for node in tree.css(selector):
            node.attrs[_MARK] = mark
    title = tree.css_first("title")
    heading = (title.html if title is not None else None) or ""
    source = (tree.body.html if tree.body is not None else None) or ""
    source = _without(source, "drop")
    less = _without(source, "soft")
    if less is not source and _words_in(less) < 0.4 * _words_in(source):
        less = source
    mains = list(_MAIN.finditer(less)) or list(_ARTICLE.finditer(less))
    if len(mains) == 1:
        start = mains[0].start()
        main = less[start : _end_of(less, start, mains[0].group(1))]
        if _words_in(main) > 0.5 * _words_in(source):
            less = main
    return heading + less


def _without(source: str, mark: str) -> str:
    """`source` without the elements so marked."""
    needle = f' {_MARK}="{mark}"'
    kept = []
    at = 0
    while (found := source.find(needle, at)) >= 0:
        start = source.rfind("<", at, found)
        name = _NAME.match(source, start + 1)
        if start < 0 or name is None:
            break
        kept.append(source[at:start])
        at = _end_of(source, start, name.group())
    return "".join(kept) + source[at:] if kept else source


def _end_of(source: str, start: int, name: str) -> int:
    """Where the element that starts at `start` ends."""
    if name in _VOID:
        return source.find(">", start) + 1 or len(source)
    depth = 0
    for tag in re.compile(rf"<(/?){re.escape(name)}(?=[\s/>])").finditer(source, start):
        depth += -1 if tag.group(1) else name not in _RAW or not depth
        if not depth:
            return source.find(">", tag.start()) + 1 or len(source)
    return len(source)


def _words_in(source: str) -> int:
    return sum(map(len, _ANY_TAG.sub("", source).split()))


def _data_scripts(tree: LexborHTMLParser) -> list[str]:
    """What a page without text carries as data for its scripts: JSON of moderate size."""
    found = []
    for script in tree.css(
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
