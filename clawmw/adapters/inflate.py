"""Compressed request bodies, within a cap and away from the event loop.

A few kilobytes can unfold to gigabytes: what comes out is counted in small steps and the
rest is never made. One encoding (RFC 9110, 8.4), whole, and nothing after its end.
"""

from __future__ import annotations

import zlib

from clawmw.errors import ClawmwError

__all__ = ["ENCODINGS", "BadEncoding", "TooLarge", "inflate"]

ENCODINGS = ("gzip", "deflate")
_BITS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_STEP = 65_536
"""Bytes taken in, and given out at most, in one step."""


class BadEncoding(ClawmwError):
    """The body is not what its encoding says."""


class TooLarge(ClawmwError):
    """The body unfolds to more than the cap."""


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its encoding, at most `limit` bytes.

    Raises `TooLarge` before more than that is made, and `BadEncoding` for what is damaged, cut
    off or followed by something else.
    """
    decoder, found, size = zlib.decompressobj(_BITS[encoding]), [], 0
    try:
        for at in range(0, len(body), _STEP):
            piece = body[at : at + _STEP]
            while piece:
                given = decoder.decompress(piece, _STEP)
                size += len(given)
                if size > limit:
                    raise TooLarge(f"it unfolds to more than {limit} bytes")
                found.append(given)
                if decoder.eof:
                    if decoder.unused_data or at + _STEP < len(body):
                        raise BadEncoding("something follows its end")
                    break
                piece = decoder.unconsumed_tail
    except zlib.error as error:
        raise BadEncoding("it is damaged") from error
    if not decoder.eof:
        raise BadEncoding("it is cut off")
    return b"".join(found)
