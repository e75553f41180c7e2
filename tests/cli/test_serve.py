"""`clawmw serve` as a process."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from clawmw.cli.main import main
from clawmw.emulator import Emulator, Fault

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "ping pong ping pong"}]}
POLICY = "version: 1\ntrace: off\n"
COMMAND = [sys.executable, "-m", "clawmw.cli.main", "serve"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@contextmanager
def serving(*args: object, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        found = re.search(r"export OPENAI_BASE_URL=(https?://127\.0\.0\.1:\d+/v1) ", second.strip())
        try:
            assert found, (first, second, process.stderr.read())
            assert found[1].removesuffix("/v1") in first
            yield found[1], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(10)


Failing = Callable[..., str]


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Failing:
    """What a command that cannot start says: nothing on stdout, exit code 1."""

    def run(*args: object) -> str:
        assert main(["serve", *map(str, args)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return run


def test_it_answers_and_stops_with_exit_code_0(policy: Path) -> None:
    with Emulator() as provider:
        with serving("--policy", policy, "--upstream", provider.base_url) as (url, process):
            secret = {"authorization": "Bearer sk-secret"}
            address = f"{url}/chat/completions?key=sk-query"
            answer = httpx.post(address, json=ASK, headers=secret).json()
            httpx.post(address, content=b"{", headers={"content-type": "application/json"})
            process.send_signal(signal.SIGTERM)
            assert process.communicate() == ("", "")  # no access log, no secret, no traceback
        assert process.returncode == 0
        assert answer["choices"][0]["message"]["content"] == "ping pong ping pong"
        assert [r.status for r in provider.requests] == [200, 400]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_under_way_is_finished_first(policy: Path, number: int) -> None:
    with (
        Emulator() as provider,
        serving("--policy", policy, "--upstream", provider.base_url) as (url, process),
    ):
        provider.fail_next(Fault(chunk_delay=0.15))
        with httpx.stream("POST", f"{url}/chat/completions", json={**ASK, "stream": True}) as open_:
            chunks = open_.iter_text()
            seen = next(chunks)
            process.send_signal(number)
            seen += "".join(chunks)
        assert "[DONE]" in seen
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "clawmw: finishing 1 call; Ctrl-C again ends at once\n"


def test_a_second_signal_ends_at_once(policy: Path) -> None:
    with (
        Emulator() as provider,
        serving("--policy", policy, "--upstream", provider.base_url) as (url, process),
    ):
        provider.fail_next(Fault(chunk_delay=30))
        ask = {**ASK, "stream": True}
        waiting = threading.Thread(target=_until_broken, args=(f"{url}/chat/completions", ask))
        waiting.start()
        while not provider.requests:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "finishing 1 call" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
        waiting.join(5)


def _until_broken(url: str, ask: object) -> None:
    try:
        httpx.post(url, json=ask, timeout=10)
    except httpx.TransportError:
        return


def test_a_token_from_the_environment(policy: Path) -> None:
    token = "0123456789abcdef" * 3
    args = ("--policy", policy, "--upstream", "http://127.0.0.1:1/v1", "--token-env", "GATE")
    with serving(*args, GATE=token) as (url, _):
        health = url.removesuffix("/v1") + "/healthz"
        assert httpx.get(health).status_code == 401
        assert httpx.get(health, headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_a_port_in_use_is_one_line(policy: Path, failing: Failing) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = failing("--policy", policy, "--port", port, "--upstream", "http://127.0.0.1:1/v1")
    assert said == (
        f"clawmw: port {port} is in use on 127.0.0.1; choose another --port, or end what holds it\n"
    )


def test_a_broken_policy_is_said_as_validate_says_it(
    tmp_path: Path, failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\ncompres: balanced\n")
    said = failing("--policy", path, "--port", 0)
    main(["validate", str(path)])
    assert said == capsys.readouterr().err
    assert said.startswith(f"{path}:2: compres: unknown section")
    missing = failing("--policy", tmp_path / "none.yaml", "--port", 0)
    assert "there is no such file" in missing
    assert missing.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "there is nowhere to send calls: give --upstream URL"),
        (["--upstream", "localhost:9000"], "--upstream: expected a base URL such as"),
        (["--upstream", "http://user:hunter2@h/v1"], "without user"),
        (["--upstream", "http://h/v1", "--host", "0.0.0.0"], "give --token-env NAME"),
        (["--upstream", "http://h/v1", "--host", "::"], "give --token-env NAME"),
        (["--upstream", "http://h/v1", "--token-env", "NO_SUCH"], "must hold at least 32"),
        (["--upstream", "http://h/v1", "--token-env", "SHORT"], "must hold at least 32"),
        (
            [
                "--upstream",
                "http://h/v1",
                "--host",
                "nowhere.invalid",
                "--token-env",
                "LONG",
                "--behind-proxy",
            ],
            "this machine knows no such address",
        ),
    ],
)
def test_what_cannot_be_started_is_one_clear_line(
    policy: Path,
    failing: Failing,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    says: str,
) -> None:
    monkeypatch.setenv("SHORT", "hunter2")
    monkeypatch.setenv("LONG", "x" * 40)
    said = failing("--policy", policy, "--port", 0, *args)
    assert says in said
    assert said.startswith("clawmw: ")
    assert said.count("\n") == 1
    assert "hunter2" not in said


def test_wrong_usage_is_exit_code_2(policy: Path) -> None:
    assert main(["serve", "--policy", str(policy)]) == 2
    assert main(["serve", "--policy", str(policy), "--port", "0", "--allow-host", "a:1"]) == 2


def test_it_does_not_call_itself(policy: Path, failing: Failing) -> None:
    with socket.socket(proto=socket.IPPROTO_TCP) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = failing("--policy", policy, "--port", port, "--upstream", f"http://localhost:{port}/v1")
    assert "is this gateway itself" in said


def test_models_of_the_policy_are_served(tmp_path: Path) -> None:
    with Emulator() as provider:
        path = tmp_path / "policy.yaml"
        path.write_text(
            f"{POLICY}models:\n  local: {{model: qwen3, base_url: '{provider.base_url}'}}\n"
        )
        with serving("--policy", path) as (url, _):
            httpx.post(f"{url}/chat/completions", json={**ASK, "model": "local"})
            names = httpx.get(f"{url}/models").json()["data"]
        assert [n["id"] for n in names] == ["local"]
        assert provider.requests[0].body == {**ASK, "model": "qwen3"}


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 and its key in one file, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509", reason="makes the certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clawmw test")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "cert.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path.write_bytes(key.private_bytes(pem, *form) + made.public_bytes(pem))
    return path


def test_it_serves_tls(policy: Path, certificate: Path) -> None:
    with (
        Emulator() as provider,
        serving("--policy", policy, "--upstream", provider.base_url, "--tls-cert", certificate) as (
            url,
            _,
        ),
    ):
        assert url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusting) as client:
            assert client.post(f"{url}/chat/completions", json=ASK).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))


def test_other_machines_need_a_token_and_tls_or_a_word(
    failing: Failing, policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("T", "t" * 43)
    about = ["--policy", policy, "--port", 0, "--host", "0.0.0.0", "--upstream", "http://h/v1"]
    assert "--token-env" in failing(*about)
    assert "in the clear" in failing(*about, "--token-env", "T")
    (tmp_path / "no.pem").write_text("nothing")
    assert "no.pem" in failing(*about, "--token-env", "T", "--tls-cert", tmp_path / "no.pem")
