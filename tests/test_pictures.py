"""The pictures of the README, made of the demo's own runs: real runtime, emulated models.

`make pictures` writes them to docs/pictures; by itself the test only sees that they can be made.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from clawmw.adapters.ui import Ui
from clawmw.adapters.ui_server import UiServed
from clawmw.demo.play import Scene
from clawmw.demo.played import RUNGS
from clawmw.observe.page.watched import Watched
from clawmw.observe.reading.chains import chains, find, spans
from clawmw.observe.store.spanstore import SpanStore
from clawmw.observe.terminal.render import render_chains, render_trace
from clawmw.policy.models import Policy
from clawmw.providers.load import profile_for
from tests.adapters.test_ui import no_books
from tests.browser import Browser, needs_chromium
from tests.pngs import smaller

pytestmark = pytest.mark.external

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
MOST = 200_000
"""Bytes of one picture."""
MODELS = ("anthropic/claude-sonnet-5-5", "openai/gpt-5.6", "deepseek/deepseek-v4-flash")
WANTED = bool(os.environ.get("CLAWMW_PICTURES"))  # tests themselves see no such variable
RUNS = ("3f9a1c", "b07e42", "5d81f6")


def keep(name: str, content: bytes) -> None:
    """Write a picture, if that was asked for."""
    assert 2_000 < len(content) < MOST, (name, len(content))
    if WANTED:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_bytes(content)


@dataclass(frozen=True)
class Played:
    """A store of the demo's runs, and one of them to look into."""

    path: Path
    chain: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo's task on three providers, three times; once a budget stops it."""
    path = tmp_path_factory.mktemp("pictures") / "traces.sqlite"
    scene, whole = Scene(path), next(rung for rung in RUNGS if rung.name == "all")
    for run in RUNS:
        scene._run_id = run
        for model in MODELS:
            if (run, model) == (RUNS[1], MODELS[1]):
                scene.policy, policy = narrow(scene.policy), scene.policy
                scene.play(profile_for(model), whole)
                scene.policy = policy
            else:
                assert not scene.play(profile_for(model), whole).trouble
    return Played(path, scene.chain(profile_for(MODELS[0])))


def narrow(policy: Policy) -> Policy:
    """The same policy with a budget of six calls a chain."""
    budget = policy.stages["budget"]
    chain = budget.chain.model_copy(update={"calls": 6})  # type: ignore[attr-defined]
    stages = dict(policy.stages) | {"budget": budget.model_copy(update={"chain": chain})}
    return policy.model_copy(update={"stages": stages})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@needs_chromium
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_pages_are_photographed(played: Played, browser: Browser, dark: bool) -> None:
    store = SpanStore.read(played.path)
    (chain,) = find(store, played.chain)
    calls = [span for span in spans(store, chain.trace_id) if span.op == "chat"]
    call = max(calls, key=lambda span: (span.raw_tokens or 0) - (span.sent_tokens or 0))
    store.close()
    seen, look = Watched(played.path), "dark" if dark else "light"
    with UiServed(Ui(seen, no_books)) as served:
        page = f"{served.url}chain/{chain.trace_id}"
        for name, url, height in (
            ("chains", served.url, 980),
            ("chain", page, 1120),
            ("call", f"{page}/call/{call.span_id}", 1020),
        ):
            tab = browser.open(url, width=1180, height=height, dark=dark)
            keep(f"{name}-{look}.png", smaller(tab.picture()))
    seen.close()


def test_the_terminal_is_drawn(played: Played) -> None:
    store = SpanStore.read(played.path)
    listed = chains(store, limit=9)
    (chain,) = find(store, played.chain)
    rows = spans(store, chain.trace_id)
    store.close()
    table, tree = terminal(), terminal()
    render_chains(listed, table)
    render_trace(chain, rows, tree)
    keep("traces.svg", drawn(table, "clawmw traces"))
    keep("trace.svg", drawn(tree, "clawmw traces show --latest"))


def terminal() -> Console:
    return Console(
        record=True,
        width=112,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )


def drawn(console: Console, title: str) -> bytes:
    """What a terminal shows, as SVG that needs nothing from elsewhere."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    alone = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    alone = alone.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono")
    name = re.sub(r"\W+", "-", title)
    picture = console.export_svg(title=title, code_format=alone, unique_id=name)
    assert "url(http" not in picture
    assert "http" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", picture, flags=re.DOTALL)
    return picture.encode()
