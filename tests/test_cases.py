"""`CASES.md` names every case once, and tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.+?) \| (.*) \|$")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def test_every_case_is_a_test_or_has_a_reason() -> None:
    rows = [m for line in (HERE / "CASES.md").read_text().splitlines() if (m := ROW.match(line))]
    names = [row[1] for row in rows]
    assert len(names) == len(set(names)) >= 77
    for row in rows:
        tests, said = TEST.findall(row[3]), TEST.sub("", row[3]).replace("<br>", "").strip()
        assert tests or len(said) > 20, f"{row[1]}: neither a test nor a reason"
        assert "PENDING" not in said, row[1]
        for path, name in tests:
            tree = ast.parse((HERE / path).read_text("utf-8"))
            found = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
            assert name in found, f"{row[1]}: {path} has no {name}"
