"""The house: who imports whom, what an import loads, how long files and functions are."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clawmw

ROOT = Path(clawmw.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = {
    "litellm",
    "langgraph",
    "langchain",
    "langchain_core",
    "pydantic_ai",
    "openai",
    "anthropic",
    "starlette",
    "uvicorn",
    "diskcache",
    "cel",
    "mcp",
    "agents",
    "crewai",
    "google",
}
EXTRAS = {"agents", "crewai", "google", "langchain", "pydantic_ai"}
"""What a framework's adapter derives from, or loads when it is used."""
RATCHET = json.loads((Path(__file__).parent / "ratchet.json").read_text())
"""What is longer than it should be, and why. It only shrinks."""


MOST_PARAMETERS = 6
LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)


def linted(folder: Path) -> tuple[int, str]:
    """The exit code of import-linter over the package in `folder`, and what it says."""
    done = subprocess.run(
        [sys.executable, "-c", LINT], capture_output=True, text=True, cwd=folder, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_layers_hold() -> None:
    code, said = linted(ROOT.parent)
    assert code == 0, said
    assert "0 broken" in said


FORBIDDEN = {
    "imports point down": ("core/money.py", "import clawmw.stages.units"),
    "core and codecs are the standard library only": ("codecs/openai_chat.py", "import time"),
    "a policy describes; only build makes objects": (
        "policy/load.py",
        "import clawmw.stores.memory",
    ),
    "stages never import one another": (
        "stages/guard/breaker.py",
        "import clawmw.stages.context.dedupe.stage",
    ),
    "no provider's SDK, and litellm only as an upstream": ("flow/call.py", "import openai"),
    "langgraph only where flows run": ("flow/plan.py", "import langgraph"),
    "langchain only in its adapter": ("langchain.py", "import langchain"),
    "pydantic-ai only in its adapter": ("pydantic_ai.py", "import pydantic_ai"),
    "a web server only in gateway, ui and emulator": ("cli/serve.py", "import uvicorn"),
    "diskcache only in the blob store": ("stores/disk.py", "import diskcache"),
    "aiohttp only in the gateway's client": ("adapters/transport.py", "import aiohttp"),
    "an agent framework only in its adapter": ("flow/call.py", "import agents"),
    "the MCP SDK only in its adapter": ("cli/mcp.py", "import mcp"),
}
"""One import a contract that breaks it: the file, and the line."""


@pytest.mark.slow
def test_each_contract_can_break(tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "clawmw", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT.parent / "pyproject.toml", tmp_path)
    assert linted(tmp_path)[0] == 0
    for file, line in FORBIDDEN.values():
        path = tmp_path / "clawmw" / file
        path.write_text(f"{path.read_text()}\n{line}\n")
    code, said = linted(tmp_path)
    assert code != 0
    broken = {row.partition(" BROKEN")[0] for row in said.splitlines() if " BROKEN" in row}
    assert broken >= set(FORBIDDEN)
    assert f"{len(FORBIDDEN)} broken" in said, "a contract is not in this test"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import clawmw") & (
        HEAVY | {"httpx", "httpx2", "pydantic", "yaml", "rich", "click"}
    )


def test_a_call_through_the_transport_loads_no_framework() -> None:
    code = (
        "import clawmw, httpx\n"
        "inner = httpx.MockTransport(lambda r: httpx.Response(200, json={'choices': "
        "[{'message': {'role': 'assistant', 'content': 'hi'}, 'finish_reason': 'stop'}]}))\n"
        "c = clawmw.http_client({'version': 1, 'trace': 'off'}, transport=inner)\n"
        "r = c.post('http://x/v1/chat/completions', json={'model': 'm', 'messages': "
        "[{'role': 'user', 'content': 'x'}]})\n"
        "assert r.json()['choices'][0]['message']['content'] == 'hi'"
    )
    assert not loaded_by(code) & HEAVY


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages([str(ROOT)], "clawmw."):
        yield module.name


@pytest.mark.parametrize("name", list(modules()))
def test_every_module_says_what_it_is_and_lists_what_it_gives(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"needs the extra of {error.name}")
    names = getattr(module, "__all__", None)
    if names is None or set(names) == set(getattr(module, "_HOMES", ())):
        return  # loaded when first used
    assert len(set(names)) == len(names)
    for public in names:
        try:
            assert getattr(module, public) is not None or public in vars(module)
        except ModuleNotFoundError as missing:
            if str(missing.name).partition(".")[0] not in EXTRAS:
                raise


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(clawmw.__all__) == sorted(clawmw.__all__)
    for name in clawmw.__all__:
        assert getattr(clawmw, name)
    with pytest.raises(AttributeError):
        _ = clawmw.nothing_of_the_kind


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many it takes, keyword-only ones too, `self` and `cls` not."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len(given) - (bool(given) and given[0].arg in ("self", "cls"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    source = path.read_text()
    length = source.count("\n")
    assert length <= RATCHET.get(name, {}).get("lines", 400), f"{name} has {length} lines"
    tree = ast.parse(source)
    if source.strip():
        assert ast.get_docstring(tree) or not tree.body, f"{name} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            key = f"{name}:{node.name}"
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= RATCHET.get(key, {}).get("lines", 80), f"{key} has {lines} lines"
            count = parameters(node)
            most = RATCHET.get(key, {}).get("parameters", MOST_PARAMETERS)
            assert count <= most, f"{key} takes {count}"


def test_the_ratchet_has_reasons_and_no_slack() -> None:
    for name, entry in RATCHET.items():
        assert entry["why"]
        path = ROOT / name.partition(":")[0]
        assert path.exists(), f"{name} is gone: take it out of the ratchet"
        if ":" not in name:
            assert path.read_text().count("\n") > 400, f"{name} fits now: take it out"
            continue
        wanted = name.partition(":")[2]
        most = max(
            parameters(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == wanted
        )
        if "parameters" in entry:
            assert MOST_PARAMETERS < most == entry["parameters"], f"{name} fits now: take it out"


def test_no_pickle_no_eval_no_unsafe_yaml() -> None:
    banned = ("import pickle", "pickle.load", "eval(", "exec(", "yaml.load(", "yaml.unsafe")
    for path in FILES:
        text = path.read_text()
        for word in banned:
            for line in text.splitlines():
                code = line.split("#")[0]
                said = f"`{word}" in code or '"""' in code or "Loader=loader" in code
                assert word not in code or said, f"{path}: {line}"


def test_a_missing_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import clawmw.langchain as ours

    monkeypatch.delitem(sys.modules, "clawmw.adapters.langchain", raising=False)
    for name in [n for n in sys.modules if n.partition(".")[0] == "langchain"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain", None)
    monkeypatch.setitem(sys.modules, "langchain.agents", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "clawmw\[langchain\]"'):
        _ = ours.Middleware
    with pytest.raises(AttributeError, match=r"'clawmw\.langchain' has no attribute 'nothing'"):
        _ = ours.nothing
