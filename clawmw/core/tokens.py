"""How many tokens a text is, estimated.

Exact counts need each provider's tokenizer and milliseconds; on the path of every call an
estimate from two string lengths must do. It is calibrated per session against the
provider's `usage` (see `clawmw.core.account`), and everything derived from it is marked
`estimated`.
"""

from __future__ import annotations

__all__ = ["estimate"]

ASCII_PER_TOKEN = 3.6
"""Characters a token for ASCII agent traffic. cl100k on public agent runs (JSON, code,
prose mixed) gives 3.2 to 4.4."""

WIDE_PER_TOKEN = 1.3
"""Characters a token for CJK and other three-byte characters: cl100k 0.9, o200k 1.4,
Qwen and DeepSeek 1.6."""


def estimate(text: str) -> int:
    """Estimated tokens of `text`; 0 only for the empty string.

    One pass in C: a character outside ASCII adds one byte (Latin, Greek, Cyrillic) or two
    (CJK and most others) to the UTF-8 length, so half the surplus approximates the number
    of wide characters.
    """
    if not text:
        return 0
    length = len(text)
    if text.isascii():
        return int(length / ASCII_PER_TOKEN) + 1
    wide = (len(text.encode("utf-8", "surrogatepass")) - length) / 2
    return int(max(length - wide, 0) / ASCII_PER_TOKEN + wide / WIDE_PER_TOKEN) + 1
