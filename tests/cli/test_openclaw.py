"""`clawmw openclaw`: a config is changed, judged, and given back."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clawmw.adapters.gateway import Gateway
from clawmw.adapters.gateway_server import Served
from clawmw.adapters.gateway_upstream import Places
from clawmw.cli.main import main
from clawmw.openclaw.text import Document
from clawmw.policy.load import load_policy
from clawmw.runtime import Runtime

CONFIG = """\
{
  // how I like it
  agents: {
    defaults: {
      model: { primary: "work/gpt-5.4", fallbacks: ["groq/llama-4", "claude/opus"] },
      models: { "claude/opus": { alias: "o" }, "work/gpt-5.4": {} },
      heartbeat: { every: "0m" },
    },
  },
  skills: { workshop: { autonomous: { mode: "off" } } },
  models: {
    providers: {
      work: {
        baseUrl: "https://api.openai.com/v1", // the company's
        apiKey: "sk-secret",
        api: "openai-completions",
        models: [{ id: "gpt-5.4", name: "GPT" }],
      },
      claude: {
        baseUrl: "https://api.anthropic.com",
        apiKey: "${CLAUDE_KEY}",
        api: "anthropic-messages",
        models: [{ id: "opus", name: "Opus" }],
      },
      gem: { baseUrl: "https://g", api: "google-generative-ai", models: [{ id: "g", name: "G" }] },
    },
  },
}
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # whoever runs the tests may have OpenClaw
    path = tmp_path / "state" / "openclaw.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(CONFIG)
    path.chmod(0o640)
    monkeypatch.setenv("OPENCLAW_STATE_DIR", str(path.parent))
    for name in ("OPENCLAW_CONFIG_PATH", "OPENCLAW_CONFIG_READONLY", "OPENCLAW_NIX_MODE"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: object) -> tuple[int, str]:
        code = main(["openclaw", *map(str, args)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def value(path: Path) -> Any:
    return Document(path.read_text()).value


def test_its_providers_lead_to_the_gateway_each_in_its_form(config: Path, run: Run) -> None:
    code, said = run("setup")
    assert code == 0
    providers = value(config)["models"]["providers"]
    assert providers["work"]["baseUrl"] == "http://127.0.0.1:4000/v1"
    assert providers["claude"]["baseUrl"] == "http://127.0.0.1:4000"
    assert providers["gem"]["baseUrl"] == "https://g"
    # What they would lose behind a proxy: the key to the cache, and the marks.
    assert providers["work"]["models"][0]["compat"] == {"supportsPromptCacheKey": True}
    models = value(config)["agents"]["defaults"]["models"]
    assert models["claude/opus"] == {"alias": "o", "params": {"cacheRetention": "short"}}
    for kept in ("// how I like it", "// the company's", '"${CLAUDE_KEY}"', "sk-secret"):
        assert kept in config.read_text()
    # Where calls go is the policy's from now on, one place a model.
    policy = load_policy(Path("clawmw.yaml"))
    assert policy.models["gpt-5.4"].base_url == "https://api.openai.com/v1"
    assert policy.models["opus"].base_url == "https://api.anthropic.com/v1"
    assert {entry.dialect for entry in policy.models.values()} == {None}  # known by its address
    assert "run: clawmw serve --policy clawmw.yaml --port 4000\n" in said
    # clawmw's commands in the agent's own shell find it, too.
    assert value(config)["env"]["vars"] == {"CLAWMW_POLICY": str(Path("clawmw.yaml").absolute())}
    assert "sk-secret" not in said


def test_files_are_safe_and_undo_gives_back_the_very_bytes(config: Path, run: Run) -> None:
    run("setup")
    [backup] = config.parent.glob("openclaw.json.clawmw-*.bak")
    assert backup.read_text() == CONFIG
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    once = config.read_text()
    assert "nothing to change" in run("setup")[1]
    assert config.read_text() == once
    run("setup", "--url", "http://127.0.0.1:5000")
    assert "127.0.0.1:5000" in config.read_text()
    code, said = run("undo")
    assert (code, config.read_text()) == (0, CONFIG)
    assert "byte for byte" in said
    code, said = run("undo")
    assert code == 1
    assert "there is nothing to undo" in said
    assert not list(config.parent.glob("*.tmp"))


def test_undo_keeps_what_others_changed_since(config: Path, run: Run) -> None:
    run("setup")
    config.write_text(config.read_text().replace("0m", "2h").replace("127.0.0.1:4000/v1", "own"))
    code, said = run("undo")
    assert code == 0
    assert "kept: models.providers.work.baseUrl (no longer as it was set)" in said
    now = value(config)
    assert now["agents"]["defaults"]["heartbeat"]["every"] == "2h"
    assert now["models"]["providers"]["work"]["baseUrl"] == "http://own"
    assert now["models"]["providers"]["claude"]["baseUrl"] == "https://api.anthropic.com"
    assert "compat" not in config.read_text()


def test_a_dry_run_shows_the_change_and_makes_none(config: Path, run: Run) -> None:
    one_line = CONFIG.replace("\", // the company's\n        apiKey", '", apiKey')
    config.write_text(one_line)
    code, said = run("setup", "--dry-run")
    assert code == 0
    assert '-        baseUrl: "https://api.openai.com/v1", apiKey: "***"' in said
    assert "sk-secret" not in said
    assert "clawmw.yaml: would be written" in said
    assert config.read_text() == one_line
    assert sorted(p.name for p in config.parent.iterdir()) == ["openclaw.json"]
    assert not Path("clawmw.yaml").exists()


def test_check_says_what_goes_past(config: Path, run: Run) -> None:
    code, said = run("check")
    assert code == 1
    assert "wrong models.providers.work.baseUrl: leads to https://api.openai.com/v1" in said
    run("setup")
    runtime = Runtime.of(load_policy({"version": 1, "trace": "off"}))
    with Served(Gateway(runtime, Places({}, "http://127.0.0.1:9/v1"))) as served:
        url = served.base_url.removesuffix("/v1")
        run("setup", "--url", url)
        code, said = run("check")  # the address is known from the setup
        assert code == 1
        assert f"ok    gateway: answers at {url}" in said
        assert "wrong models.providers.gem: speaks google-generative-ai" in said
        assert (
            "wrong agents.defaults.model.fallbacks[0]: groq/llama-4 is called past clawmw: a call "
            "that fails or is stopped here goes on there, without a limit"
        ) in said
        assert "fallbacks[1]" not in said
        mended = (
            config.read_text()
            .replace('"groq/llama-4", ', "")
            .replace(
                '      gem: { baseUrl: "https://g", api: "google-generative-ai", '
                'models: [{ id: "g", name: "G" }] },\n',
                "",
            )
        )
        config.write_text(mended)
        code, said = run("check")
        assert (code, "wrong" in said) == (0, False), said
        found = json.loads(run("check", "--json")[1])["findings"]
        assert {one["level"] for one in found} == {"ok"}
    runtime.close()
    code, said = run("check")
    assert code == 1
    assert f"wrong gateway: nothing answers at {url}; start it with `clawmw serve`" in said


def test_check_knows_a_wrong_form_from_a_choice(config: Path, run: Run) -> None:
    """What cannot work is said and mended; what the user chose stays."""
    run("setup")
    text = config.read_text()
    for old, new in (
        ('baseUrl: "http://127.0.0.1:4000",', 'baseUrl: "http://127.0.0.1:4000/v1",'),
        ('"supportsPromptCacheKey": true', '"supportsPromptCacheKey": false'),
        ('"short"', '"none"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    config.write_text(text)
    where = "models.providers.claude.baseUrl: http://127.0.0.1:4000/v1"
    wrong = f"wrong {where}: anthropic-messages wants http://127.0.0.1:4000\n"
    assert wrong in run("check")[1]
    run("setup")
    assert value(config)["models"]["providers"]["claude"]["baseUrl"] == "http://127.0.0.1:4000"
    assert '"supportsPromptCacheKey": false' in config.read_text()
    assert '"none"' in config.read_text()


def test_the_built_in_providers_need_no_entry(config: Path, run: Run) -> None:
    config.write_text(
        '{"agents": {"defaults": {"model": "anthropic/claude-opus-4-6", "utilityModel": '
        '"openai/gpt-5.4-mini"}}}'
    )
    assert run("setup")[0] == 0
    providers = value(config)["models"]["providers"]
    assert providers["anthropic"] == {"baseUrl": "http://127.0.0.1:4000"}
    assert providers["openai"]["baseUrl"] == "http://127.0.0.1:4000/v1"
    assert providers["openai"]["models"] == [
        {"id": "gpt-5.4-mini", "name": "gpt-5.4-mini", "compat": {"supportsPromptCacheKey": True}}
    ]
    # Its memory search asks for embeddings there, too.
    policy = load_policy(Path("clawmw.yaml"))
    assert policy.models["text-embedding-3-small"].base_url == "https://api.openai.com/v1"


def test_no_list_of_models_is_begun(config: Path, run: Run) -> None:
    """Its first entry would forbid every model that has none (seen on the real one)."""
    listed = '      models: { "claude/opus": { alias: "o" }, "work/gpt-5.4": {} },\n'
    config.write_text(CONFIG.replace(listed, ""))
    assert run("setup")[0] == 0
    assert "models" not in value(config)["agents"]["defaults"]


def test_one_upstream_needs_no_models_in_the_policy(config: Path, run: Run) -> None:
    code, said = run("setup", "--provider", "work", "--token-env", "GATE", "--policy", "p.yaml")
    assert code == 0
    assert (
        "run: clawmw serve --policy p.yaml --port 4000 --upstream https://api.openai.com/v1 "
        "--token-env GATE"
    ) in said
    assert load_policy(Path("p.yaml")).models == {}
    work = value(config)["models"]["providers"]["work"]
    assert work["headers"] == {"x-clawmw-token": "${GATE}"}
    # The other one is named, and so is what goes there.
    assert "wrong agents.defaults.model.fallbacks[1]: claude/opus is called past clawmw" in said
    run("undo")
    assert config.read_text() == CONFIG


def test_what_agents_keep_beside_the_config_is_looked_at(config: Path, run: Run) -> None:
    folder = config.parent / "agents" / "main" / "agent"
    folder.mkdir(parents=True)
    (folder / "models.json").write_text('{"providers": {"work": {"baseUrl": "https://own/v1"}}}')
    (folder / "auth-profiles.json").write_text(
        '{"profiles": {"claude:me": {"type": "oauth", "provider": "claude", "access": "secret-1"}}}'
    )
    said = run("setup")[1]
    for line in (
        f"wrong {folder / 'models.json'}: its baseUrl for work wins over the config's: https://own",
        f"wrong {folder / 'auth-profiles.json'}: claude:me is a login (oauth)",
    ):
        assert line in said
        assert line in run("check")[1]
    assert "secret-1" not in said


def test_logins_and_other_programs_go_past(config: Path, run: Run) -> None:
    more = """
  auth: { profiles: { "claude:me": { provider: "claude", mode: "oauth" } } },
  agents: { entries: { a: { agentRuntime: { id: "claude-cli" } } },"""
    config.write_text(CONFIG.replace("\n  agents: {", more))
    said = run("setup")[1]
    assert 'wrong auth.profiles["claude:me"]: oauth of claude: such calls may not heed' in said
    assert "agents.entries.a.agentRuntime.id: claude-cli is a program of its own" in said


def test_heartbeats_that_send_everything_are_pointed_out(config: Path, run: Run) -> None:
    config.write_text(CONFIG.replace('every: "0m"', 'every: "15m"'))
    assert "note  agents.defaults.heartbeat: every 15m the whole main session" in run("setup")[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{models: {$include: './m.json5'}}", "models comes from another file ($include)"),
        ("{a: ", "not JSON5"),
        (None, "there is no OpenClaw config; run `openclaw onboard` first"),
    ],
)
def test_what_cannot_be_changed_safely_is_not(
    config: Path, run: Run, text: str | None, said: str
) -> None:
    config.unlink()
    if text is not None:
        config.write_text(text)
    for command in ("setup", "check"):
        code, heard = run(command)
        assert code == 1
        assert said in heard
    assert text is None or config.read_text() == text


def test_the_policy_says_what_an_unknown_server_speaks(config: Path, run: Run) -> None:
    """Else a call would be translated for it."""
    config.write_text(CONFIG.replace("https://api.anthropic.com", "https://proxy.example/claude"))
    run("setup")
    opus = load_policy(Path("clawmw.yaml")).models["opus"]
    assert (opus.base_url, opus.dialect) == (
        "https://proxy.example/claude/v1",
        "anthropic.messages",
    )


def test_a_config_that_others_manage_is_left_alone(
    config: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCLAW_CONFIG_READONLY", "1")
    code, said = run("setup")
    assert (code, config.read_text()) == (1, CONFIG)
    assert "OPENCLAW_CONFIG_READONLY=1: this config is managed elsewhere" in said


def test_openclaw_itself_is_asked_before_anything_is_written(
    config: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its program is there. One that fails otherwise (another Node) is no hindrance."""
    program = tmp_path / "openclaw"
    program.write_text(
        '#!/bin/sh\ncase "$(cat "$OPENCLAW_CONFIG_PATH")" in *4000*) echo \'{"valid": false, '
        '"issues": [{"path": "models", "message": "no"}]}\'; exit 1;; esac\n'
        "echo '{\"valid\": true}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    code, said = run("setup")
    assert (code, config.read_text()) == (1, CONFIG)
    assert "OpenClaw would not take it: models: no; nothing was changed" in said
    program.write_text("#!/bin/sh\necho 'needs another Node' >&2\nexit 1\n")
    assert subprocess.run([str(program)], check=False, capture_output=True).returncode == 1
    assert run("setup")[0] == 0
    assert sorted(p.suffix for p in config.parent.iterdir()) == [".bak", ".json", ".json"]
