"""The sandbox from outside: where it is, what it has seen, and a child process of one's own.

with started(Settings()) as sandbox:
    subprocess.run([...], env={**os.environ, **sandbox.env()})
    assert sandbox.counts()["anthropic"]["statuses"] == {"200": 12}
"""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec

from longwatch.sandbox.faults import Fault
from longwatch.sandbox.server import base_urls
from longwatch.sandbox.settings import Settings
from longwatch.sandbox.tally import Event

START_S = 30.0
STOP_S = 5.0
CONTROL_S = 30.0


class Sandbox:
    """A running sandbox. Every method is one request to its control plane; a refusal raises ValueError with its text."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.base_urls = base_urls(self.url)
        self._http = httpx.Client(base_url=f"{self.url}/_sandbox", timeout=CONTROL_S, trust_env=False)

    def env(self) -> dict[str, str]:
        """The variables by which the SDKs and the `claude` command find the sandbox, with dummy keys."""
        return {
            "ANTHROPIC_BASE_URL": self.base_urls["anthropic"],
            "ANTHROPIC_API_KEY": "sk-ant-sandbox",
            "OPENAI_BASE_URL": self.base_urls["openai"] + "/v1",
            "OPENAI_API_KEY": "sk-sandbox",
            "STRIPE_API_BASE": self.base_urls["stripe"],
            "STRIPE_API_KEY": "sk_test_sandbox",
            "GITHUB_API_URL": self.base_urls["github"],
            "GITHUB_TOKEN": "ghp_sandbox",
        }

    def counts(self) -> dict[str, Any]:
        """By service: requests, statuses, endpoints. Status "0" is a reply that was dropped."""
        return self._read("/counts")

    def bill(self) -> dict[str, Any]:
        """By service: currency, micros, and micros by key and by model."""
        return self._read("/bill")

    def effects(self) -> dict[str, Any]:
        """What was made: charges, payment_intents, customers, issues, comments, answers; each with its order."""
        return self._read("/effects")

    def events(self, since: int = 0) -> list[Event]:
        """Requests in order, from number `since` on; the last 200,000 are kept."""
        return msgspec.convert(self._read(f"/events?since={since}")["events"], list[Event])

    def faults(self, faults: Sequence[Fault | dict[str, Any]]) -> None:
        """Replace the faults that are set."""
        self._ask("POST", "/faults", list(faults))

    def set_faults(self) -> list[dict[str, Any]]:
        """The faults that are set, with how often each was looked at and hit."""
        return msgspec.json.decode(self._ask("GET", "/faults"), type=list[dict[str, Any]])

    def clear_faults(self) -> None:
        self._ask("DELETE", "/faults")

    def limits(self, **services: dict[str, Any]) -> dict[str, Any]:
        """Replace single settings, `limits(stripe={"requests": {"amount": 50, "per_ms": 1000}})`; returns them all."""
        return msgspec.json.decode(self._ask("POST", "/limits", services), type=dict[str, Any])

    def reset(self) -> None:
        """Forget everything, back to the settings of the start."""
        self._ask("POST", "/reset")

    def close(self) -> None:
        self._http.close()

    def _read(self, path: str) -> dict[str, Any]:
        return msgspec.json.decode(self._ask("GET", path), type=dict[str, Any])

    def _ask(self, method: str, path: str, value: Any = None) -> bytes:
        reply = self._http.request(method, path, content=None if value is None else msgspec.json.encode(value))
        if reply.is_error:
            raise ValueError(f"sandbox {method} {path}: {reply.text}")
        return reply.content


class Announced(msgspec.Struct):
    """The line that a server prints once it listens."""

    url: str


class SandboxDied(RuntimeError):
    """The child ended or stayed silent before it listened. The message holds what it wrote; correct the settings."""

    code = "sandbox_died"


@contextmanager
def started(settings: Settings | None = None, log: Path | None = None) -> Generator[Sandbox]:
    """A sandbox in a child process on a free loopback port, for the length of a with block.

    The child ends with the block and with this process, however that ends: it watches a pipe from here.
    log: a file for what the child writes to stderr.
    """
    with log.open("ab+") if log else tempfile.TemporaryFile() as errors:
        child = _spawn(settings or Settings(), errors)
        try:
            sandbox = Sandbox(_url(child, errors))
            try:
                yield sandbox
            finally:
                sandbox.close()
        finally:
            _stop(child)


def _spawn(settings: Settings, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    text = msgspec.json.encode(settings).decode()
    command = [sys.executable, "-m", "longwatch.sandbox", "--until-eof", "--settings", text]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)


def _url(child: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """The address from the child's first line."""
    assert child.stdout is not None
    line, deadline = b"", time.monotonic() + START_S
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(child.stdout.fileno(), 4_096) if ready else b""
        if not piece:
            errors.seek(0)
            raise SandboxDied(f"no sandbox within {START_S:.0f} s: {errors.read().decode(errors='replace').strip()}")
        line += piece
    return msgspec.json.decode(line, type=Announced).url


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Asked by its pid, and by the end of its input; then not asked."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
