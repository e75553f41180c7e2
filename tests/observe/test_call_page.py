"""The page of one call: what a reader sees, and that nothing said in a call can act on it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from clawmw.observe.page.render import call_page
from clawmw.observe.reading.calls import find_calls
from clawmw.observe.store.spanstore import SpanStore
from tests.observe.scene import Scene, scene


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SCENE_KEY", "scene-secret-0815")
    with scene(tmp_path_factory.mktemp("scene"), "local") as made:
        yield made
    patch.undo()


def page(seen: Scene, call: str) -> str:
    store = SpanStore.read(seen.store)
    (span,) = find_calls(store, seen.calls[call])
    made = call_page(store, time.time_ns(), span.trace_id, span.span_id)
    store.close()
    return made


class _Read(HTMLParser):
    """The tags of a page, and what is read of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_tells_what_happened_and_shows_asked_beside_sent(seen: Scene) -> None:
    read = _Read(page(seen, "third"))
    text = re.sub(r"\s+", " ", read.text)
    assert "What happened, in order" in text
    assert "asked anthropic/claude-sonnet-5-5 with 8 messages" in text
    assert "8 asked · 3 changed · 0 added" in text
    assert "tables put in a shorter form" in text
    assert '[{"id": "tkt_000000"' in text
    assert "[clawmw_expand " in text


def test_what_nothing_changed_is_folded_away(seen: Scene) -> None:
    assert "3 messages sent as asked (1 to 3)" in _Read(page(seen, "third")).text


def test_what_was_said_cannot_act_on_the_page(seen: Scene) -> None:
    for call in seen.calls:
        made = page(seen, call)
        assert "<script>alert" not in made
        assert "\x1b" not in made
        assert "\u202e" not in made
        scripts = [attributes.get("src") for tag, attributes in _Read(made).tags if tag == "script"]
        assert scripts == ["/static/script.js"], "ours, and none within the page"
        for _, attributes in _Read(made).tags:
            assert not [key for key in attributes if key.startswith("on") or key == "style"]
    assert "<script>alert('x')</script>" in _Read(page(seen, "first")).text


def test_secrets_are_not_on_it(seen: Scene) -> None:
    assert "scene-secret" not in "".join(page(seen, call) for call in seen.calls)


def test_a_stopped_call_has_its_page(seen: Scene) -> None:
    text = _Read(page(seen, "loop")).text
    assert "Nothing was sent to a model." in text
    assert "13 asked" in text


def test_there_is_no_page_of_what_is_no_call(seen: Scene) -> None:
    store = SpanStore.read(seen.store)
    assert call_page(store, time.time_ns(), "0" * 32, "1" * 16) == ""
    store.close()
