"""The processes of one round: they begin at one instant, answer once, and none outlives the block that started them.

    with Crew(work, [(1,), (2,)]) as crew:       # work(start, number): calls start() once it is ready, returns its answer
        begun_s = crew.begin()
        found = crew.answers()

Each has a line of its own, so that one which is killed in the middle of a word spoils nobody else's. Ctrl-C is for the
parent alone: it ends the block, and the block ends them; the kernel does when the parent is killed. They are forked from a
process that has loaded everything and opened nothing, so that a round does not begin with half a minute of imports.
"""

import ctypes
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

PATIENCE_S = 120.0  # for all to be ready on a loaded machine
LONGEST_S = 1_800.0  # of one round
SOON_S = 0.3  # from the word to the instant
END_S = 10.0
DIE_WITH_PARENT = 1  # prctl
LOADED = [
    "longwatch.surface.opened",
    "longwatch.surface.wrapping",
    "bench._limits_pace",
    "bench._limits_outage",
    "bench._limits_urgent",
    "bench._limits_heavy",
    "bench._limits_killed",
    "anthropic",
    "limits",
    "pyrate_limiter",
    "throttled",
    "redis",
]

Line = Connection
AUTHORIZED = {"Authorization": "Bearer sk_test_sandbox"}


class Start:
    """Handed to each process: the call says that it is ready and returns at the instant at which all begin."""

    def __init__(self, line: "Line[Any, Any]") -> None:
        self._line = line

    def __call__(self) -> float:
        """The instant, in seconds of time.monotonic, which all processes of a machine share."""
        self._line.send(None)
        at_s: float = self._line.recv()
        time.sleep(max(0.0, at_s - time.monotonic()))
        return at_s


def enlisted(work: Callable[..., Any], line: "Line[Any, Any]", given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    line.send(work(Start(line), *given))


class Crew:
    def __init__(self, work: Callable[..., Any], given: Sequence[tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        self._lines: list[Line[Any, Any]] = []
        self._members = []
        for one in given:
            ours, theirs = context.Pipe()
            member = context.Process(target=enlisted, args=(work, theirs, one), daemon=True)
            self._lines.append(ours)
            self._members.append((member, theirs))

    def __enter__(self) -> Self:
        try:
            for member, theirs in self._members:
                member.start()
                theirs.close()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(patience_s=END_S if kind is None else 0.0)

    def begin(self) -> float:
        """Wait until all are ready; the instant at which they begin. Errors: RuntimeError."""
        for line in self._lines:
            self._hear(line, PATIENCE_S)
        at_s = time.monotonic() + SOON_S
        for line in self._lines:
            line.send(at_s)
        return at_s

    def answers(self) -> list[Any]:
        """Of each, in the order they were given. Errors: RuntimeError when one died or is too slow."""
        return [self._hear(line, LONGEST_S) for line in self._lines]

    def survivors(self) -> list[Any]:
        """As `answers`, of those that have not been killed. Errors: RuntimeError when one died of anything else."""
        found: list[Any] = []
        for line, (member, _) in zip(self._lines, self._members, strict=True):
            try:
                found.append(self._heard(line, LONGEST_S))
            except (EOFError, ConnectionResetError) as error:
                member.join(END_S)
                if member.exitcode != -signal.SIGKILL:
                    raise RuntimeError("a process of the bench died by itself; what it wrote stands above") from error
        return found

    def _hear(self, line: "Line[Any, Any]", patience_s: float) -> Any:
        try:
            return self._heard(line, patience_s)
        except (EOFError, ConnectionResetError) as error:
            raise RuntimeError("a process of the bench died; what it wrote stands above") from error

    def _heard(self, line: "Line[Any, Any]", patience_s: float) -> Any:
        if not line.poll(patience_s):
            raise RuntimeError(f"a process of the bench said nothing for {patience_s:.0f} s")
        return line.recv()

    def end(self, patience_s: float = 0.0) -> None:
        until_s = time.monotonic() + patience_s
        for member, _ in self._members:
            if member.pid is not None:
                member.join(max(0.0, until_s - time.monotonic()))
                member.kill()
                member.join(END_S)
        for line in self._lines:
            line.close()


class Api:
    """One connection to the sandbox's Stripe, whose every request takes one unit of its bucket."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._path = parts.path
        self._http = HTTPConnection(parts.hostname, parts.port, timeout=60)
        self._http.connect()

    def get(self) -> int:
        """The status."""
        return self._ask("GET", "/v1/customers?limit=1", None, {})

    def pay(self, key: str) -> int:
        """The status of a payment that costs a fee, once for each key."""
        body = "amount=1200&currency=gbp&confirm=true&payment_method=pm_card_visa"
        form = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key}
        return self._ask("POST", "/v1/payment_intents", body, form)

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> int:
        self._http.request(method, self._path + path, body, AUTHORIZED | headers)
        reply = self._http.getresponse()
        reply.read()
        return reply.status


def at(values: Sequence[float], percent: int) -> float:
    """The percentile, by nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def shared(whole: int, processes: int) -> list[int]:
    """Equal shares, as far as it goes."""
    return [whole // processes + (place < whole % processes) for place in range(processes)]
