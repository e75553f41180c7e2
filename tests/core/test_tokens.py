"""The estimate of tokens: near the truth, never negative, and quick."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.tokens import estimate
from tests.conftest import log, rows


@given(st.text(alphabet=st.characters()), st.text(max_size=20))
def test_it_is_positive_and_grows_with_the_text(text: str, more: str) -> None:
    assert (estimate(text) == 0) == (text == "")
    assert estimate(text + more) >= estimate(text) > -1


@pytest.mark.parametrize(
    "text",
    [
        rows(80),
        log(200),
        Path(__file__).read_text(),
        "上海迪士尼乐园周六的开放时间是早上八点半" * 20,
    ],
    ids=["json", "log", "python", "chinese"],
)
def test_it_is_near_what_tokenizers_say(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "litellm_core_utils" / "tokenizers"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
    import tiktoken

    counts = [len(tiktoken.get_encoding(n).encode(text)) for n in ("cl100k_base", "o200k_base")]
    assert 0.8 * min(counts) < estimate(text) < 1.2 * max(counts)


def test_a_megabyte_takes_milliseconds() -> None:
    text = log(20_000)
    took = []
    for _ in range(5):  # the least of several, so that noise is out
        start = time.thread_time()
        estimate(text)
        took.append(time.thread_time() - start)
    assert min(took) < 0.05
