"""Provider facts: complete, dated, and found under the names people write."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal

import pytest

from clawmw.core.money import NANO
from clawmw.providers import litellm_table
from clawmw.providers.load import families, load_profiles, profile_for

FAMILIES = {
    "openai", "anthropic", "gemini", "gemini-explicit", "deepseek", "qwen", "qwen-explicit",
    "kimi", "glm", "qianfan", "openrouter", "local",
}  # fmt: skip


def test_every_family_is_there_and_dated_with_its_sources() -> None:
    assert set(families()) == FAMILIES
    for profile in load_profiles().values():
        date.fromisoformat(profile.as_of)
        assert profile.sources
        if profile.price is not None:
            date.fromisoformat(profile.price.as_of)
            assert profile.price.source


def test_every_provider_people_ask_for_has_rules_of_its_own() -> None:
    for name in ("gpt-5.4", "gpt-5.6", "anthropic", "gemini", "gemini-explicit", "deepseek",
                 "qwen", "qwen-explicit", "kimi", "glm", "ernie-5.1", "openrouter", "vllm",
                 "sglang", "llama_cpp"):  # fmt: skip
        profile = profile_for(name)
        assert profile.family != "generic", name
        assert profile.cache.style != "none", name
        assert profile.sources, name


def test_lifetimes_and_what_they_cost_to_write() -> None:
    claude = profile_for("claude-sonnet-4-6")
    assert [(t.name, t.seconds, t.write) for t in claude.cache.ttls] == [
        ("5m", 300, 1.25),
        ("1h", 3600, 2.0),
    ]
    assert claude.price is not None
    hour = claude.writing(claude.cache.ttl("1h")).price
    assert hour is not None
    assert hour.cache_write == 2 * hour.input
    assert claude.writing(claude.cache.ttl("5m")) is claude
    assert claude.writing(claude.cache.ttl("9h")) is claude
    # what a default write costs is said twice, in the price and in the lifetime
    for profile in load_profiles().values():
        if profile.cache.ttls and profile.price:
            written = profile.price.input * profile.cache.ttls[0].write
            assert profile.price.cache_write == pytest.approx(written, abs=1), profile.name


def test_where_sources_disagree_the_data_say_so() -> None:
    told = {name: profile_for(name).cache.disputed for name in (
        "claude-sonnet-4-6", "claude-opus-4-7", "gemini-2.5-flash", "deepseek", "qwen", "kimi"
    )}  # fmt: skip
    assert all(told.values()), told
    for lines in told.values():
        assert all(": " in line and "(" in line for line in lines)
    assert profile_for("claude-haiku-4-5").cache.disputed == ()


def test_prices_are_sane() -> None:
    for name, profile in load_profiles().items():
        price = profile.price
        if price is None or profile.family == "local":
            continue
        assert 0 < price.cache_read <= price.input <= price.cache_write <= 2 * price.input, name
        assert price.input <= price.output, name
        if price.long is not None:
            assert price.long_from, name
            assert price.long.input > price.input, name


@pytest.mark.skipif(litellm_table.version() == "?", reason="litellm is not installed")
def test_listed_prices_agree_with_the_price_table() -> None:
    compared = 0
    for name, profile in load_profiles().items():
        family = profile.family
        entry = litellm_table.find(name, name.split("/")[-1])
        if family.endswith("-explicit") or family == "local" or entry is None:
            continue
        if entry.price is None or profile.price is None:
            continue
        got, want = profile.price, entry.price
        assert (got.input, got.output) == (want.input, want.output), name
        # Qwen: the table mixes explicit and implicit caching, or gives no cache price.
        if family != "qwen":
            assert (got.cache_read, got.cache_write) == (want.cache_read, want.cache_write), name
        compared += 1
    assert compared >= 30


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("anthropic/claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        ("claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        ("claude-sonnet-5-5-20261001", "anthropic/claude-sonnet-5-5"),
        ("openrouter/anthropic/claude-sonnet-5.5", "anthropic/claude-sonnet-5-5"),
        ("deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-flash"),
        ("openrouter/deepseek/deepseek-v4-flash", "deepseek/deepseek-v4-flash"),
        ("gpt-6-sol-2026-08-01", "openai/gpt-6-sol"),
        ("GPT-5.6", "openai/gpt-5.6"),
        ("qwen3.8-flash", "dashscope/qwen3.8-flash"),
        ("qwen-explicit/qwen3.8-flash", "qwen-explicit/qwen3.8-flash"),
        ("qwen3", "local/qwen3"),
        ("anthropic", "anthropic/claude-sonnet-5-5"),
        ("local", "local/vllm"),
    ],
)
def test_a_model_is_found_as_people_write_it(written: str, name: str) -> None:
    assert profile_for(written).name == name


@pytest.mark.parametrize(
    ("written", "family", "style"),
    [
        ("gpt-5.4", "openai", "automatic"),
        ("gpt-5.6", "openai", "breakpoints"),
        ("gpt-5.6-cyber", "openai", "breakpoints"),
        ("hosted_vllm/Qwen/Qwen3-32B", "local", "automatic"),
        ("ollama/llama3", "local", "automatic"),
        ("vertex_ai/claude-sonnet-5-5", "anthropic", "marks"),
        ("vertex_ai/gemini-3.8-flash", "gemini", "automatic"),
        ("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic", "marks"),
        ("openrouter/some/model", "openrouter", "automatic"),
        ("nobody/knows-this", "generic", "automatic"),
        ("", "generic", "automatic"),
    ],
)
def test_an_unlisted_model_gets_the_rules_of_its_family(
    written: str, family: str, style: str
) -> None:
    profile = profile_for(written)
    assert (profile.family, profile.cache.style) == (family, style)


def test_minimum_lengths_differ_by_model() -> None:
    assert profile_for("claude-sonnet-5-5").cache.min_tokens == 512
    assert profile_for("claude-haiku-4-5").cache.min_tokens == 4096
    assert profile_for("claude-sonnet-4-6").cache.min_tokens == 1024


def test_what_nobody_knows_has_no_price_and_says_its_rules_are_assumed() -> None:
    profile = profile_for("nobody/knows-this")
    assert profile.price is None
    assert "style" in profile.cache.assumed


def test_models_on_ones_own_machine_are_not_billed_per_token() -> None:
    price = profile_for("hosted_vllm/Qwen/Qwen3-32B").price
    assert price is not None
    assert price.input == price.output == 0


@pytest.mark.skipif(litellm_table.version() == "?", reason="litellm is not installed")
def test_a_price_we_do_not_list_comes_from_the_bundled_table_and_says_so() -> None:
    price = profile_for("gpt-4.1").price
    assert price is not None
    assert Decimal(price.input) / NANO == Decimal("0.000002")
    assert "litellm" in price.source
    assert price.cache_write == price.input


def test_reading_facts_and_the_table_imports_no_sdk() -> None:
    code = (
        "import sys; from clawmw.providers.load import profile_for;"
        "profile_for('gpt-4.1'); profile_for('anthropic');"
        "print([m for m in ('litellm', 'openai', 'anthropic') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
