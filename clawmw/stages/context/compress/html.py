"""Web pages: the main text with its headings, lists, links, tables, prices, times and ids.

Scripts, styles, menus and attributes go, since they are most of a page and nothing an agent asked
for. What is kept of attributes is what cannot be had otherwise: link targets, alternative texts,
machine-readable times, values of form fields, and `data-*` attributes that name an id, a code, a
price or a time. The parser repairs and re-serialises the page; one pass over its tags follows,
so depth costs nothing.
"""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.notation import Encoder, decode_json, too_deep
from clawmw.stages.context.compress.page import PageWriter
from clawmw.stages.context.compress.prose import shorten
from clawmw.stages.context.compress.protocol import LOSSY_FLOOR, Level, Reduced, count, marker

__all__ = ["HtmlReducer"]

MAX_CHARS = 4_000_000
FLOOR: dict[Level, int] = {"balanced": 500, "aggressive": 150}
"""Estimated tokens below which a page stays as it is: its source may be what was asked for."""

_PAGE = re.compile(r"<!doctype html|<html[\s>]|<head>|<body[\s>]", re.IGNORECASE)
_FRAGMENT = re.compile(
    r"</?(?:div|p|span|li|ul|td|tr|table|a|h[1-6]|section|article|br|img)\b[^<>]*>", re.IGNORECASE
)
_DROP = (
    "script,style,noscript,noembed,noframes,xmp,plaintext,svg,template,iframe,object,canvas,nav,footer,head>link,head>meta,"
    "[hidden],[aria-hidden=true],[role=navigation],[role=contentinfo]"
)
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
        writer = PageWriter(level)
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
    """What a page without text carries as data for its scripts: JSON of moderate size."""
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
