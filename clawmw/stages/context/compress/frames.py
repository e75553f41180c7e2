"""Frames of stack traces in most languages: which lines they are, whose, and where they point.

Python, Java and other JVM languages, JavaScript, Go, Rust, C#, Ruby, PHP and gdb. A frame is a
library's by its path or package; those nearest to the error tell most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clawmw.stages.context.compress.protocol import count

__all__ = ["Places", "frames", "place", "ranked", "runs"]

NAMED = 12
"""Frames named in one note."""


_AT = re.compile(r"\s+at\s\S")
_RUBY = re.compile(r"\S{1,300}:\d+:in [`'\"][^`'\"]{1,200}['\"]$")
_FROM = re.compile(r"from \S{1,300}:\d+")
_HASH = re.compile(r"#\d+\s+(?:0x[0-9a-f]+ in |/|\[|[\w\\:<>]{1,200}[(.:-])")
_RUST = re.compile(r"\d+:\s+(?:0x[0-9a-f]+ - )?[\w<>:$&*\[\] {}#]{1,300}$")
_GO_PLACE = re.compile(r"/\S{1,300}\.go:\d+(?: \+0x[0-9a-f]+)?$")
_GO_CALL = re.compile(r"[\w./*()\[\]{}-]{3,300}\((?:0x[0-9a-f?, .{}x]*|\.\.\.|\{[^()]*|)\)$")
_MORE = re.compile(r"\.\.\. \d+ (?:more|common frames omitted)")
_LIBRARY = re.compile(
    r"site-packages|dist-packages|/lib/python\d|node_modules|\(node:|node:internal|\binternal/"
    r"|<frozen "
    r"|<anonymous>|/rustc/|\.cargo/registry|/gems/|/ruby/\d|/usr/(?:lib|local/go|include)"
    r"|/opt/[^/]+/lib/"
    r"|/go/(?:src|pkg/mod)/|\bruntime[./]|\bat (?:java|javax|jdk|sun|com\.sun|kotlin|kotlinx"
    r"|scala|akka"
    r"|groovy|reactor|org\.(?:springframework|apache|hibernate|junit|eclipse|jboss|gradle"
    r"|codehaus|mockito)"
    r"|io\.(?:netty|micrometer|reactivex|vertx|undertow)|com\.(?:google\.common|fasterxml|zaxxer"
    r"|mysql)"
    r"|System|Microsoft|MS\.Internal|Newtonsoft)\.|\bat (?:std|core|alloc|tokio)::"
    r"|\d+: +(?:0x\w+ - )?"
    r"<?(?:std|core|alloc|tokio|rust_begin)|/vendor/|\\Python\d+\\lib\\|\bnet/http\.|\btesting\."
    r"|wp-includes"
)
_PLACE = re.compile(
    r"([\w~@+$./\\-][^\s\"'():,]{0,160}\.[A-Za-z]\w{0,7})(?:\", line |:line |[:(])(\d{1,7})\b"
)
_NAMED = re.compile(r"(?:, in |:in [`'\"])([^\s'\"`]{1,120})")
_LEAD = re.compile(r"\s*(?:at |from |\d+:\s+|#\d+\s+)?(?:0x[0-9a-f]+ (?:in|-) )?(?:async |new )?")
_NAME = re.compile(r"[\w$.:<>~*]{2,160}")


def frames(lines: Sequence[str]) -> dict[int, int]:
    """Lines of frames, each with the line its frame starts at (source lines follow theirs)."""
    found: dict[int, int] = {}
    last = -1
    for index, line in enumerate(lines):
        head = line[:400]
        if not head or head.isspace():
            continue
        if _is_frame(head):
            two = head[0] in " \t" and ".go:" in head and last == index - 1
            if head[0] in " \t" and head.lstrip().startswith("at ") and index:
                above = lines[index - 1][:400].lstrip()
                if above[:1].isdigit() and _RUST.match(above):
                    # Its first line names no path where it is short, as `4: main` is.
                    found.setdefault(index - 1, index - 1)
                    last, two = index - 1, True
            found[index] = found[last] if two else index
            last = index
        elif (
            last >= 0
            and index - last <= 2
            and head.startswith("    ")
            and 'File "' in lines[found[last]]
        ):
            found[index] = found[last]
            last = index if head.strip(" ^~") == "" else last
    return found


def _is_frame(line: str) -> bool:
    """Whether a line names a place in a stack."""
    bare = line.lstrip()
    inner = len(bare) < len(line)
    first = bare[0]
    if first == "F":
        return bare.startswith('File "') and '", line ' in bare
    if first == "a" and inner and bare.startswith("at "):
        return bool(_AT.match(line))
    if first == "f" and inner and bare.startswith("from "):
        return bool(_FROM.match(bare))
    if first == "#":
        return bool(_HASH.match(bare))
    if first.isdigit() and inner:
        return "::" in bare and bool(_RUST.match(bare))
    if first == "/" and inner:
        return bool(_GO_PLACE.match(bare))
    if first == ".":
        return bool(_MORE.match(bare))
    if bare.startswith("created by "):
        return True
    if bare[-1] == ")" and not inner and "." in bare:
        return bool(_GO_CALL.match(bare))
    return ":in " in bare and bool(_RUBY.match(bare))


def runs(found: dict[int, int]) -> list[tuple[int, int]]:
    """Stretches of frames, one for each trace in a chain of causes."""
    out: list[tuple[int, int]] = []
    for index in sorted(found):
        if out and index == out[-1][1]:
            out[-1] = (out[-1][0], index + 1)
        else:
            out.append((index, index + 1))
    return out


def ranked(lines: Sequence[str], found: dict[int, int]) -> list[list[int]]:
    """The frames of one trace, each with its lines: the nearest to the error, then the caller's
    own from there on; where none is the caller's, the two at either end."""
    heads: dict[int, list[int]] = {}
    for index, head in found.items():
        heads.setdefault(head, []).append(index)
    order = list(heads)
    own = [h for h in order if not is_library(lines, heads[h])]
    # They come last in Python, first elsewhere.
    python = 'File "' in lines[order[0]]
    nearest = order[-1] if python else order[0]
    if not own:
        own = order[:2] + order[-2:] if len(order) > 4 else order
    rest = reversed(own) if python else own
    return [heads[head] for head in dict.fromkeys([nearest, *rest])]


def is_library(lines: Sequence[str], frame: Sequence[int]) -> bool:
    """Whether a frame is not the caller's own."""
    return any(_LIBRARY.search(lines[i][:400]) for i in frame)


def place(text: str) -> str:
    """`src/a.rs:250` of a line that says so in some form, or ""."""
    found = _PLACE.search(text[:400])
    return f"{found[1].removeprefix('./')}:{found[2]}" if found else ""


class Places:
    """What is said of frames that are not shown, each place once, as far as there is room."""

    def __init__(self, lines: Sequence[str], found: dict[int, int], left: float) -> None:
        self._lines = lines
        self._found = found
        self._left = left
        self._said: set[str] = set()

    def said(self, start: int, end: int) -> str:
        """`9 frames: src/a.rs:250 wrap_pump, src/b.rs:167 …`; "" where there is no frame."""
        total = sum(1 for i in range(start, end) if self._found.get(i) == i)
        if not total:
            return ""
        named: list[str] = []
        for note in _notes(self._lines, self._found, start, end):
            cost = 3 + 0.3 * len(note)
            if len(named) == NAMED or cost > self._left:
                break
            if note not in self._said:
                self._said.add(note)
                self._left -= cost
                named.append(note)
        return count(total, "frame") + ": " * bool(named) + ", ".join(named)


def _notes(lines: Sequence[str], found: dict[int, int], start: int, end: int) -> Iterator[str]:
    """`src/a.rs:250 wrap_pump` for each frame of the caller's own from `start` up to `end`."""
    for head in range(start, end):
        if found.get(head) != head:
            continue
        mine = [head]
        while found.get(mine[-1] + 1) == head:
            mine.append(mine[-1] + 1)
        if is_library(lines, mine):
            continue
        where = next((said for i in mine[:2] if (said := place(lines[i]))), "")
        if where:
            yield f"{where} {_name(lines[head][:400], where)}".rstrip()


def _name(line: str, where: str) -> str:
    """The function that a frame is in."""
    named = _NAMED.search(line)
    if named:
        return named[1]
    lead = _LEAD.match(line)
    found = _NAME.match(line, lead.end() if lead else 0)
    if not found or found[0].endswith(":") or where.startswith(found[0].removeprefix("./")):
        return ""
    parts = re.split(r"::|\.", found[0])
    return ("::" if "::" in found[0] else ".").join(parts[-2:])
