"""PNGs made small with nothing but the standard library: a palette of 256 colours, packed well."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

__all__ = ["smaller"]

_SIGN = b"\x89PNG\r\n\x1a\n"


def smaller(png: bytes) -> bytes:
    """The same picture; rare colours become the nearest of the 256 most frequent."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    size = {2: 3, 6: 4}[kind]
    assert depth == 8
    packed = b"".join(body for name, body in _chunks(png) if name == b"IDAT")
    flat = _unfiltered(zlib.decompress(packed), width * size, size)
    pixels = list(zip(*(flat[n::size] for n in range(3)), strict=True))
    counted = Counter(pixels)
    # Some colours of every part of the picture: the frequent, and then those far from them.
    palette = [colour for colour, _ in counted.most_common(208)]
    for colour, _ in counted.most_common(4000)[208:]:
        if len(palette) == 256:
            break
        if min(_far(colour, one) for one in palette) > 600:
            palette.append(colour)
    numbers = {colour: n for n, colour in enumerate(palette)}
    for colour in counted:
        if colour not in numbers:
            numbers[colour] = min(range(len(palette)), key=lambda n: _far(colour, palette[n]))
    drawn = bytes([numbers[pixel] for pixel in pixels])
    rows = b"".join(b"\0" + drawn[y * width : (y + 1) * width] for y in range(height))
    return _SIGN + b"".join(
        _chunk(name, body)
        for name, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", bytes([part for colour in palette for part in colour])),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )


def _far(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return 2 * red * red + 4 * green * green + 3 * blue * blue


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGN)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _unfiltered(data: bytes, stride: int, size: int) -> bytearray:
    """The bytes of the pixels, each line's filter undone (PNG specification, 9.2)."""
    found = bytearray()
    above = bytearray(stride)
    for start in range(0, len(data), stride + 1):
        kind, line = data[start], bytearray(data[start + 1 : start + 1 + stride])
        if kind == 1:
            for i in range(size, stride):
                line[i] = (line[i] + line[i - size]) & 255
        elif kind == 2:
            line = bytearray([(a + b) & 255 for a, b in zip(line, above, strict=True)])
        elif kind == 3:
            for i in range(stride):
                left = line[i - size] if i >= size else 0
                line[i] = (line[i] + (left + above[i]) // 2) & 255
        elif kind == 4:
            for i in range(stride):
                a, b = (line[i - size], above[i]) if i >= size else (0, above[i])
                c = above[i - size] if i >= size else 0
                p, q, r = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                line[i] = (line[i] + (a if p <= q and p <= r else b if q <= r else c)) & 255
        found += line
        above = line
    return found
