"""A research agent: searches, pages in nine languages, long prose, tables and links."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.long_runs.play import Arguments, Fact, Lead, Output
from benchmarks.long_runs.words import LANGUAGES, PLACES, PROSE, Words

__all__ = ["Web"]


class Web:
    """A web made up as one goes; a page stays what it was."""

    def __init__(self, words: Words) -> None:
        self.words = words
        dice = words.dice
        self.language = words.of(LANGUAGES) if dice.random() < 0.7 else "en"
        self.hosts = [f"{words.made_up()}.example" for _ in range(12)]
        self.pages: dict[str, Output] = {}
        self.shape = words.of(["json", "list", "markdown"])
        self.as_html = dice.random() < 0.6
        self.system = "You research questions on the web and write down what you find. " + " ".join(
            words.sentence() for _ in range(dice.randint(4, 30))
        )
        self.topic = words.of(PROSE[self.language]["things"])
        self.task = f"{self.topic}: {words.noun()}, {words.of(PLACES)}?"
        self.tools: dict[str, Callable[[Arguments], Output]] = {
            "web_search": self._search,
            "open_page": self._open,
            "find_in_page": self._find,
            "take_note": self._note,
        }

    def explore(self) -> tuple[str, Arguments]:
        """A search in the run's language."""
        things = PROSE[self.language]["things"]
        return "web_search", {"query": f"{self.words.of(things)} {self.words.of(things)}"}

    def _url(self) -> str:
        words = self.words
        slug = "-".join(words.noun() for _ in range(words.dice.randint(1, 3)))
        return f"https://{words.of(self.hosts)}/{words.noun()}/{slug}-{words.dice.randrange(9999)}"

    def _search(self, arguments: Arguments) -> Output:
        """Ten or so results, in one of three forms."""
        words, found, leads = self.words, [], []
        for rank in range(words.dice.randint(5, 25)):
            url, title = self._url(), words.sentence(self.language)[:70]
            found.append(
                {"rank": rank + 1, "title": title, "url": url, "date": words.date()}
                | {"snippet": words.paragraph(self.language, 3), "score": words.dice.random()}
            )
            leads.append(Lead("open_page", {"url": url}))
        if self.shape == "json":
            text = json.dumps({"results": found}, ensure_ascii=words.dice.random() < 0.2)
        elif self.shape == "list":
            text = "\n\n".join(f"{r['title']}\n{r['url']}\n{r['snippet']}" for r in found)
        else:
            text = "\n".join(
                f"{r['rank']}. [{r['title']}]({r['url']}): {r['snippet']}" for r in found
            )
        return Output(text, leads)

    def _open(self, arguments: Arguments) -> Output:
        """A page: an article with tables and links, as HTML or as text."""
        url = str(arguments["url"])
        if url not in self.pages:
            self.pages[url] = self._page(self.words.size(150, 2500, 40_000))
        return self.pages[url]

    def _page(self, size: int) -> Output:
        words, dice = self.words, self.words.dice
        html, blocks, leads, facts = self.as_html, [], [], []
        length = 0
        while length < size * 3:
            draw = dice.random()
            if draw < 0.12:
                block, some = self._table()
                facts += some
                leads += [
                    Lead("take_note", {"text": f.answer}, 2.0, f"Note this, please. {f.question}")
                    for f in some
                ]
            elif draw < 0.35:
                url, text = self._url(), words.sentence(self.language)
                leads.append(Lead("open_page", {"url": url}, 2.0))
                where = words.made_up()
                block = f"<p>{text} <a href='{url}'>{where}</a></p>" if html else f"{text} ({url})"
            else:
                text = words.paragraph(self.language)
                name = words.made_up().title() + words.made_up()
                text += f" ({name})"
                leads.append(Lead("find_in_page", {"text": name}))
                block = f"<p class='{words.noun()}'>{text}</p>" if html else text
                if dice.random() < 0.2:
                    head = words.sentence(self.language)[:40]
                    block = f"<h2>{head}</h2>\n{block}" if html else f"## {head}\n\n{block}"
            blocks.append(block)
            length += len(block) * (3 if self.language in ("zh", "ja") else 1)
        body = ("\n" if html else "\n\n").join(blocks)
        return Output(self._dressed(body) if html else body, leads, facts)

    def _table(self) -> tuple[str, list[Fact]]:
        """Places and figures, and questions about them."""
        words, facts, rows = self.words, [], []
        what = f"{words.noun()} {words.noun()}"
        year = words.dice.randrange(1900, 2026)
        for place in words.some(PLACES, 24):
            figure = f"{words.dice.randrange(10**3, 10**7):,}"
            facts.append(Fact(f"What was the {what} of {place} in {year}?", figure))
            rows.append((place, figure, f"{words.dice.uniform(0, 40):.2f}%"))
        heads = ("place", f"{what} {year}", "change")
        if self.as_html:
            cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>\n" for r in rows)
            head = "".join(f"<th>{h}</th>" for h in heads)
            return f"<table class='wide'><tr>{head}</tr>\n{cells}</table>", facts
        lines = [" | ".join(r) for r in (heads, ("---",) * 3, *rows)]
        return "\n".join(f"| {line} |" for line in lines), facts

    def _dressed(self, body: str) -> str:
        """The page around an article: head, scripts, menus, footer."""
        words, dice = self.words, self.words.dice
        menu = "".join(
            f'<li class="m-{n}"><a href="/{words.noun()}/{words.noun()}">{words.noun()}</a></li>'
            for n in range(dice.randint(8, 70))
        )
        script = ";".join(
            f"var {words.made_up()}={dice.randrange(999)}" for _ in range(dice.randint(5, 200))
        )
        style = "".join(f".{words.noun()}-{n}{{margin:{n}px}}" for n in range(dice.randint(5, 150)))
        title = words.sentence(self.language)[:60]
        return (
            f'<!doctype html><html lang="{self.language}"><head><title>{title}</title>'
            f"<style>{style}</style><script>{script}</script></head><body><nav><ul>{menu}</ul></nav>"
            f"<main><article><h1>{title}</h1>\n{body}</article></main>"
            f"<footer><ul>{menu[: len(menu) // 3]}</ul>© {words.made_up()}</footer></body></html>"
        )

    def _find(self, arguments: Arguments) -> Output:
        """The places where a text stands."""
        text, words = str(arguments["text"]), self.words
        hits = [
            f"…{words.sentence(self.language)} {text}: {words.sentence(self.language)}…"
            for _ in range(words.dice.randint(1, 6))
        ]
        return Output("\n".join(hits))

    def _note(self, arguments: Arguments) -> Output:
        return Output('{"saved": true}')
