"""The emulated provider's prompt cache: what a call reads and writes under each style."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.tokens import estimate
from clawmw.core.types import Usage
from clawmw.emulator.bill import PrefixCache, input_tokens, marks
from clawmw.providers.load import profile_for

PROSE = "The quick brown fox jumps over the lazy dog, and then it does so again. "
MARK = {"type": "ephemeral"}


def text(tokens: int, seed: str = "") -> str:
    """The shortest beginning of the prose that is that many tokens."""
    whole = seed + PROSE * (tokens // 10 + 1)
    sizes = range(len(whole) + 1)
    return whole[: bisect_left(sizes, tokens, key=lambda size: estimate(whole[:size]))]


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def marked(tokens: int, seed: str = "") -> list[dict[str, Any]]:
    return [{"type": "text", "text": text(tokens, seed), "cache_control": MARK}]


class Provider:
    """One provider with a clock in hand."""

    def __init__(self, model: str) -> None:
        self.profile = profile_for(model)
        self.cache = PrefixCache()
        self.now = 0.0

    def call(self, *messages: Mapping[str, Any], tenant: str = "a", **fields: Any) -> Usage:
        body = {"model": "m", "messages": list(messages), **fields}
        return self.cache.bill(body, self.profile, tenant=tenant, now=self.now, output=1)


def test_first_call_misses_and_the_next_reads_the_prefix_in_whole_steps() -> None:
    openai = Provider("gpt-5.4")
    system, first = say("system", text(3000)), say("user", text(500, "one "))
    assert openai.call(system, first).cache_read_tokens == 0
    again = openai.call(system, first, say("assistant", "ok"), say("user", "go on"))
    common = input_tokens({"messages": [system, first]})
    assert common > 3500
    assert again.cache_read_tokens == common - common % 128
    assert again.cache_write_tokens == 0


def test_below_the_minimum_nothing_is_cached() -> None:
    openai = Provider("gpt-5.4")
    short = say("system", text(900))
    openai.call(short)
    assert openai.call(short).cache_read_tokens == 0


def test_an_edit_in_the_middle_of_a_message_keeps_only_what_stands_before_it() -> None:
    deepseek = Provider("deepseek-v4-flash")
    deepseek.call(say("system", text(4000)), say("user", "x"))
    edited = text(2000) + "EDIT" + text(4000)[len(text(2000)) :]
    read = deepseek.call(say("system", edited), say("user", "x")).cache_read_tokens
    assert read is not None
    assert 1800 <= read <= 2000


def test_entries_expire_after_their_ttl_and_a_hit_renews_them() -> None:
    openai = Provider("gpt-5.4")
    system = say("system", text(3000))
    openai.call(system)
    openai.now = 299
    assert openai.call(system).cache_read_tokens
    openai.now = 299 + 299
    assert openai.call(system).cache_read_tokens
    openai.now = 299 + 299 + 301
    assert openai.call(system).cache_read_tokens == 0


def test_marks_without_a_mark_nothing_is_read_or_written() -> None:
    claude = Provider("claude-sonnet-5-5")
    system = say("system", text(5000))
    claude.call(system)
    usage = claude.call(system)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (0, 0)


def test_marks_cache_up_to_the_last_mark_only() -> None:
    claude = Provider("claude-sonnet-5-5")
    system, user = say("system", marked(5000)), say("user", text(1000))
    first = claude.call(system, user)
    assert first.cache_read_tokens == 0
    assert first.cache_write_tokens == input_tokens({"messages": [system]}) > 5000
    second = claude.call(system, user, say("assistant", "ok"), say("user", "next"))
    assert second.cache_read_tokens == first.cache_write_tokens
    assert second.cache_write_tokens == 0


def test_a_mark_that_moves_forward_reads_the_old_one_and_writes_the_difference() -> None:
    claude = Provider("claude-sonnet-5-5")
    first = claude.call(say("system", marked(5000)), say("user", marked(1000)))
    second = claude.call(
        say("system", marked(5000)),
        say("user", text(1000)),
        say("assistant", "ok"),
        say("user", marked(700)),
    )
    assert second.cache_read_tokens == first.cache_write_tokens == first.input_tokens
    assert second.input_tokens is not None
    assert first.input_tokens is not None
    assert second.cache_write_tokens == second.input_tokens - first.input_tokens > 700


def test_a_mark_looks_back_twenty_blocks_and_no_further() -> None:
    for turns, hit in ((18, True), (24, False)):
        claude = Provider("claude-sonnet-5-5")
        head = [say("system", text(3000)), say("user", marked(1000))]
        claude.call(*head)
        plain = [head[0], say("user", text(1000))]
        filler = [say("assistant" if i % 2 == 0 else "user", f"turn {i}") for i in range(turns)]
        read = claude.call(*plain, *filler, say("user", marked(100))).cache_read_tokens
        assert bool(read) is hit, turns


def test_breakpoints_match_whole_earlier_prompts_and_bill_writes() -> None:
    openai = Provider("gpt-5.6")
    system, user = say("system", text(3000)), say("user", text(500))
    first = openai.call(system, user)
    assert first.cache_write_tokens == first.input_tokens
    second = openai.call(system, user, say("assistant", "ok"), say("user", text(200)))
    assert second.cache_read_tokens == first.input_tokens
    assert second.cache_write_tokens == second.input_tokens - first.input_tokens  # type: ignore[operator]
    # No fallback to a shorter unmarked prefix: another question after the same system misses.
    assert openai.call(system, say("user", "something else")).cache_read_tokens == 0


def test_caches_are_apart_by_tenant_and_by_prompt_cache_key() -> None:
    openai = Provider("gpt-5.4")
    system = say("system", text(3000))
    openai.call(system, prompt_cache_key="k")
    assert openai.call(system, prompt_cache_key="k", tenant="b").cache_read_tokens == 0
    assert openai.call(system, prompt_cache_key="other").cache_read_tokens == 0
    assert openai.call(system, prompt_cache_key="k").cache_read_tokens


def test_changing_a_tool_misses_everything() -> None:
    openai = Provider("gpt-5.4")
    system = say("system", text(3000))
    tool = {"type": "function", "function": {"name": "f", "description": "one"}}
    other = {"type": "function", "function": {"name": "f", "description": "two"}}
    openai.call(system, tools=[tool])
    assert openai.call(system, tools=[tool]).cache_read_tokens
    assert openai.call(system, tools=[other]).cache_read_tokens == 0


def test_marks_and_the_form_of_a_single_text_do_not_count_as_content() -> None:
    qwen = Provider("qwen3.8-max")
    qwen.call(say("system", text(3000)))
    again = qwen.call(say("system", marked(3000)))
    assert again.cache_read_tokens == again.input_tokens


def test_marks_are_counted_on_blocks_tools_and_messages() -> None:
    tool = {"type": "function", "function": {"name": "f"}, "cache_control": MARK}
    body = {
        "tools": [tool],
        "messages": [
            say("system", marked(5)),
            {**say("user", "hi"), "cache_control": MARK},
        ],
    }
    assert marks(body) == 3


words = st.text(alphabet="abc d\n价", max_size=300)
histories = st.lists(
    st.builds(say, st.sampled_from(["system", "user", "assistant"]), words),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50)
@given(
    history=histories,
    more=histories,
    model=st.sampled_from(["gpt-5.4", "gpt-5.6", "claude-sonnet-5-5", "deepseek", "local"]),
)
def test_usage_adds_up_under_every_provider(
    history: list[dict[str, Any]], more: list[dict[str, Any]], model: str
) -> None:
    provider = Provider(model)
    for messages in (history, history + more):
        usage = provider.call(*messages)
        read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        assert usage.input_tokens == input_tokens({"messages": messages})
        assert read >= 0
        assert written >= 0
        assert read + written <= usage.input_tokens
    if model == "local":
        common = input_tokens({"messages": history})
        assert (provider.call(*history).cache_read_tokens or 0) >= common - 16 or common < 16
