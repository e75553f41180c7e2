"""Pages, logs, tables and prose: what must still be there, and what must not be touched."""

from __future__ import annotations

import pytest

from clawmw.stages.context.compress.base import Brief, Level, reduce
from clawmw.stages.context.compress.relevance import stems

REF = "r7k2m9q4xw"


def shown(text: str, level: Level = "balanced") -> str:
    reduced = reduce(text, Brief(level, REF))
    assert reduced is not None
    return reduced.text


def page(body: str, head: str = "") -> str:
    """A page large enough to be worth reducing."""
    filler = f"<script>{'var x = 1;' * 400}</script>"
    return f"<!doctype html><html><head>{head}{filler}</head><body>{body}</body></html>"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('<a href="/p/7?utm_source=x&id=9#top">Offer</a>', "[Offer](/p/7?id=9)"),
        ('<a href="javascript:void(0)">More</a>', "More"),
        ("<dl><dt>Price</dt><dd>12.50 EUR</dd></dl>", "Price: 12.50 EUR"),
        ("<ul><li>one<ul><li>two</li></ul></li></ul>", "- one\n  - two"),
        ("<table><tr><th>Line</th><th>To</th></tr><tr><td>11</td><td><b>Park</b></td></tr></table>",
         "Line | To\n11 | Park"),
        ('<div data-sku="A-9" data-anim="1">Lamp</div>', "[sku=A-9] Lamp"),
        ("<!-- the door code is 4711 -->", "<!-- the door code is 4711 -->"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("<span>45</span><span>min</span>", "45 min"),
        ('<input name="token" value="q7"><input type="hidden" value="h">', "[token=q7]"),
        ("<p>价格：&yen;399&nbsp;起</p>", "价格：¥399 起"),
    ],
)  # fmt: skip
def test_what_a_page_keeps(source: str, words: str) -> None:
    assert words in shown(page(f"<p>Start</p>{source}<p>End</p>"))


def test_menus_go_wherever_they_are_nested() -> None:
    menu = '<nav><svg><style>a{}</style></svg><div class="nav"><a href="/x">Jobs</a></div></nav>'
    text = shown(page(f"{menu}<p>Real words</p><footer>{menu}Imprint</footer>"))
    assert "Real words" in text
    assert "Jobs" not in text
    assert "Imprint" not in text


def test_a_page_that_calls_everything_navigation_is_kept() -> None:
    text = shown(page('<div class="nav-shell"><h1>Timetable</h1><p>First train 5:12</p></div>'))
    assert "First train 5:12" in text


def test_a_page_without_text_shows_its_data() -> None:
    rides = '{"rides":[{"id":"a","wait":5},{"id":"b","wait":7}]}'
    data = f'<script type="application/json">{rides}</script>'
    assert "[2 rows: id,wait\na,5\nb,7]" in shown(page('<div id="app"></div>', data))


def test_a_long_table_in_a_page_is_cut_by_rows() -> None:
    rows = "".join(
        f"<tr><td>R{i * 31}</td><td>Stop number {i} of the long line</td><td>{i % 7}</td>"
        f"<td>{'closed by flood' if i == 120 else 'runs'}</td></tr>"
        for i in range(200)
    )
    text = shown(
        page(f"<table><tr><th>id</th><th>stop</th><th>zone</th><th>state</th></tr>{rows}</table>")
    )
    assert "id | stop | zone | state" in text
    assert "R3720 | Stop number 120 of the long line | 1 | closed by flood" in text
    assert "R0 | Stop number 0 " in text
    assert "R2480 | " not in text
    assert ",state:runs}" in text


def test_small_pages_and_lossless_leave_the_source() -> None:
    small = "<html><body><p>Hello</p></body></html>"
    assert reduce(small, Brief("balanced", REF)) is None
    assert reduce(page("<p>Hello</p>"), Brief("lossless", REF)) is None


def test_one_bad_status_among_thousands_stays() -> None:
    lines = [
        f"10.0.{i % 250}.7 - - [08/May/2026:14:{i // 60 % 60:02d}:{i % 60:02d} +0000] "
        f'"GET /api/items/{i} HTTP/1.1" {502 if i == 1777 else 200} {900 + i % 80}'
        for i in range(3000)
    ]
    text = shown("\n".join(lines))
    assert lines[1777] in text
    assert lines[0] in text
    assert lines[-1] in text
    assert len(text.splitlines()) < 120
    hidden = 3000 - sum(line in set(text.splitlines()) for line in lines)
    assert f"log, {hidden:,} of 3,000 lines left out" in text


def test_a_field_that_is_a_time_in_some_lines_and_a_number_in_others() -> None:
    text = "\n".join([*(f"INFO step {n * 37} done" for n in range(200)), "INFO step 12:00:01 done"])
    assert "12:00:01" in shown(text)


def test_a_trace_stays_whole_once() -> None:
    trace = ["ERROR job crashed", "Traceback (most recent call last):", '  File "a.py", line 3']
    lines = []
    for i in range(400):
        lines.append(f"2026-05-08 10:00:{i % 60:02d} INFO step {i} done")
        if i in (150, 300):
            lines.extend([*trace, "ValueError: bad row"])
    text = shown("\n".join(lines))
    assert "\n".join([*trace, "ValueError: bad row"]) in text
    assert text.count("ValueError: bad row") == 2


SOURCES = (
    "def f(x):\n    return {\n        'a':   x,\n    }\n\n\n\n\nclass A:\n    pass\n" * 60,
    "".join(f"{n}:    value_{n} = compute({n})   # note\n" for n in range(400)),
)


@pytest.mark.parametrize("text", SOURCES)
def test_source_code_is_not_touched_where_nothing_may_be_hidden(text: str) -> None:
    assert reduce(text, Brief("lossless", REF)) is None


@pytest.mark.parametrize("text", SOURCES)
@pytest.mark.parametrize("level", ["balanced", "aggressive"])
def test_what_is_shown_of_source_code_is_exact(text: str, level: Level) -> None:
    lines = set(text.split("\n"))
    for line in shown(text, level).split("\n")[1:]:
        assert line in lines or line.strip().startswith("… ")


def test_prose_keeps_what_was_asked_for_and_the_names_of_the_rest() -> None:
    filler = "It was a quiet place and people liked to walk there when they had the time to do so. "
    text = "".join(
        f"The museum in hall {i} is open daily. {filler}{filler}Its curator is Maria Stern{i}. \n"
        for i in range(20)
    )
    asked = frozenset(stems("who is the curator of the museum in hall 17?"))
    reduced = reduce(text, Brief("balanced", REF, asked))
    assert reduced is not None
    assert "Its curator is Maria Stern17." in reduced.text
    assert sum(f"Maria Stern{i}" in reduced.text for i in range(20)) > 4
    assert "quiet place" not in reduced.text


def test_floor_and_margin() -> None:
    text = '{"a": 1, "b": "two"}'
    assert reduce(text, Brief("lossless", REF), floor=100) is None
    assert reduce(text, Brief("lossless", REF), margin=0.9) is None
    assert reduce(text, Brief("lossless", REF)) is not None
