"""Where the workers are: each says at every turn what it is about to do, and waits for leave to go on.

This is the demo's only hook in its two programs. Because the director may kill or stop a process before it gives leave, a
fault strikes at the very place that it is meant for. Without a director there is nothing to wait for, and a director that
is silent for PATIENCE_S is forgotten: the work goes on without it.
"""

import contextlib
import json
import os
import socket
import threading
from typing import Literal

VARIABLE = "LONGWATCH_DEMO_MARKS"
PATIENCE_S = 30.0

Place = Literal[
    "waiting",  # for a turn, a lock or a lease
    "claude",
    "claude-answered",  # and not noted anywhere yet
    "stripe",
    "stripe-answered",
    "github",
    "github-answered",
    "editing",  # the first of several files is written
    "booked",
    "idle",
]

Called = Literal["claude", "stripe", "github"]
ANSWERED: dict[Called, Place] = {"claude": "claude-answered", "stripe": "stripe-answered", "github": "github-answered"}

_guard = threading.Lock()
_line: "socket.socket | None" = None
_given_up = False


def at(place: Place, module: str = "", status: int = 0) -> None:
    """This process is at `place` with its task for `module`. status: of the answer that brought it there."""
    global _line, _given_up
    with _guard:
        if _given_up or VARIABLE not in os.environ:
            return
        try:
            _line = _line or _connect(os.environ[VARIABLE])
            _line.sendall(json.dumps([place, module, status]).encode() + b"\n")
            if _line.recv(1) != b"!":
                raise ConnectionError("the director has gone")
        except OSError:
            _given_up = True
            if _line is not None:
                with contextlib.suppress(OSError):
                    _line.close()


def _connect(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(PATIENCE_S)
    line.connect(path)
    return line
