"""Makes the faults: hears where every worker is, and kills, freezes and wakes them at the places that were planned.

A worker that tells where it is waits for leave (marks.py), so a fault strikes exactly there. All get their first leave
together, once every worker is there: the clock of both programs starts with everybody at work. Who speaks is asked of the
kernel, never of the message; only processes that the demo started are ever signalled.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from longwatch.demo.trace import Event, Seen, Trace

TICK_S = 0.05
GATHER_S = 20.0  # how long those who are there wait for the others; less than their patience
CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True)
class Fault:
    """From at_s on, the next worker that comes to `place` is killed, or stopped for `seconds`."""

    at_s: float
    kind: Literal["kill", "freeze"]
    place: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Outage:
    """From at_s on the service answers `status` for `seconds`."""

    at_s: float
    service: Literal["anthropic", "stripe"]
    status: int
    seconds: float


@dataclass
class Director:
    """One column's. path: of the socket where workers report. workers: how many there will be. outage: sets it at the
    sandbox. ours: whether the pid is a worker of ours."""

    path: Path
    trace: Trace
    workers: int
    faults: list[Fault]
    outages: list[Outage]
    outage: Callable[[Sequence[Outage]], None]
    ours: Callable[[int], bool]
    began: "float | None" = None
    gathering: "list[_Line]" = field(default_factory=list["_Line"])
    gather_until: float = 0.0
    frozen: "dict[int, tuple[float, _Line]]" = field(default_factory=dict[int, "tuple[float, _Line]"])
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Director":
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._direct, name="director", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self._thread.join()
        for _, line in list(self.frozen.values()):
            self._thaw(line)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.data.close()
        self._selector.close()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def now_s(self) -> float:
        """Seconds since everybody was there."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _direct(self) -> None:
        while not self.over.is_set():
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj is self._listener:
                    self._welcome()
                else:
                    self._hear(key.data)
            self._keep_time()

    def _keep_time(self) -> None:
        if self.began is None:
            self._gather()
            return
        now_s = self.now_s()
        for line in [line for until_s, line in self.frozen.values() if until_s <= now_s]:
            self._thaw(line)
        due = [outage for outage in self.outages if outage.at_s <= now_s]
        if due:
            self.outages = [outage for outage in self.outages if outage not in due]
            self.outage(due)
            for outage in due:
                until_s = now_s + outage.seconds
                self.trace.tell(Event(now_s, "outage", place=outage.service, until_s=until_s))

    def _welcome(self) -> None:
        line, _ = self._listener.accept()
        pid = _pid_of(line)
        if not self.ours(pid):
            line.close()
            return
        with contextlib.suppress(ProcessLookupError):  # it is gone already
            self._selector.register(line, selectors.EVENT_READ, _Line(line, pid, os.pidfd_open(pid)))
            self.trace.come(pid)

    def _gather(self) -> None:
        """Let everybody begin when all have come, or the first has waited long enough."""
        if not self.gathering:
            self.gather_until = time.monotonic() + GATHER_S
        elif len(self.gathering) >= self.workers or time.monotonic() >= self.gather_until:
            self.began = time.monotonic()
            for line in self.gathering:
                self.trace.see(Seen(0.0, line.pid, line.place, line.module, line.status))
                line.give_leave()
            self.gathering = []

    def _hear(self, line: "_Line") -> None:
        try:
            text = line.socket.recv(4096)
        except OSError:
            text = b""
        if not text:
            self._selector.unregister(line.socket)
            self._left(line)
            line.close()
            return
        place, module, status = json.loads(text)
        line.place, line.module, line.status = place, module, status
        if self.began is None:
            self.gathering.append(line)
            return
        self.trace.see(Seen(self.now_s(), line.pid, place, module, status))
        if not self._strike(line):
            line.give_leave()

    def _left(self, line: "_Line") -> None:
        """A worker has gone: as it should, by the director's hand, or by somebody else's."""
        now_s = self.now_s()
        self.trace.go(line.pid, now_s)
        self.frozen.pop(line.pid, None)
        self.gathering = [other for other in self.gathering if other is not line]
        if line.place != "idle" and not line.killed:
            self.trace.tell(Event(now_s, "died", line.pid, line.place, line.module))

    def _strike(self, line: "_Line") -> bool:
        """Whether the worker was killed here. A stopped one gets its leave, to use when it wakes."""
        now_s = self.now_s()
        fault = next((f for f in self.faults if f.at_s <= now_s and f.place == line.place), None)
        if fault is None or line.status >= 300 or self.frozen:  # one thing at a time, so that each can be seen
            return False
        self.faults.remove(fault)
        line.killed = fault.kind == "kill"
        kind: Literal["killed", "frozen"] = "killed" if line.killed else "frozen"
        self.trace.tell(Event(now_s, kind, line.pid, line.place, line.module, now_s + fault.seconds))
        if not line.killed:
            self.frozen[line.pid] = (now_s + fault.seconds, line)
        line.signal(signal.SIGKILL if line.killed else signal.SIGSTOP)
        return line.killed

    def _thaw(self, line: "_Line") -> None:
        self.frozen.pop(line.pid, None)
        line.signal(signal.SIGCONT)
        self.trace.tell(Event(self.now_s(), "thawed", line.pid))


@dataclass
class _Line:
    """The connection of one worker."""

    socket: socket.socket
    pid: int
    process: int
    place: str = "idle"
    module: str = ""
    status: int = 0
    killed: bool = False

    def give_leave(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(b"!")

    def signal(self, number: signal.Signals) -> None:
        """Through a descriptor of the process, so that no later one with its number is meant."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def close(self) -> None:
        self.socket.close()
        os.close(self.process)


def _pid_of(line: socket.socket) -> int:
    pid, _, _ = CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return int(pid)
