"""A real OpenClaw: where it is, or how it gets there, and one turn of it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clawmw.emulator import Reply, ToolUse
from clawmw.emulator.brains import text_of

VERSION = "2026.9.6"
NODE = "24"
CACHE = Path(os.environ.get("CLAWMW_OPENCLAW") or Path.home() / ".cache" / "clawmw-tests" / VERSION)
"""Where `npm i node openclaw` was done, or is to be done: 650 MB, half a minute."""
_TRANSIENT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
_ASKED = re.compile(r"\[\[(\w+):(\w+) (\{.*?\})\]\]", re.DOTALL)


def installed() -> str | None:
    """Why there is no OpenClaw here; None: there is one."""
    if (CACHE / "node_modules" / ".bin" / "openclaw").exists():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not there"
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "package.json").write_text('{"private": true}')
    env = {**os.environ, "PATH": f"{CACHE}/node_modules/.bin:{os.environ['PATH']}"}
    for package in (f"node@{NODE}", f"openclaw@{VERSION}"):
        done = subprocess.run(
            [npm, "i", package, "--no-audit", "--no-fund"],
            cwd=CACHE,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        if done.returncode:
            return f"npm i {package} failed: {done.stderr.strip().splitlines()[-1:]}"
    return None


def brain(body: dict[str, Any]) -> Reply:
    """Does what the newest message asks for: `[[tool:NAME ARGS]]` once, `[[loop:...]]` always."""
    said = [m for m in body["messages"] if not _text(m).startswith((_TRANSIENT, "[clawmw]"))]
    at = max(i for i, m in enumerate(said) if m["role"] == "user" and _text(m))
    asked = _ASKED.search(_text(said[at]))
    done = sum(m["role"] == "tool" for m in said[at:])
    if asked and (asked[1] == "loop" or not done):
        return Reply(tools=(ToolUse(asked[2], json.loads(asked[3])),))
    return Reply(text=f"Done after {done} results.")


def _text(message: dict[str, Any]) -> str:
    return text_of(message.get("content"))


@dataclass
class Turn:
    """What one turn of OpenClaw came to."""

    code: int
    text: str
    seconds: float
    stderr: str


class OpenClaw:
    """An OpenClaw with a home of its own, its config at `config`."""

    def __init__(self, home: Path, port: int, **more: Any) -> None:
        self.home = home
        self.config = home / "openclaw.json"
        (home / "state").mkdir(parents=True)
        (home / "workspace").mkdir()
        (home / "workspace" / "note.txt").write_text("hello file content 42\n")
        config = copy.deepcopy(_CONFIG)
        config["agents"]["defaults"]["workspace"] = str(home / "workspace")
        for provider in config["models"]["providers"].values():
            provider["baseUrl"] = f"http://127.0.0.1:{port}{provider['baseUrl']}"
        config |= more
        self.config.write_text("// made for a test\n" + json.dumps(config, indent=2))
        keep = ("LANG", "TMPDIR")
        self.env = {name: os.environ[name] for name in keep if name in os.environ} | {
            "PATH": f"{CACHE}/node_modules/.bin:{os.environ['PATH']}",
            "HOME": str(home),
            "OPENCLAW_STATE_DIR": str(home / "state"),
            "OPENCLAW_CONFIG_PATH": str(self.config),
        }

    def run(self, *args: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run its command line."""
        return subprocess.run(
            ["openclaw", *args],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def turn(self, message: str, *args: str) -> Turn:
        """One whole turn; `args` say where and in which session."""
        began = time.monotonic()
        done = self.run("agent", "--agent", "main", *args, "--json", "--message", message)
        try:
            said = json.loads(done.stdout)
            text = "\n".join(p.get("text") or "" for p in said.get("payloads", []))
        except ValueError:
            text = done.stdout
        return Turn(done.returncode, text, time.monotonic() - began, done.stderr)


_MODEL = {"reasoning": False, "input": ["text"], "contextWindow": 200_000, "maxTokens": 8192}
_CONFIG: dict[str, Any] = {
    "agents": {"defaults": {"model": {"primary": "fake/fake-1"}, "heartbeat": {"every": "0m"}}},
    "skills": {"workshop": {"autonomous": {"mode": "off"}}},
    "update": {"checkOnStart": False},
    "models": {
        "mode": "merge",
        "providers": {
            "fake": {
                "baseUrl": "/v1",
                "apiKey": "sk-fake",
                "api": "openai-completions",
                "models": [{"id": "fake-1", "name": "Fake 1", **_MODEL}],
            },
            "fakeresp": {
                "baseUrl": "/v1",
                "apiKey": "sk-fake",
                "api": "openai-responses",
                "models": [{"id": "fake-resp", "name": "Fake Responses", **_MODEL}],
            },
            "fakeanth": {
                "baseUrl": "",
                "apiKey": "sk-fake",
                "api": "anthropic-messages",
                "models": [{"id": "claude-fake", "name": "Claude Fake", **_MODEL}],
            },
        },
    },
}
