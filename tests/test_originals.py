"""Originals across processes: a person, MCP and a new runtime read what an agent's run left."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import clawmw
from clawmw.cli.main import main
from clawmw.core.identity import Identity
from clawmw.observe.reading.chains import chains, spans
from clawmw.observe.store.spanstore import SpanStore
from clawmw.originals import Originals
from clawmw.policy.build import stores
from clawmw.policy.load import load_policy
from clawmw.stages.context.expand import NAME
from clawmw.stores.disk import disk_stores
from clawmw.testing import Bench, answer
from tests.conftest import rows, tool, turn
from tests.stages.context.test_expand import SYSTEM, asking, told

Capture = pytest.CaptureFixture[str]

TOOLS = [tool("search")]
ROW = json.loads(rows(300))[150]
POLICY = "version: 1\ntrace: off\nstore: {disk: kept}\n"


def task(seed: int = 1) -> list[dict[str, Any]]:
    ask = {"role": "user", "content": "find the cheapest"}
    return [SYSTEM, ask, *turn("c1", "search", {"q": "x"}, rows(300, seed))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy whose store holds what two sessions of one tenant and one of another left."""
    (tmp_path / "clawmw.yaml").write_text(POLICY, "utf-8")
    (tmp_path / "other.yaml").write_text(POLICY + "tenant: other\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("CLAWMW_SESSION", "CLAWMW_PARENT", "CLAWMW_POLICY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def left(folder: Path, who: Identity, seed: int = 1) -> str:
    """Run one call under the policy, on disk, as some process did; the reference it cut."""
    policy = {
        "version": 1,
        "store": {"disk": str(folder / "kept")},
        "tenant": who.tenant,
        "budget": {"chain": {"calls": 50}, "tenant": {"day": {"calls": 500}}},
    }
    case = Bench(policy, lambda body: answer(), clock=time.time, identity=who)
    body = case.send(task(seed), tools=TOOLS).body
    case.runtime.close()
    found = re.search(r"\[clawmw_expand (\w+): ", json.dumps(body["messages"]))
    assert found
    return found[1]


MINE = Identity(session="mine", chain="trip")


def test_a_reference_holds_across_processes_and_restarts(folder: Path) -> None:
    ref = left(folder, MINE)
    policy = {"version": 1, "store": {"disk": str(folder / "kept")}}
    model = asking({"ref": ref, "query": ROW["id"]})
    case = Bench(policy, model, clock=time.time, identity=MINE)
    sent = case.send([*task(), {"role": "assistant", "content": "a"}, task()[1]], tools=TOOLS)
    assert ROW["id"] in told(sent)[0]
    case.runtime.close()


# -- clawmw expand -------------------------------------------------------------------------


def test_expand_shows_what_was_cut(folder: Path, capsys: Capture) -> None:
    ref = left(folder, MINE)
    assert main(["expand", ref, "--session", "mine", "--query", ROW["id"]]) == 0
    assert json.loads(capsys.readouterr().out.partition(": ")[2]) == ROW
    assert main(["expand", ref, "--session", "mine", "--path", "[150].price"]) == 0
    assert capsys.readouterr().out == f"{ROW['price']}\n"
    assert main(["expand", f"[clawmw_expand {ref}: x]", "--session", "mine", "--all"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(rows(300))
    assert main(["expand", ref, "--session", "mine", "--lines", "1-1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ref"], found["session"]) == (ref, "mine")
    assert found["text"].startswith("[line 1 of ")


@pytest.mark.parametrize(
    "who", [("--session", "else"), ("--session", "mine", "--policy", "other.yaml")]
)
def test_expand_gives_no_other_session_and_no_other_tenant_anything(
    folder: Path, capsys: Capture, who: tuple[str, ...]
) -> None:
    ref = left(folder, MINE)
    for more in ((), ("--all",), ("--json",)):
        assert main(["expand", ref, *who, *more]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"Error: nothing is kept under {ref!r} for session {who[1]!r}\n"


def test_expand_without_a_session_names_those_that_hold_it_and_shows_nothing(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = left(folder, MINE)
    assert main(["expand", ref]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{ref!r} is kept for mine" in err
    assert "tkt_" not in err
    monkeypatch.setenv("CLAWMW_SESSION", "mine")
    assert main(["expand", ref, "--query", ROW["id"]]) == 0
    assert ROW["id"] in capsys.readouterr().out


def test_expand_for_a_session_that_the_other_started(folder: Path, capsys: Capture) -> None:
    ref = left(folder, MINE)
    for parent in ("trip", "mine"):
        asked = ["expand", ref, "--session", "sub", "--parent", parent, "--query", ROW["id"]]
        assert main(asked) == 0
        assert ROW["id"] in capsys.readouterr().out
    assert main(["expand", ref, "--session", "sub", "--parent", "nobody"]) == 1


@pytest.mark.parametrize("command", [["expand", "r1a"], ["store", "show"], ["mcp"]])
def test_a_store_that_is_not_there_is_one_line(
    folder: Path, capsys: Capture, command: list[str]
) -> None:
    session = ["--session", "s"] if command[0] != "store" else []
    assert main([*command, *session]) == 1
    assert "kept does not exist: no agent ran under this policy yet" in capsys.readouterr().err
    (folder / "clawmw.yaml").write_text("version: 1\n", "utf-8")
    assert main([*command, *session]) == 1
    err = capsys.readouterr().err
    assert "in memory, where no other process sees it; write `store: {disk: FOLDER}`" in err
    assert not (folder / "kept").exists()


# -- clawmw store --------------------------------------------------------------------------


def test_show_tells_what_is_kept_of_the_tenant(folder: Path, capsys: Capture) -> None:
    left(folder, MINE)
    left(folder, Identity(session="second", chain="c2"), seed=2)
    left(folder, Identity(tenant="other", session="third", chain="c3"), seed=3)
    assert main(["store", "show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = len(rows(300)) + len(rows(300, 2))
    assert (found["originals"]["items"], found["originals"]["bytes"]) == (2, size)
    assert [row["session"] for row in found["sessions"]] == ["second", "mine"]
    assert found["originals"]["oldest"] <= found["originals"]["newest"]
    assert main(["store", "show", "--sessions"]) == 0
    text = capsys.readouterr().out
    assert "2  cut originals, 59.0 KiB, oldest 0s ago" in text
    assert re.search(r"mine  1 original, .* KiB, used \d+s ago", text)
    assert "third" not in text


def kept(folder: Path) -> dict[str, list[str]]:
    """The scopes with something in each home."""
    stores = disk_stores(folder / "kept")
    homes: dict[str, Any] = {
        "blobs": stores.blobs,
        "slots": stores.slots,
        "evidence": stores.evidence,
        "ledger": stores.ledger,
    }
    found = {
        name: [k.scope.replace("\x1f", "/") for k in home.kept()] for name, home in homes.items()
    }
    stores.close()
    return found


def test_purging_a_session_forgets_it_and_no_other(folder: Path, capsys: Capture) -> None:
    ref = left(folder, Identity(session="mine"))
    left(folder, Identity(session="mine2"), seed=2)
    before = kept(folder)
    assert main(["store", "purge", "--session", "mine"]) == 0
    assert capsys.readouterr().out.startswith("forgot 1 cut original, ")
    after = kept(folder)
    assert after["blobs"] == ["session:default/mine2"]
    assert after["slots"] == ["agent:default/default", "session:default/mine2"]
    assert not any(scope.endswith(("/mine", "/mine#1")) for scope in after["evidence"])
    assert any("mine2" in scope for scope in after["evidence"])
    assert after["ledger"] == before["ledger"] != [], "what was spent is spent"
    assert main(["expand", ref, "--session", "mine"]) == 1
    assert main(["store", "purge", "--session", "mine"]) == 0
    assert "there was nothing to forget" in capsys.readouterr().out


def test_purging_a_tenant_asks_first_and_leaves_the_others(folder: Path, capsys: Capture) -> None:
    left(folder, MINE)
    left(folder, Identity(tenant="other", session="third", chain="c3"), seed=3)
    assert main(["store", "purge", "--tenant"]) != 0
    assert len(kept(folder)["blobs"]) == 2
    capsys.readouterr()
    assert main(["store", "purge", "--tenant", "--yes", "--json"]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert gone["originals"] == 1
    assert gone["counters"] == 0
    after = kept(folder)
    assert after["blobs"] == ["session:other/third"]
    assert after["slots"] == ["agent:other/default", "session:other/third"]


def test_purging_by_age_spares_what_was_used_since(folder: Path, capsys: Capture) -> None:
    left(folder, MINE)
    assert main(["store", "purge", "--older-than", "1h"]) == 0
    assert "there was nothing to forget" in capsys.readouterr().out
    originals = Originals(disk_stores(folder / "kept"), "default", clock=lambda: time.time() + 7200)
    gone = originals.purge_older(3600)
    originals.close()
    assert gone.originals == 1
    assert min(gone.slots, gone.evidence, gone.counters) >= 1
    assert set(map(tuple, kept(folder).values())) == {()}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "exactly one of"),
        (["--session", "a", "--tenant"], "exactly one of"),
        (["--older-than", "soon"], "expected a duration such as"),
    ],
)
def test_purge_says_what_it_wants(
    folder: Path, capsys: Capture, given: list[str], said: str
) -> None:
    left(folder, MINE)
    assert main(["store", "purge", *given]) == 2
    assert said in capsys.readouterr().err
    assert kept(folder)["blobs"]


# -- clawmw mcp ----------------------------------------------------------------------------


def test_mcp_serves_one_session_to_the_real_client(folder: Path) -> None:
    mcp = pytest.importorskip("mcp")
    ref = left(folder, MINE)
    other = left(folder, Identity(session="second", chain="c2"), seed=2)
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "clawmw.cli.main", "mcp", "--policy", str(folder / "clawmw.yaml")],
        env={**os.environ, "CLAWMW_SESSION": "mine"},
        cwd=str(folder),
    )

    async def talk() -> tuple[Any, list[Any]]:
        async with mcp.stdio_client(server) as (read, write), mcp.ClientSession(read, write) as it:
            await it.initialize()
            tools = await it.list_tools()
            asked: list[dict[str, Any]] = [
                {"ref": ref, "query": ROW["id"]},
                {"ref": ref, "path": "[150].price"},
                {"ref": ref, "lines": [1, 1]},
                {"ref": other},
                {"ref": ref, "session": "second", "tenant": "other"},
                {},
            ]
            return tools, [await it.call_tool(NAME, arguments) for arguments in asked]

    tools, answers = anyio.run(talk)
    [one] = tools.tools
    assert one.name == NAME
    assert set(one.input_schema["properties"]) == {"ref", "query", "lines", "path"}
    texts = [result.content[0].text for result in answers]
    assert json.loads(texts[0].partition(": ")[2]) == ROW
    assert texts[1] == str(ROW["price"])
    assert texts[2].startswith("[line 1 of ")
    assert "Asking again will not help" in texts[3]
    assert "tkt_2" not in " ".join(texts)
    assert [result.is_error for result in answers] == [False, False, False, True, False, True]


def test_mcp_calls_are_in_their_callers_trace(folder: Path) -> None:
    mcp = pytest.importorskip("mcp")
    ref = left(folder, MINE)
    written = POLICY.replace("trace: off", "trace: {store: t.sqlite}")
    (folder / "clawmw.yaml").write_text(written, "utf-8")
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "clawmw.cli.main", "mcp", "--policy", str(folder / "clawmw.yaml")],
        env={**os.environ, "CLAWMW_SESSION": "mine"},
        cwd=str(folder),
    )

    async def talk() -> None:
        async with mcp.stdio_client(server) as (read, write), mcp.ClientSession(read, write) as it:
            await it.initialize()
            with clawmw.calling(agent="planner", session="mine", chain="trip-7"):
                await it.call_tool(NAME, {"ref": ref}, meta=clawmw.trace_meta())
            await it.call_tool(NAME, {"ref": ref}, meta={"traceparent": "nonsense"})

    anyio.run(talk)
    store = SpanStore.read(folder / "t.sqlite")
    [chain] = chains(store)
    rows = spans(store, chain.trace_id)
    store.close()
    assert chain.chain_id == "trip-7"
    assert [(row.op, row.agent) for row in rows] == [
        ("invoke_workflow", None),
        ("invoke_agent", "planner"),
        ("execute_tool", "planner"),
    ]
    assert rows[2].name == "execute_tool clawmw_expand"


def test_mcp_without_the_extra_is_one_line(folder: Path, capsys: Capture) -> None:
    left(folder, MINE)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mcp", "mcp_types", "mcp.server.lowlevel", "mcp.server.stdio"):
            patch.setitem(sys.modules, name, None)
        assert main(["mcp", "--session", "mine"]) == 1
    err = capsys.readouterr().err
    assert err == 'Error: the Python package mcp is not installed; run: pip install "clawmw[mcp]"\n'


def test_mcp_wants_a_session(folder: Path, capsys: Capture) -> None:
    assert main(["mcp"]) == 2
    assert "name the session: --session S, or CLAWMW_SESSION" in capsys.readouterr().err


# -- the policy's word ---------------------------------------------------------------------


@pytest.mark.parametrize(("blobs", "on_disk"), [("auto", True), ("disk", True), ("memory", False)])
def test_originals_go_where_the_policy_says(folder: Path, blobs: str, on_disk: bool) -> None:
    policy = {
        "version": 1,
        "store": {"disk": str(folder / "kept")},
        "expand": {"blobs": blobs, "max_size": "1MiB"},
    }
    case = Bench(policy, identity=MINE)
    case.send(task(), tools=TOOLS)
    assert len(case.runtime.stores.blobs.kept()) == 1
    case.runtime.close()
    assert (folder / "kept" / "blobs").exists() == on_disk
    assert bool(kept(folder)["blobs"]) == on_disk


def test_size_and_age_come_from_the_policy(folder: Path) -> None:
    text = "version: 1\nexpand: {retention: 2h, max_size: 4kB}\n"
    for more in ("", f"store: {{disk: {folder / 'kept'}}}\n"):
        blobs = stores(load_policy(text + more)).blobs
        blobs.put("s", "r", b"x" * 3000, 0.0)
        assert blobs.get("s", "r", 7199.0) is not None
        assert blobs.get("s", "r", 7201.0) is None
        with pytest.raises(Exception, match="exceeds"):
            blobs.put("s", "big", b"x" * 5000, 0.0)
