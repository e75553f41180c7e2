"""`clawmw run`: programs in any language, their calls under a policy, one chain each."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clawmw.adapters.child import Keys, upstreams
from clawmw.cli.main import main
from clawmw.emulator import Emulator
from clawmw.observe.reading.chains import Chain, chains, spans
from clawmw.observe.store.spanstore import SpanStore, default_store_path

PYTHON = """
import openai
print(openai.OpenAI().chat.completions.create(
    model="gpt-5.4", messages=[{"role": "user", "content": "said in Python"}]
).choices[0].message.content)
"""
NODE = """
fetch(process.env.OPENAI_BASE_URL + "/chat/completions", {
  method: "POST",
  headers: {"content-type": "application/json", authorization: "Bearer sk-own"},
  body: JSON.stringify({model: "gpt-5.4", messages: [{role: "user", content: "said in Node"}]}),
}).then(r => r.json()).then(r => console.log(r.choices[0].message.content));
"""
CURL = """
curl -sS "$OPENAI_BASE_URL/chat/completions" -H 'content-type: application/json' \
  -H "authorization: Bearer $OPENAI_API_KEY" $MORE \
  -d '{"model": "gpt-5.4", "messages": [{"role": "user", "content": "said in a shell"}]}'
"""
TWICE = """
import json, os, urllib.request
for text in ("one", "two"):
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": text}]}
    ask = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(ask) as got:
        print(json.load(got)["choices"][0]["message"]["content"])
"""
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator(bill="openai") as emulator:
        yield emulator


@pytest.fixture
def provider(shared: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """A provider that the environment leads to, and a folder without a policy."""
    shared.requests.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", shared.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    for name in ("OPENAI_API_BASE", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    return shared


Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def run(provider: Emulator, capfd: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of `clawmw run ARGS`."""

    def run(*args: object) -> Ran:
        code = main(["run", *map(str, args)])
        return code, *capfd.readouterr()

    return run


def traced() -> list[Chain]:
    store = SpanStore.read(default_store_path())
    found = chains(store)
    store.close()
    return found


# --- any language -------------------------------------------------------------------------------


def test_a_python_program_needs_no_change(run: Run, provider: Emulator) -> None:
    code, out, err = run("--", sys.executable, "-c", PYTHON)
    assert (code, out) == (0, "said in Python\n")
    assert err.startswith("clawmw: 1 call")
    [asked] = provider.requests
    assert asked.headers["authorization"] == "Bearer ***"
    [chain] = traced()
    assert chain.calls == 1
    assert err.endswith(f"look      clawmw traces show {chain.trace_id}\n")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not there")
def test_a_node_program_needs_no_change(run: Run) -> None:
    code, out, err = run("--", "node", "-e", NODE)
    assert (code, out) == (0, "said in Node\n")
    assert "clawmw: 1 call" in err


@needs_curl
def test_a_shell_script_needs_no_change(run: Run) -> None:
    code, out, err = run("--", "sh", "-c", CURL)
    assert code == 0
    assert json.loads(out)["choices"][0]["message"]["content"] == "said in a shell"
    assert "clawmw: 1 call" in err


def test_a_proxy_is_not_asked_for_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intranet")
    said = "import os; print(os.environ['NO_PROXY'])"
    assert run("--quiet", "--", sys.executable, "-c", said) == (
        0,
        "intranet,127.0.0.1,localhost\n",
        "",
    )
    assert run("--quiet", "--", sys.executable, "-c", TWICE)[:2] == (0, "one\ntwo\n")


# --- one command, one chain ---------------------------------------------------------------------


def test_all_it_does_is_one_chain_under_one_limit(run: Run, tmp_path: Path) -> None:
    """Conversations that have nothing to do with each other: each would be a chain of its own."""
    (tmp_path / "clawmw.yaml").write_text("version: 1\nbudget: {chain: {calls: 1}}\n")
    code, out, err = run("--agent", "pair", "--json", "sum.json", "--", sys.executable, "-c", TWICE)
    assert (code, out) == (1, "one\n")
    assert "402" in err
    assert "stopped   budget.chain.calls (1)" in err
    said = json.loads(Path("sum.json").read_text())
    assert (said["exit_code"], said["stopped_by"]) == (1, {"budget.chain.calls": 1})
    [chain] = said["chains"]
    assert (chain["calls"], chain["stops"], chain["trace_id"]) == (2, 1, said["trace_id"])
    assert Path("sum.json").stat().st_mode & 0o777 == 0o600
    store = SpanStore.read(default_store_path())
    assert {row.agent for row in spans(store, chain["trace_id"]) if row.op == "chat"} == {"pair"}
    store.close()


@needs_curl
def test_a_call_that_names_a_chain_keeps_it_and_draws_on_the_commands(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "clawmw.yaml").write_text("version: 1\nbudget: {chain: {calls: 2}}\n")
    own = CURL.replace("$MORE", "-H x-clawmw-chain:own")
    code, out, err = run("--json", "sum.json", "--", "sh", "-c", CURL + own + CURL)
    assert code == 0
    assert out.count("chatcmpl-emu-") == 2
    assert "the policy allows 2 calls per chain (budget.chain.calls)" in out
    assert "child     own: 1 call, " in err
    chains = json.loads(Path("sum.json").read_text())["chains"]
    assert [chain["calls"] for chain in chains] == [2, 1]


@needs_curl
def test_a_trace_of_the_programs_own_is_no_chain_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program traced by itself would have a new chain, and new limits, with every call."""
    monkeypatch.setenv("MORE", f"-H traceparent:00-{'ab' * 16}-{'cd' * 8}-01")
    run("--chain", "release-7", "--", "sh", "-c", CURL)
    [chain] = traced()
    assert chain.chain_id == "release-7"


def test_clawmw_in_the_command_is_the_owner_and_of_the_same_chain(run: Run) -> None:
    inner = """
import clawmw, httpx, os
with clawmw.http_client(os.environ["CLAWMW_POLICY"]) as client:
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "owned"}]}
    client.post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", json=body)
print(httpx.get(os.environ["CLAWMW_GATEWAY"] + "/healthz").json()["owned_elsewhere"])
print(os.environ["CLAWMW_CHAIN"], os.environ["TRACEPARENT"])
"""
    code, out, err = run("--", sys.executable, "-c", inner)
    assert code == 0, err
    owned, names = out.splitlines()
    chain, parent = names.split()
    assert owned == "1"
    assert parent.split("-")[1] == chain
    assert "clawmw: 1 call" in err
    [one] = traced()
    assert (one.calls, one.trace_id) == (1, chain)


@needs_curl
def test_what_is_used_can_be_asked_for_from_within(run: Run) -> None:
    """Also where no policy is written and nothing is kept: the state of the run is shared."""
    show = f'"{sys.executable}" -m clawmw.cli.main budget show chain:$CLAWMW_CHAIN'
    ask = f"({CURL}) >/dev/null\n{show}"
    code, out, _ = run("--quiet", "--chain", "c1", "--", "sh", "-c", ask)
    assert code == 0
    assert "chain:c1  calls: 1 of 500" in out


@needs_curl
def test_a_run_within_a_run_is_decided_once_and_is_of_the_same_chain(
    run: Run, provider: Emulator
) -> None:
    again = [sys.executable, "-m", "clawmw.cli.main", "run", "--quiet", "--"]
    say = ["sh", "-c", f"echo $CLAWMW_CHAIN\n{CURL}"]
    code, out, err = run("--chain", "outer", "--", *again, *say)
    assert code == 0, err
    assert out.startswith("outer\n")
    assert len(provider.requests) == 1
    [chain] = traced()
    assert (chain.chain_id, chain.calls) == ("outer", 1)


@needs_curl
def test_a_run_is_part_of_the_trace_it_is_started_in(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a build server's span, or of another agent's that handed its chain on."""
    trace, parent = "ab" * 16, f"00-{'ab' * 16}-{'cd' * 8}-01"
    monkeypatch.setenv("TRACEPARENT", parent)
    say = ["sh", "-c", f"echo $TRACEPARENT $BAGGAGE\n{CURL}"]
    _, out, _ = run("--quiet", "--", *say)
    assert out.startswith(f"{parent} clawmw.chain.id={trace}\n")
    [chain] = traced()
    assert (chain.trace_id, chain.calls) == (trace, 1)
    monkeypatch.setenv("BAGGAGE", "user=al,clawmw.chain.id=trip-7,clawmw.chain.hop=2")
    _, out, _ = run("--quiet", "--", *say)
    sent = out.splitlines()[0].split()[1]
    assert sent == "user=al,clawmw.chain.id=trip-7,clawmw.chain.hop=2"
    store = SpanStore.read(default_store_path())
    named = next(c for c in chains(store) if c.chain_id == "trip-7")
    [call] = [row for row in spans(store, named.trace_id) if row.op == "chat"]
    store.close()
    assert call.hop == 3


# --- keys ---------------------------------------------------------------------------------------


@needs_curl
def test_a_command_cannot_lose_the_key_it_does_not_have(
    run: Run, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("--hide-keys", "--", "sh", "-c", f"env; {CURL}")
    assert code == 0
    assert "sk-own" not in out
    assert "said in a shell" in out
    assert provider.requests[0].headers["authorization"] == "Bearer ***"
    # Nobody else is answered: not without a key, not with another one.
    for other in ("", "OPENAI_API_KEY=sk-other"):
        _, out, _ = run("--hide-keys", "--", "sh", "-c", f"{other}\n{CURL}")
        assert ("invalid_token" in out) is bool(other)


@needs_curl
def test_where_the_gateway_holds_a_key_finding_it_is_not_enough(
    run: Run, provider: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy's keys are spent for its command alone, which needs none itself."""
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("THEIR_KEY", "sk-policy")
    entry = f"{{model: gpt-5.4, base_url: {provider.base_url}, api_key_env: THEIR_KEY}}"
    (tmp_path / "clawmw.yaml").write_text(f"version: 1\nmodels: {{gpt-5.4: {entry}}}\n")
    code, out, err = run("--", "sh", "-c", f"{CURL}\nOPENAI_API_KEY=sk-found\n{CURL}")
    assert code == 0, err
    assert out.count("said in a shell") == 1
    assert "this gateway is one command's own" in out
    assert len(provider.requests) == 1


# --- a process as any other ---------------------------------------------------------------------


def test_what_cannot_be_kept_is_no_reason_not_to_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="keeps no traces"):
        code, out, err = run("--json", "/no/such/folder/x", "--", sys.executable, "-c", TWICE)
    assert (code, out) == (0, "one\ntwo\n")
    assert "clawmw: no summary: [Errno 2] No such file or directory: '/no/such/folder/x'" in err


def test_switched_off_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAWMW_OFF", "1")
    code, out, err = run("--", sys.executable, "-c", TWICE)
    assert (code, out) == (0, "one\ntwo\n")
    assert err == "clawmw: CLAWMW_OFF is set: calls passed through, and nothing was counted\n"


def test_its_exit_code_is_the_commands(run: Run) -> None:
    assert run("--quiet", "sh", "-c", "exit 7") == (7, "", "")
    assert run("--quiet", "sh", "-c", "kill -KILL $$")[0] == 128 + 9
    code, out, err = run("no-such-program", "-x")
    assert (code, out, err) == (127, "", "clawmw: no-such-program: no such command\n")
    code, _, err = run("/etc/passwd")
    assert (code, err) == (126, "clawmw: /etc/passwd: Permission denied\n")
    _, _, err = run("true")
    assert err.startswith("clawmw: no model call came through")


def test_signals_go_on_to_the_command(provider: Emulator, tmp_path: Path) -> None:
    inner = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "clawmw.cli.main", "run", "--", sys.executable, "-c", inner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(20) == 5
        assert time.monotonic() - began < 10


def test_where_nothing_says_where_calls_go_nothing_is_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name)
    code, out, err = run("echo", "ran")
    assert (code, out) == (1, "")
    assert "nowhere to send calls: set OPENAI_API_KEY or ANTHROPIC_API_KEY" in err


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions"])
def test_endpoints_as_sdks_spell_them(run: Run, path: str) -> None:
    """Some take a base URL with /v1, some without, whatever the variable is meant to hold."""
    ask = TWICE.replace(
        'os.environ["OPENAI_BASE_URL"] + "/chat/completions"',
        f'os.environ["CLAWMW_GATEWAY"] + "{path}"',
    )
    assert run("--quiet", "--", sys.executable, "-c", ask)[:2] == (0, "one\ntwo\n")


def test_each_family_goes_to_its_own_upstream(
    run: Run, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here only the one of OpenAI's dialect is there; the other's is asked, and says so."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert run("--quiet", "--", sys.executable, "-c", TWICE)[:2] == (0, "one\ntwo\n")
    assert len(provider.requests) == 2
    assert upstreams({"ANTHROPIC_AUTH_TOKEN": "t"}) == {"anthropic": "https://api.anthropic.com/v1"}
    assert upstreams({"OPENAI_API_BASE": "http://h/v1"}) == {"openai": "http://h/v1"}


ANTHROPIC = """
import anthropic
print(anthropic.Anthropic().messages.create(
    model="claude-sonnet-4-6", max_tokens=50,
    messages=[{"role": "user", "content": "said to Claude"}],
).content[0].text)
"""


def test_a_program_of_anthropics_sdk_needs_no_change(
    run: Run, provider: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.base_url.removesuffix("/v1"))
    code, out, err = run("--", sys.executable, "-c", ANTHROPIC)
    assert (code, out) == (0, "said to Claude\n"), err
    assert "clawmw: 1 call" in err
    assert provider.requests[0].path == "/v1/messages"


@pytest.mark.parametrize(
    ("path", "header", "sent"),
    [
        ("/v1/messages", "x-api-key: {}", "x-api-key: sk-ant"),
        ("/v1/messages", "authorization: Bearer {}", "authorization: Bearer at-ant"),
        ("/v1/responses", "authorization: bearer {}", "authorization: Bearer sk-own"),
        ("/v1/messages", "x-api-key: sk-ant", None),
        ("/v1/chat/completions", "authorization: Bearer", None),
    ],
)
def test_the_token_becomes_the_key_that_belongs_there(
    path: str, header: str, sent: str | None
) -> None:
    seen: list[list[tuple[bytes, bytes]]] = []
    answers: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["headers"])

    async def send(message: Any) -> None:
        answers.append(message)

    env = {"ANTHROPIC_API_KEY": "sk-ant", "ANTHROPIC_AUTH_TOKEN": "at-ant"}
    keys = Keys(app, {"OPENAI_API_KEY": "sk-own", **env})
    name, _, value = header.format(keys.token).partition(": ")
    scope = {"path": path, "headers": [(b"a", b"b"), (name.encode(), value.encode())]}
    asyncio.run(keys(scope, None, send))  # type: ignore[arg-type]
    if sent is None:
        assert not seen
        assert answers[0]["status"] == 401
        assert keys.token not in str(answers)
        return
    name, _, value = sent.partition(": ")
    assert seen == [[(b"a", b"b"), (name.encode(), value.encode())]]


def test_a_misspelt_option_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--polcy", "x", "--", "true"]) == 2
    said = capsys.readouterr().err
    assert "No such option" in said
    assert "--polcy" in said
