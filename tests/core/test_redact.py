"""Configured secrets: found in every form, replaced in what is sent and in what is kept."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmw.core.identity import Identity
from clawmw.core.redact import SHORTEST, Redactor

SECRET = 'sk-9f/8+"ä\\k~ 27bQ'
secrets = st.text(st.characters(codec="utf-8"), min_size=SHORTEST, max_size=40)


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda s: json.dumps({"key": s}),
    "json, not ascii": lambda s: json.dumps({"key": s}, ensure_ascii=False),
    "json in json": lambda s: json.dumps({"arguments": json.dumps({"key": s})}),
    "percent-encoded": lambda s: f"?key={quote(s, safe='')}",
    "percent-encoded, lower": lambda s: re.sub("%..", lambda m: m[0].lower(), quote(s, safe="")),
    "form": lambda s: quote_plus(f"a b={s}"),
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_replaced(form: Callable[[str], str]) -> None:
    clean = Redactor({"KEY": SECRET}).text(form(SECRET))
    assert "[redacted:KEY]" in clean
    for piece in ("9f", "27bQ", SECRET.encode().hex()[6:]):
        assert piece not in clean


@given(st.binary(max_size=9), secrets, st.binary(max_size=9), st.booleans())
def test_base64_at_any_offset(before: bytes, secret: str, after: bytes, web: bool) -> None:
    encode = base64.urlsafe_b64encode if web else base64.b64encode
    text = encode(before + secret.encode() + after).decode()
    clean = Redactor({"KEY": secret}).text(text)
    assert "[redacted:KEY]" in clean
    kept = clean.replace("[redacted:KEY]", "").rstrip("=")
    # At most the characters that also hold what stood around it.
    assert len(kept) <= -(-len(before) * 8 // 6) + -(-len(after) * 8 // 6) + 4


@given(secrets, st.text(max_size=60))
def test_what_holds_no_secret_is_the_same_object(secret: str, text: str) -> None:
    redactor = Redactor({"KEY": secret})
    data = text.encode("utf-8", "surrogatepass")
    if redactor.data(data) == data:
        assert redactor.data(data) is data
        assert redactor.text(text) is text
    clean = redactor.data(data)
    assert redactor.data(clean) == clean or secret in "[redacted:KEY]"


def test_a_short_value_is_no_secret_and_longer_ones_come_first() -> None:
    assert not Redactor({"SHORT": "1234567"})
    both = Redactor({"INNER": "abcdefgh", "OUTER": "xabcdefghx"})
    assert both.text("xabcdefghx abcdefgh") == "[redacted:OUTER] [redacted:INNER]"
    assert both.marks(b"[redacted:OUTER] [redacted:OUTER]") == {"OUTER": 2}


def test_ids_are_names_in_traces_and_stores() -> None:
    redactor = Redactor({"KEY": "secret-value"})
    who = redactor.identity(Identity(session="s-secret-value", agent="a", hop=2))
    assert who == Identity(session="s-[redacted:KEY]", agent="a", hop=2)
    assert redactor.identity(who) is who


@pytest.mark.parametrize("unit", ["a", "ab", "sk-"])
def test_a_megabyte_takes_milliseconds(unit: str) -> None:
    redactor = Redactor({f"K{n}": unit * 12 + str(n) * 9 for n in range(10)})
    data = (unit * 10**6)[: 10**6].encode() + b"!"
    begin = time.perf_counter()
    assert redactor.data(data) is data
    assert time.perf_counter() - begin < 0.05
