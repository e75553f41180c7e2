"""How many tokens a text is, estimated.

Exact counts need each provider's tokenizer and milliseconds; on the path of every call an
estimate from four counts that C makes must do. Everything derived from it is marked
`estimated`; budgets are settled from the provider's `usage`.
"""

from __future__ import annotations

import string

__all__ = ["estimate"]

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_SPACES = b" \n\t\r"

# Tokens a character, by least squares of the relative error on 500 pieces of Python, JSON,
# HTML, package documentation and logs against the mean of cl100k and o200k (2026-11); over
# texts of each kind the sum is within 4 %, single pieces within 15 %.
_LETTER, _DIGIT, _SPACE, _OTHER = 0.23, 0.89, 0.118, 0.485
_WIDE = 0.77
"""Tokens a CJK or other three-byte character: cl100k 1.1, o200k 0.7, Qwen and DeepSeek 0.6."""


def estimate(text: str) -> int:
    """Estimated tokens of `text`; 0 only for the empty string.

    A character outside ASCII adds one byte (Latin, Greek, Cyrillic) or two (CJK and most
    others) to the UTF-8 length, so half the surplus stands for the number of wide ones.
    """
    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    total = len(data)
    # Each pass reads what the one before it left, so the commonest go first.
    rest = data.translate(None, _LETTERS)
    signs = rest.translate(None, _SPACES)
    others = len(signs.translate(None, _DIGITS))
    letters, spaces, digits = total - len(rest), len(rest) - len(signs), len(signs) - others
    wide = (total - len(text)) / 2
    other = total - letters - digits - spaces - 3 * wide
    tokens = _LETTER * letters + _DIGIT * digits + _SPACE * spaces + _OTHER * other + _WIDE * wide
    return int(tokens) + 1
