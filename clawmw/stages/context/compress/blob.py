"""Base64, hex dumps, data URIs, PEM blocks and binary in a text: said what, not shown.

A model cannot read them, whole or in part. In place of each stands what it is, its size, the
start of its SHA-256 (so that two can be told to be the same) and its first characters; the text
around them stays or is reduced by its own kind.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from hashlib import sha256

from clawmw.stages.context.compress.lines import sample
from clawmw.stages.context.compress.protocol import Brief, Reduced, count, marker

__all__ = ["BlobReducer"]

Within = Callable[[str, Brief], str | None]
"""Reduces the text around the blobs."""

LEAST = 400
"""Characters from which on a run counts as a blob."""

SHOWN = 24
"""Characters shown of its start."""

_PEM = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{3,40})-----\n(?:[\w+/=:, -]{0,200}\n){3,2000}"
    r"-----END [A-Z0-9 ]{3,40}-----"
)
_RUN = re.compile(
    rf"(?P<uri>data:[\w.+/;=-]{{0,100}},)?(?<![A-Za-z0-9+/_-])"
    rf"(?P<base>(?:[A-Za-z0-9+/_-]|\\/){{{LEAST},}}={{0,2}}"
    r"|(?:[A-Za-z0-9+/]{60,76}\n\s{0,8}){5,}[A-Za-z0-9+/]{0,76}={0,2})"
)
_DUMP = re.compile(
    r"(?:^[ \t]{0,4}(?:0x)?[0-9a-fA-F]{6,16}[:\s]{1,3}(?:[0-9a-fA-F]{2,8}[ \t]{1,3}){4,17}"
    r".{0,40}(?:\n"
    r"|$)){6,}",
    re.MULTILINE,
)
_DUMP_LINE = re.compile(
    r"[ \t]{0,4}(?:0x)?[0-9a-fA-F]{6,16}[:\s]{1,3}(?:[0-9a-fA-F]{2,8}[ \t]{1,3}){4}"
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f\ufffd]")
_HEX = re.compile(r"[0-9a-fA-F]+")
_KINDS = (
    (b"\x89PNG", "PNG image"), (b"\xff\xd8\xff", "JPEG image"), (b"GIF8", "GIF image"),
    (b"RIFF", "RIFF (WebP, WAV)"), (b"%PDF", "PDF"), (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"(\xb5/\xfd", "zstd"),
    (b"\x7fELF", "ELF program"), (b"MZ", "Windows program"), (b"ID3", "MP3"), (b"OggS", "Ogg"),
    (b"SQLite", "SQLite database"), (b"wOF", "web font"), (b"\x00asm", "WebAssembly"),
    (b"<svg", "SVG"), (b"<?xml", "XML"), (b"{", "JSON"), (b"<!", "HTML"),
)  # fmt: skip


class BlobReducer:
    """A text with a blob in it, or one that is binary."""

    name = "blob"
    version = 1

    def __init__(self, within: Within) -> None:
        self._within = within

    def matches(self, text: str) -> bool:
        if len(text) < LEAST:
            return False
        if _binary(text):
            return True
        if "-----BEGIN " in text or _search(text):
            return True
        return any(map(_DUMP_LINE.match, sample(text))) and bool(_DUMP.search(text[:100_000]))

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        if brief.level not in ("balanced", "aggressive"):
            return None
        found: list[str] = []

        def note(what: str, body: str) -> str:
            found.append(what)
            digest = sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            start = "".join(c for c in body[:SHOWN] if c.isprintable())
            return f"… {what}, {count(len(body), 'character')}, sha256 {digest}, begins {start} …"

        if _binary(text):
            shown = note(f"binary ({_magic(text.encode('latin-1', 'replace'))})", text)
        else:
            rest = _PEM.sub(lambda m: note(f"PEM {m['what'].lower()}", m[0]), text)
            rest = _DUMP.sub(lambda m: note("hex dump", m[0].rstrip("\n")) + "\n", rest)
            rest = _RUN.sub(lambda m: _run(m, note), rest)
            if not found:
                return None
            shown = self._within(rest, brief) or rest
        said = (
            f"{count(len(found), 'block')} of data left out ({', '.join(dict.fromkeys(found[:6]))})"
        )
        return Reduced(f"{marker(brief.ref, said)}\n{shown}", "blob", False)


def _binary(text: str) -> bool:
    sample = text[:4000]
    return len(_CONTROL.findall(sample)) > 0.1 * len(sample)


def _search(text: str) -> bool:
    """Whether a run that is a blob stands in the first megabyte."""
    words = text[:1_000_000].split()
    longest = max(map(len, words), default=0)
    if longest < LEAST:
        if longest < 60:
            return False
        packed = [59 < len(word) < 77 and "." not in word and word[0] != "/" for word in words]
        if not any(map(all, zip(packed, packed[1:], packed[2:], packed[3:], strict=False))):
            return False
    return any(_kind(match["base"]) for match in _RUN.finditer(text, 0, 1_000_000))


def _run(found: re.Match[str], note: Callable[[str, str], str]) -> str:
    kind = _kind(found["base"])
    if not kind:
        return found[0]
    uri = found["uri"]
    if uri:
        media = uri[5:-1].split(";")[0][:40] or "text"
        return note(f"data URI ({media})", found[0])
    return note(kind, found["base"])


def _kind(run: str) -> str:
    """What a run is; empty where it looks like words, a path or a repeated character."""
    start = run[:600]
    if len(set(start)) < 10:
        return ""
    if _HEX.fullmatch(start):
        return f"hex ({_magic(_decoded(start, 16))})"
    digits = sum(1 for c in start if c.isdigit())
    upper = sum(1 for c in start if c.isupper())
    lower = sum(1 for c in start if c.islower())
    if min(upper, lower) < 0.1 * len(start) or digits < 0.03 * len(start):
        return ""
    return f"base64 ({_magic(_decoded(start, 64))})"


def _decoded(start: str, base: int) -> bytes:
    try:
        if base == 16:
            return bytes.fromhex(start[:32])
        plain = start[:80].replace("\\/", "/").replace("\n", "").replace(" ", "")
        return binascii.a2b_base64(plain[:32].replace("-", "+").replace("_", "/"))
    except ValueError:
        return b""


def _magic(start: bytes) -> str:
    return next((kind for magic, kind in _KINDS if start.startswith(magic)), "unknown data")
