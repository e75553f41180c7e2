"""Exact token counts, without a network.

tiktoken's encodings are read from the files litellm ships with its package (found, never
imported). Other providers' tokenizers differ by some percent, so the counts are exact for
the encoding named and a yardstick for the rest. Where the files are missing, counts fall
back to the estimate used on live calls, and say so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from clawmw.core.canon import canonical_json
from clawmw.core.tokens import estimate
from clawmw.core.types import Image, Message, Text, ToolCall, ToolResult, ToolSpec

__all__ = ["MESSAGE", "Counter"]

_ENCODINGS = ("o200k_base", "cl100k_base")
_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
MESSAGE = 4
"""Tokens of a message's frame, and of a tool call's (OpenAI's cookbook gives 3 to 4)."""
IMAGE = 765
"""An image of 1024 x 1024 at high detail (OpenAI's vision guide); no file says its size."""


class Counter:
    """Counts tokens, each distinct text once."""

    def __init__(self, *, exact: bool = True) -> None:
        self.tokenizer, self._count = _loaded() if exact else ("estimate", estimate)
        self._texts: dict[bytes, int] = {}
        self._tools: dict[str, int] = {}

    @property
    def basis(self) -> Literal["exact", "estimated"]:
        """Whether the counts are a tokenizer's or an estimate."""
        return "estimated" if self.tokenizer == "estimate" else "exact"

    def text(self, text: str) -> int:
        """Tokens of a text."""
        if len(text) < 32:
            return self._count(text)
        data = text.encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(data, digest_size=16).digest()
        known = self._texts.get(key)
        if known is None:
            known = self._texts[key] = self._count(text)
        return known

    def message(self, message: Message) -> int:
        """Tokens of a message: texts, calls and frames. Cache marks are not content."""
        total = MESSAGE
        for part in message.parts:
            match part:
                case Text(text) | ToolResult(_, text):
                    total += self.text(text)
                case ToolCall(_, name, arguments):
                    total += self.text(name) + self.text(arguments) + MESSAGE
                case Image():
                    total += IMAGE
                case _:
                    total += self.text(canonical_json(part.raw))
        return total

    def tool(self, tool: ToolSpec) -> int:
        """Tokens of a tool definition."""
        known = self._tools.get(tool.digest)
        if known is None:
            known = self._tools[tool.digest] = self._count(canonical_json(tool.raw))
        return known


def _loaded() -> tuple[str, Callable[[str], int]]:
    """The best encoding at hand, and its counting function."""
    folder = _folder()
    for name in _ENCODINGS:
        file = hashlib.sha1(_URL.format(name).encode(), usedforsecurity=False).hexdigest()
        # Where the file is missing, tiktoken would go and fetch it.
        count = _encoding(name, folder) if folder and (folder / file).is_file() else None
        if count is not None:
            return name, count
    return "estimate", estimate


def _encoding(name: str, folder: Path) -> Callable[[str], int] | None:
    """The counting function of an encoding whose file is in `folder`; None if it fails."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        import tiktoken

        encode = tiktoken.get_encoding(name).encode_ordinary
    except Exception:  # noqa: BLE001 - whatever it is, an estimate is at hand
        return None
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
    return lambda text: len(encode(text))


def _folder() -> Path | None:
    """Where litellm keeps tokenizers; importing it would take seconds."""
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
