"""What holds for every reducer, every level and any text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmw.core.tokens import estimate
from clawmw.stages.context.compress.base import REDUCERS, Brief, Level, failures, reduce
from clawmw.stages.context.compress.squeeze import squeeze

LEVELS: tuple[Level, ...] = ("lossless", "balanced", "aggressive")
REF = "r7k2m9q4xw"

WORDS = (
    "user order 7 12.50 2024-05-08 failed ERROR id=a91f https://x.example/p?q=1 Bob Ltd. 北京 。"
    " <div> </div> <li> | , \t {} [ ] \" ' … == -- : level=info 10:22:07"
)
words = st.sampled_from(WORDS.split(" "))
lines = st.lists(words, max_size=9).map(" ".join)
SHAPES = (
    "def load(path, limit=10):",
    "    return parse(open(path).read())",
    "import os, sys",
    "public static int total(List<Order> orders) {",
    "}",
    "src/app.py:12:    retries = 3",
    "src/lib/a_b.rs",
    "-rw-r--r-- 1 u g 1204 May  2 10:02 notes.txt",
    "├── docs",
    "│   └── a.md",
    "diff --git a/x.py b/x.py",
    "--- a/x.py",
    "+++ b/x.py",
    "@@ -1,4 +1,5 @@ def f():",
    "+    added = 1",
    "-    gone = 2",
    "     kept = 3",
    "tests/test_a.py::test_b PASSED",
    "tests/test_a.py::test_c FAILED",
    "E   AssertionError: 1 != 2",
    "=== 1 failed, 9 passed in 0.3s ===",
    "Traceback (most recent call last):",
    '  File "/srv/a.py", line 3, in f',
    "    raise ValueError(1)",
    "ValueError: 1",
    "    at com.acme.A.b(A.java:7)",
    "make[1]: Entering directory '/b'",
    "a.c:3:1: warning: unused variable 'x'",
    "00000000: 7f45 4c46 0201 0100 0000 0000  .ELF....",
    "… 37 lines …",
    "[clawmw_expand aaaa: 3 lines left out]",
    "(Open file: n/a)",
    "bash-$",
    "",
)
shaped = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.integers(0, 10**6)).map(
        lambda part: part[0].replace("1", str(part[1])) if part[1] % 2 else part[0]
    ),
    max_size=120,
).map("\n".join)
alike = st.tuples(st.sampled_from(SHAPES), st.integers(5, 300), shaped).map(
    lambda part: "\n".join(f"{part[0]}{n}" for n in range(part[1])) + "\n" + part[2]
)
texts = st.one_of(
    shaped,
    alike,
    st.text(max_size=300),
    st.lists(lines, max_size=60).map("\n".join),
    st.tuples(lines, st.integers(1, 400), lines).map(
        lambda part: "\n".join([part[0]] * part[1] + [part[2]])
    ),
    st.tuples(st.lists(lines, min_size=1, max_size=6), st.integers(1, 60)).map(
        lambda part: "\n".join(f"{n} {line}" for n in range(part[1]) for line in part[0])
    ),
    st.tuples(st.lists(words, min_size=1, max_size=4), st.integers(1, 200)).map(
        lambda part: json.dumps([{w: f"{w}{n}" for w in part[0]} for n in range(part[1])])
    ),
    st.lists(lines, min_size=1, max_size=40).map(
        lambda part: "<html><body>" + "".join(f"<p>{line}</p>" for line in part)
    ),
)


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from(LEVELS))
def test_a_reduction_is_smaller_marked_and_final(text: str, level: Level) -> None:
    reduced = reduce(text, Brief(level, REF))
    if reduced is None:
        return
    assert estimate(reduced.text) < estimate(text)
    assert (REF in reduced.text) == (not reduced.lossless) or REF in text
    if not reduced.lossless:
        assert reduced.text.startswith(f"[clawmw_expand {REF}: ")
    assert reduce(text, Brief(level, REF)) == reduced
    assert reduce(reduced.text, Brief(level, REF)) is None


@settings(deadline=None)
@given(texts)
def test_each_reducer_by_itself_never_raises(text: str) -> None:
    for reducer in REDUCERS:
        for level in LEVELS:
            if reducer.matches(text):
                reducer.reduce(text, Brief(level, REF))


@settings(deadline=None)
@given(texts)
def test_lossless_leaves_no_reference_and_off_does_nothing(text: str) -> None:
    reduced = reduce(text, Brief("lossless", REF))
    assert reduced is None or reduced.lossless
    assert reduce(text, Brief("off", REF)) is None


@settings(deadline=None)
@given(texts)
def test_squeezing_twice_is_squeezing_once(text: str) -> None:
    assert squeeze(squeeze(text)) == squeeze(text)


stamps = st.integers(0, 59).map(lambda second: f"2024-05-08T10:22:{second:02d}Z")
log_lines = st.tuples(
    stamps, st.sampled_from(["INFO", "DEBUG", "WARN", "ERROR"]), lines, st.integers(0, 10**9)
).map(lambda part: f"{part[0]} {part[1]} {part[2]} took {part[3]} ms")


@settings(max_examples=60, deadline=None)
@given(st.lists(log_lines, min_size=3, max_size=10), st.integers(1, 60), st.sampled_from(LEVELS))
def test_what_failed_survives_in_logs(block: list[str], times: int, level: Level) -> None:
    logged = [line for n in range(times) for line in [*block, f"{n} INFO tick {n}"]]
    reduced = reduce("\n".join(logged), Brief(level, REF))
    if reduced is None:
        return
    shown = set(reduced.text.split("\n"))
    for index in failures(logged):
        assert squeeze(logged[index]) in shown


def test_failures_are_recognised_and_their_absence_too() -> None:
    found = ["x ERROR y", "java.lang.NullPointerException", "3 failed", "连接失败", "WARN disk 91%"]
    clean = ["0 errors", "no warnings", "error: null", "errors=0", '"error": false', "all fine"]
    assert failures(found) == set(range(len(found)))
    assert failures(clean) == set()


def test_the_same_bytes_in_any_process() -> None:
    code = (
        "import json\n"
        "from clawmw.stages.context.compress.base import Brief, reduce\n"
        "rows=[{'id':f'a{i*7}','v':i%13,'s':'abc'[i%3],'t':f'text {i} '*9} for i in range(300)]\n"
        "log='\\n'.join(f'10:22:{i%60:02d} INFO w{i%7} did {i} st={200 if i%97 else 500}'"
        " for i in range(900))\n"
        "page='<html><body>'+''.join(f'<p><a href=/q/{i}>Item {i}</a></p>' for i in range(300))\n"
        "code='\\n'.join(f'def f{i}(a, b):\\n    return a_{i} + b.c{i}\\n' for i in range(99))\n"
        "hits='\\n'.join(f'src/m{i%9}.py:{i}: x_{i} = find(order)' for i in range(300))\n"
        "tree='\\n'.join(f'./src/d{i%7}/file_{i*7}.{\"py js md\".split()[i%3]}'"
        " for i in range(300))\n"
        "for text in (json.dumps(rows),log,page,code,hits,tree):\n"
        "  for level in ('lossless','balanced','aggressive'):\n"
        "    print(reduce(text,Brief(level,'r1',frozenset(['order','find','file','retu']))))\n"
    )
    outputs = {
        sha256(
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
                capture_output=True,
                check=True,
            ).stdout
        ).hexdigest()
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "text",
    [
        " " * 500_000 + "x",
        "\n" + "\t " * 200_000 + "x",
        "a" * 500_000,
        "<a " * 100_000,
        "<html>" + "<div>" * 50_000 + "x",
        '<html><body><a "' * 20_000,
        "a b. " * 100_000,
        "2024-05-08 " * 50_000,
        "\n" * 300_000,
        '"' * 300_000,
        "['" * 100_000 + "]",
        "|" * 200_000,
        ("x," * 50 + "\n") * 3_000,
        "\x1b[31m" * 100_000,
        "a\x08" * 100_000,
        "[" + "[1]," * 60_000 + "[1]]",
        "\ud800" * 2_000,
        "http://" * 60_000,
        "#" * 3 + "-" * 200_000,
        "0:" * 100_000 + "\n" * 20,
        "a/b.c:1:" * 60_000,
        "a/b.c:1:x\n" * 30_000,
        "@@ -1 +1 @@\n" * 30_000,
        "--- a/x\n+++ b/x\n" * 30_000,
        "    " * 100_000 + "at x",
        ("    at a.b(c.java:1)\n" + "x" * 50 + "\n") * 8_000,
        "(" * 200_000 + "\n" + ")" * 200_000,
        "".join(f"{' ' * (n % 60)}class A{n}:\n" for n in range(10_000)),
        "│   " * 60_000 + "├── x",
        "/a" * 200_000,
        "drwxr-xr-x 1 a b 1 " * 20_000,
        "QUFB" * 120_000,
        "aB3+" * 20_000 + "\n" + "aB3+\n" * 20_000,
        "-----BEGIN A-----\n" * 20_000,
        ("0000000: 00 00 00 00 00 00\n" * 10_000),
        "x{a:" * 100_000,
        "E   x\n>   y\n" * 30_000,
        "test a ... ok\n" * 20_000 + "test result: FAILED",
        ("=" * 200 + " passed ") * 1_000,
        "\tat " + "a." * 200_000 + "(",
    ],
    ids=lambda text: re.sub(r"[^\w<|\[{]+", "_", text[:12]) or "odd",
)
def test_hostile_texts_take_linear_time(text: str, level: Level) -> None:
    reduce(text, Brief(level, REF))
