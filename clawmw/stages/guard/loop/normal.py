"""What makes two calls, two results or two errors the same, for a loop.

Left out is what differs though nothing has moved: ids made anew, clock times, durations,
process ids, the names of temporary files, colours. Kept is all that may be progress: counters,
percentages, dates, paths, line ranges, queries, the class of an error.

Every pattern begins with a character that few texts have much of, and is not tried on a text
without it: this runs on each new result.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

from clawmw.core.types import Json, ToolCall

__all__ = ["called", "digest", "failure", "ours", "plain", "signature", "words"]

_OURS = ("[clawmw]", "clawmw stopped this call")
"""How clawmw's own words begin, wherever they come back from."""
_EDGE = 1024
"""Characters at either end of a result in which what varies is left out: heads and footers have
it. What is between counts as it is, so that a long result costs little more than its hash."""
_HEAD = 240
"""Characters in which an error says what it is."""
_SHORT = 600
"""Characters of a result that may be nothing but an error."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_NUMBERS = re.compile(
    r"\d(?<![\w.].)(?:"
    r"\d{3}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"  # a moment
    r"|\d?:\d\d:\d\d(?:[.,]\d+)?(?: ?[AP]M)?"  # a clock
    r"|\d*\.\d+\s?(?:s|secs?|seconds?)(?!\w)|\d*(?:\.\d+)?\s?(?:ms|µs|us|ns)(?!\w)"
    r"|\d*\s?(?:s|secs?|seconds?|mins?|minutes?|hours?)\s(?:ago|elapsed|so far)(?!\w)"
    r"|(?<=1)[6-9]\d{8}(?:\d{3})?(?:\.\d+)?(?!\w)"  # seconds or milliseconds since 1970
    r"|(?<=0)x[0-9a-fA-F]{6,16}(?!\w))"
)
_DIGIT = re.compile(r"\d")
_UUID = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?!\w)"
)
_UUID_TAIL = re.compile(r"-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?!\w)")
_TOKEN = re.compile(r"_[0-9A-Za-z]{16,}(?!\w)")
_PROCESS = re.compile(r"\[\d+\](?=:)|(?<=pid )\d+")
_TEMPORARY = re.compile(r"/(?:tmp[._]?\w{6,12}(?!\w)|pytest-\d+(?!\w)|folders/\w\w/\w+/T/\w*)")
_KEYS = ("duration", "elapsed", "latency", "took", "uptime", "timestamp", "nonce", "pid")
_IDS = ("request", "trace", "span", "run", "message", "session", "call", "correlation", "event")
_VALUE = r"[\"']?\s?[:=]\s?)(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\])\"']+)"
_KEYED = re.compile(
    rf"(?i)((?:duration|elapsed|latency|took|uptime|timestamp|nonce|\bpid)\w*{_VALUE}"
)
_ASKED = re.compile(
    rf"(?i)((?:nonce|\btimestamp|(?:request|trace|span|correlation)[-_ ]?id){_VALUE}"
)
"""The same in arguments, where any other id or time says what is asked for."""
_NAMED = re.compile(rf"(?i)((?:{'|'.join(_IDS)})[-_ ]?id{_VALUE}")
"""A key that says itself that its value is of this moment."""

_FAILED = (
    "error", "exception", "traceback", "fail", "not found", "no such", "denied", "forbidden",
    "unauthori", "invalid", "unknown", "cannot", "can't", "could not", "couldn't", "unable",
    "refused", "timed out", "timeout", "does not exist", "doesn't exist", "not allowed",
    "not permitted", "not valid", "unexpected", "malformed", "wrong",
    "incorrect", "not available", "not recogni",
)  # fmt: skip
_NOTHING = re.compile(
    r"(?:\[\s*\]|\{\s*\}|null|none|n/?a|\(?(?:0|no|empty)\b[^\n]{0,60}"
    r"\b(?:rows?|results?|match(?:es)?|hits?|records?|items?|files?|entries|set|found)\b[^\n]{0,40})"
    r"\.?"
)
_NO_TOOL = re.compile(
    r"\b(?:unknown|no such|invalid|unsupported|unrecogni[sz]ed|nonexistent) (?:tool|function)\b"
    r"|\b(?:tool|function)\b.{0,80}\b(?:not found|does not exist|is not (?:a valid|available|"
    r"defined|registered)|not recogni[sz]ed)"
)
_ASKS = re.compile(r"(?i)nonce|timestamp|request|trace|span|correlation")
_OWN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`|[\w.~-]*(?:/[\w.~-]*)+|\b\w*\d\w*\b")
"""What an error says of this very call: names in quotes, paths, numbers."""
_WORD = re.compile(r"\w+")
_write = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def digest(text: str) -> str:
    """Twelve characters that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def ours(text: str) -> bool:
    """Whether clawmw said this: a refusal or a note that came back as somebody's words."""
    head = text[:_HEAD]
    return "clawmw" in head and any(mark in head for mark in _OURS)


def called(call: ToolCall) -> tuple[str, Json]:
    """The tool and its arguments, out of OpenClaw's `tool_call {"id": name, "args": {...}}`."""
    name = call.name
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = call.arguments.strip()
    if name == "tool_call" and isinstance(arguments, dict) and "id" in arguments:
        name, arguments = str(arguments["id"]), arguments.get("args", {})
    return name, arguments


def signature(call: ToolCall) -> str:
    """Digest of what is asked: the tool and its arguments; order and wrapping aside."""
    text = _write(called(call))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "/tmp" in text or "/folders/" in text:  # noqa: S108 - read, not used
        text = _TEMPORARY.sub("/#", text)
    return digest(_ASKED.sub(r"\1#", text) if _ASKS.search(text) else text)


def plain(text: str) -> str:
    """A text without what varies though nothing has moved."""
    if len(text) > 2 * _EDGE + 64:
        return plain(text[:_EDGE]) + text[_EDGE:-_EDGE] + plain(text[-_EDGE:])
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if _DIGIT.search(text) is not None:
        if _UUID_TAIL.search(text) is not None:
            text = _UUID.sub("#", text)
        text = _NUMBERS.sub("#", text)
        if "]:" in text or "pid " in text:
            text = _PROCESS.sub("#", text)
    if "_" in text:
        text = _TOKEN.sub("_#", text)
    if "/tmp" in text or "/pytest-" in text or "/folders/" in text:  # noqa: S108 - read, not used
        text = _TEMPORARY.sub("/#", text)
    if ":" in text or "=" in text:
        low = text.lower()
        if any(key in low for key in _KEYS):
            text = _KEYED.sub(r"\1#", text)
        if "id" in low and any(key in low for key in _IDS):
            text = _NAMED.sub(r"\1#", text)
    return text.strip()


def failure(text: str) -> str:
    """The class of an error: `x` and a digest; `u` an unknown tool, `n` nothing found, "" none.

    Two errors are of one class when they say the same of different names, paths and numbers.
    """
    head = text[:_HEAD].strip().lower()
    if not head:
        return ""
    if len(text) < _HEAD and head[0] in "[{n(0e" and _NOTHING.fullmatch(head):
        return "n"
    if head.startswith("traceback"):  # its last line says what it is
        head = text[-_HEAD:].strip().rpartition("\n")[2].lower()
    elif len(text) > _SHORT:  # a long text is about something else, but for its first line
        head = head.partition("\n")[0]
    if not any(sign in head for sign in _FAILED):
        return ""
    if _NO_TOOL.search(head) is not None:
        return "u"
    return "x" + digest(_OWN.sub("#", head))


def words(text: str) -> str:
    """Digest of what is said: words and figures alone, as anyone would write them."""
    return digest(" ".join(_WORD.findall(plain(text).casefold())) or text)
