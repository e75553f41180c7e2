"""Stack traces: message and causes verbatim, the caller's own frames, libraries counted.

Python, Java and other JVM languages, JavaScript, Go, Rust, C#, Ruby, PHP and gdb, alone or
inside a program's output. A frame is a library's by its path or package; of those only the one
nearest to the error stays, and what was sought. Lines that are no frames stay, but for long
output around the traces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.lines import Picker, hits, render, sample
from clawmw.stages.context.compress.protocol import (
    LOSSY_FLOOR,
    Brief,
    Reduced,
    count,
    failures,
    marker,
    room,
)
from clawmw.stages.context.compress.squeeze import plain

__all__ = ["TraceReducer", "frames"]

OWN = 24
"""Frames of the caller's own code shown of one trace."""

SURE = 5
"""Frames of a trace shown whatever room there is."""

TRACES = 12
"""Traces shown; of others, and of those alike but for numbers, the message if there is room."""

FRAMES = 60
"""Lines of a trace that tell it from another."""

MESSAGE = 6
"""Lines of a message next to its trace."""

_DIGITS = re.compile(r"\d+|0x[0-9a-f]+")
_AT = re.compile(r"\s+at\s\S")
_RUBY = re.compile(r"\S{1,300}:\d+:in [`'\"][^`'\"]{1,200}['\"]$")
_FROM = re.compile(r"from \S{1,300}:\d+")
_HASH = re.compile(r"#\d+\s+(?:0x[0-9a-f]+ in |/|\[|[\w\\:<>]{1,200}[(.:-])")
_RUST = re.compile(r"\d+:\s+(?:0x[0-9a-f]+ - )?[\w<>:$&*\[\] {}#]{1,300}$")
_GO_PLACE = re.compile(r"/\S{1,300}\.go:\d+(?: \+0x[0-9a-f]+)?$")
_GO_CALL = re.compile(r"[\w./*()\[\]{}-]{3,300}\((?:0x[0-9a-f?, .{}x]*|\.\.\.|\{[^()]*|)\)$")
_MORE = re.compile(r"\.\.\. \d+ (?:more|common frames omitted)")
_HEAD = re.compile(
    r"\s*(?:Traceback \(most recent call last\)|(?:Exception in thread|Caused by:|panic:"
    r"|goroutine \d+ \[)"
    r"|thread '.*' panicked|stack backtrace:|Unhandled (?:exception|rejection)|Uncaught )"
)
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


class TraceReducer:
    """A text of which at least a quarter is frames."""

    name = "trace"
    version = 1

    def matches(self, text: str) -> bool:
        lines = sample(text)
        found = frames(lines)
        headed = any(_HEAD.match(line[:200]) for line in lines)
        return len(found) >= (4 if headed else 6) and len(found) >= 0.25 * len(lines)

    def reduce(self, text: str, brief: Brief) -> Reduced | None:
        text = plain(text)
        whole = Reduced(text, "trace", True)
        tokens = estimate(text)
        if brief.level not in LOSSY_FLOOR or tokens < LOSSY_FLOOR[brief.level]:
            return whole
        lines = text.split("\n")
        found = frames(lines)
        picker = Picker(lines, 1.5 * room(tokens, brief.level))
        scores = hits(lines, brief.sought)
        seen: set[str] = set()
        for start, end in _runs(found):
            message = _message(lines, start, end, found)
            shape = _DIGITS.sub("#", "\n".join(lines[start:end][:FRAMES]))
            if shape in seen or len(seen) >= TRACES:
                picker.take([i for i in message if lines[i] not in seen])
                seen.update(lines[i] for i in message)
                continue
            seen.add(shape)
            seen.update(lines[i] for i in message)
            _pick_frames(picker, lines, {i: found[i] for i in range(start, end)}, scores)
            for at in message:
                picker.take([at], anyway=True)
        others = [i for i in range(len(lines)) if i not in found]
        _pick_others(picker, lines, others, scores)
        if len(picker.kept) > 0.9 * len(lines):
            return whole

        def gap(start: int, end: int) -> str:
            hidden = sum(1 for i in range(start, end) if found.get(i) == i)
            lead = lines[start][: len(lines[start]) - len(lines[start].lstrip())][:12]
            rest = sum(1 for i in range(start, end) if i not in found)
            said = [count(hidden, "frame")] if hidden else []
            said += [count(rest, "line")] if rest else []
            return f"{lead}… {', '.join(said) or count(end - start, 'line')} …"

        hidden = count(len(lines) - len(picker.kept), "line")
        said = f"stack trace, {hidden} of {len(lines):,} left out, libraries' frames first"
        return Reduced(
            f"{marker(brief.ref, said)}\n{render(lines, picker.kept, gap)}", "trace", False
        )


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
            two = two or (
                head.lstrip().startswith("at ") and last == index - 1 and _rust(lines[last])
            )
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


def _rust(line: str) -> bool:
    return bool(re.match(r"\s*\d+:\s", line[:40]))


def _runs(found: dict[int, int]) -> list[tuple[int, int]]:
    """Stretches of frames, one for each trace in a chain of causes."""
    runs: list[tuple[int, int]] = []
    for index in sorted(found):
        if runs and index == runs[-1][1]:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _pick_frames(
    picker: Picker, lines: Sequence[str], found: dict[int, int], scores: Sequence[float]
) -> None:
    """Keep the telling frames of one trace."""
    heads: dict[int, list[int]] = {}
    for index, head in found.items():
        heads.setdefault(head, []).append(index)
    order = list(heads)
    own = [h for h in order if not any(_LIBRARY.search(lines[i][:400]) for i in heads[h])]
    python = 'File "' in lines[order[0]]
    nearest = order[-1] if python else order[0]
    if not own:
        own = order[:2] + order[-2:] if len(order) > 4 else order
    # The nearest to the error tell most: they come last in Python, first elsewhere.
    ranked = list(reversed(own)) if python else own
    wanted = [nearest, *sorted(ranked[:OWN], key=lambda h: -scores[h])]
    for rank, head in enumerate(wanted):
        picker.take(heads[head], anyway=rank < SURE)


def _message(lines: Sequence[str], start: int, end: int, found: dict[int, int]) -> list[int]:
    """The lines next to a trace that say what happened, up to an empty one."""
    said: list[int] = []
    python = 'File "' in lines[start]
    for at in range(end, min(end + (MESSAGE if python else 1), len(lines))):
        if not lines[at].strip() or at in found:
            break
        said.append(at)
    for at in range(start - 1, max(start - (2 if python else MESSAGE) - 1, -1), -1):
        if not lines[at].strip() or at in found:
            break
        said.append(at)
    return said


def _pick_others(
    picker: Picker, lines: Sequence[str], others: Sequence[int], scores: Sequence[float]
) -> None:
    """Messages and causes, then what surrounds the traces, the sought and the last of it first."""
    failed = failures(lines)
    for index in others:
        near = index + 1 in picker.kept or index - 1 in picker.kept
        if _HEAD.match(lines[index][:200]) or (near and index in failed):
            picker.take([index], anyway=True)
    total = len(lines)
    ranked = sorted(
        others,
        key=lambda i: (
            i not in failed,
            -scores[i],
            not (i - 1 in picker.kept or i + 1 in picker.kept),
            min(i, total - i),
        ),
    )
    for index in ranked:
        if not picker.take([index]) and picker.left < 8:
            return
