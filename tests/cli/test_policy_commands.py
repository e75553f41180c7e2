"""`validate`, `explain`, `schema` and `init`, as a shell sees them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from clawmw.cli.main import main
from clawmw.policy.load import digest, load_policy
from clawmw.policy.presets import PRESETS, preset

Capture = pytest.CaptureFixture[str]

GOOD = "version: 1\ncompress: lossless\nmodels: {m: deepseek/deepseek-v4-flash}\n"
BAD = "version: 1\ncompress:\n  levle: lossless\nmode: x\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "bad.yaml").write_text(BAD, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_validate_says_ok(capsys: Capture) -> None:
    assert main(["validate", "good.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out == f"good.yaml: ok (15 stages, 1 model, digest {digest(load_policy(GOOD))})\n"
    assert err == ""


def test_validate_says_what_is_wrong_in_each_file(capsys: Capture) -> None:
    assert main(["validate", "good.yaml", "bad.yaml", "gone.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("good.yaml: ok")
    assert err.splitlines() == [
        'bad.yaml:3: compress.levle: unknown key; did you mean "level"?',
        'bad.yaml:4: mode: expected one of enforce, observe, not "x"',
        "gone.yaml: there is no such file; `clawmw init` writes one to start from",
    ]


def test_validate_as_json(capsys: Capture) -> None:
    assert main(["validate", "--json", "good.yaml", "bad.yaml"]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["ok"]
    assert good["models"] == ["m"]
    assert good["reached"] == {"m": "by litellm, unless its caller calls a gateway"}
    assert [(p["where"], p["line"]) for p in bad["problems"]] == [
        ("compress.levle", 3),
        ("mode", 4),
    ]


def test_validate_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert main(["validate", "-"]) == 1
    assert capsys.readouterr().err.startswith("-:3: compress.levle: unknown key")


def test_validate_finds_what_only_building_and_planning_show(folder: Path, capsys: Capture) -> None:
    (folder / "when.yaml").write_text(
        'version: 1\nmodels: {m: a/b}\nroute:\n  - {when: "kind in [", to: m}\n', "utf-8"
    )
    (folder / "flow.yaml").write_text(
        "version: 1\nflows:\n  f:\n    agents: {a: {model: none}}\n"
        "    steps: [{id: s, agent: a, prompt: hi}]\n",
        "utf-8",
    )
    assert main(["validate", "when.yaml", "flow.yaml"]) == 1
    when, flow = capsys.readouterr().err.splitlines()
    assert when.startswith("when.yaml:4: route[0].when: ")
    assert flow.startswith("flow.yaml: flows.f")


def test_explain_names_order_defaults_and_the_agent(capsys: Capture) -> None:
    assert main(["explain", "good.yaml", "--agent", "bob"]) == 0
    out = capsys.readouterr().out
    assert "level lossless, floor" in out
    assert "No rule is about agent bob" in out
    assert "budget has no limit in USD" in out


def test_explain_as_json(capsys: Capture) -> None:
    assert main(["explain", "good.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == digest(load_policy(GOOD))
    assert {"section", "does", "mode", "settings"} <= set(found["stages"][0])


def test_explain_without_a_policy_takes_the_one_here_or_the_defaults(
    folder: Path, capsys: Capture
) -> None:
    assert main(["explain"]) == 0
    assert capsys.readouterr().out.startswith("no policy (all defaults): mode enforce")
    (folder / "clawmw.yaml").write_text(GOOD, "utf-8")
    assert main(["explain"]) == 0
    assert capsys.readouterr().out.startswith("clawmw.yaml: mode enforce")


def test_explain_of_a_broken_policy_is_an_error_line(capsys: Capture) -> None:
    assert main(["explain", "bad.yaml"]) == 1
    assert capsys.readouterr().err.startswith("clawmw: bad.yaml:3: compress.levle")


def test_schema_is_json(capsys: Capture) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"version", "compress", "budget", "models"} <= set(schema["properties"])


@pytest.mark.parametrize("name", PRESETS)
def test_init_writes_a_policy_that_validates(name: str, folder: Path, capsys: Capture) -> None:
    assert main(["init", "--preset", name]) == 0
    assert "next: clawmw explain clawmw.yaml" in capsys.readouterr().out
    first, _, rest = (folder / "clawmw.yaml").read_text("utf-8").partition("\n")
    assert first == "# yaml-language-server: $schema=clawmw.schema.json"
    assert rest == preset(name)
    json.loads((folder / "clawmw.schema.json").read_text("utf-8"))
    assert main(["validate", "clawmw.yaml"]) == 0
    assert sorted(p.name for p in folder.iterdir() if "clawmw" in p.name) == [
        "clawmw.schema.json",
        "clawmw.yaml",
    ]


def test_init_never_overwrites_unless_told_to(folder: Path, capsys: Capture) -> None:
    assert main(["init", "good.yaml"]) == 1
    assert capsys.readouterr().err == (
        "clawmw: good.yaml exists and was left alone; --force overwrites it\n"
    )
    assert (folder / "good.yaml").read_text("utf-8") == GOOD
    assert not (folder / "clawmw.schema.json").exists()
    assert main(["init", "good.yaml", "--force", "--no-schema"]) == 0
    assert (folder / "good.yaml").read_text("utf-8") == preset("balanced")
    assert not (folder / "clawmw.schema.json").exists()


def test_init_twice_is_no_error_and_a_dangling_link_is_left_alone(
    folder: Path, capsys: Capture
) -> None:
    assert main(["init", "--preset", "strict"]) == main(["init", "--preset", "strict"]) == 0
    (folder / "link.yaml").symlink_to("nowhere")
    assert main(["init", "link.yaml"]) == 1
    assert (folder / "link.yaml").readlink() == Path("nowhere")
    assert "link.yaml exists" in capsys.readouterr().err


def test_init_into_a_folder_and_one_that_is_not_there(folder: Path, capsys: Capture) -> None:
    (folder / "sub").mkdir()
    assert main(["init", "sub"]) == 0
    assert (folder / "sub" / "clawmw.yaml").exists()
    assert main(["init", "gone/p.yaml"]) == 1
    assert "No such file or directory" in capsys.readouterr().err
