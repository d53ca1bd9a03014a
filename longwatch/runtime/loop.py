"""The only module that sleeps.

A part that has to wait for something calls `wait_for(attempt, ...)`: the attempt says when it wants to be asked again,
the sleeper sleeps, woken early by the doorbell. Simulation brings a sleeper whose time is virtual.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")
FOREVER_MS = 1 << 62


class Sleeper(Protocol):
    """How the parts of one process pass time. Instants are the world's steady milliseconds."""

    def sleep_until(self, steady_ms: int) -> None:
        """Return at the instant, not before; at once when it has passed."""
        ...

    def wait_for_ring(self, bell: "Bell | None", steady_ms: int) -> bool:
        """Return when the bell rings (True) or at the instant (False)."""
        ...

    def wait_for_flag(self, flag: threading.Event, steady_ms: int) -> bool:
        """Return when the flag is set (True) or at the instant (False)."""
        ...

    def wait_readable(self, descriptors: Sequence[int], steady_ms: int) -> list[int]:
        """The descriptors that can be read, once one of them can; none at the instant."""
        ...

    def start(self, name: str, work: Callable[[], None]) -> "Joinable":
        """Run `work` beside the caller, in a thread that does not keep the process alive."""
        ...


class Joinable(Protocol):
    def join(self, timeout: float | None = None) -> None: ...


class Bell(Protocol):
    """A doorbell, which wakes one sleeper of this process. It hangs only while its owner is idle."""

    @property
    def descriptor(self) -> int:
        """Can be read when the bell has rung."""
        ...

    def heed(self) -> None:
        """Take in the rings that woke the owner."""
        ...

    def silence(self) -> None:
        """Take the bell down; it cannot be rung any more."""
        ...


class Bells(Protocol):
    """The doorbells of everybody who shares a state."""

    def hang(self, owner: str) -> Bell | None:
        """A bell for an idle owner. None: it cannot be had, and he has to look by himself."""
        ...

    def ring(self, *, most: int) -> int:
        """Ring up to `most` of the bells that hang; how many rang."""
        ...


class Fifo:
    """A bell that anybody on this host may ring: a FIFO in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(self.path, 0o600)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def heed(self) -> None:
        os.read(self.descriptor, 4096)

    def silence(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


@dataclass(frozen=True)
class Fifos:
    """Bells of one host: `ring` finds idle owners by listing the folder, and takes down the bells of those who died."""

    folder: Path

    def hang(self, owner: str) -> Fifo | None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            return Fifo(self.folder / owner)
        return None

    def ring(self, *, most: int) -> int:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return 0
        rung = 0
        for name in names:
            if rung >= most:
                break
            rung += ring_one(self.folder / name)
        return rung


def ring_one(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        path.unlink(missing_ok=True)  # nobody listens: its owner was killed
        return False
    try:
        os.write(descriptor, b"!")
    except BlockingIOError:
        pass  # full of rings that its owner has not read yet: it will wake
    finally:
        os.close(descriptor)
    return True


class Threads:
    """The real sleeper."""

    def __init__(self, steady_ms: Callable[[], int]) -> None:
        self._steady_ms = steady_ms

    def sleep_until(self, steady_ms: int) -> None:
        while (left := steady_ms - self._steady_ms()) > 0:
            time.sleep(min(left / 1000, 3600))

    def wait_for_ring(self, bell: Bell | None, steady_ms: int) -> bool:
        if bell is None:
            self.sleep_until(steady_ms)
            return False
        if not self.wait_readable([bell.descriptor], steady_ms):
            return False
        bell.heed()
        return True

    def wait_readable(self, descriptors: Sequence[int], steady_ms: int) -> list[int]:
        left = min(max(0, steady_ms - self._steady_ms()), 3_600_000)
        return select.select(descriptors, [], [], left / 1000)[0]

    def wait_for_flag(self, flag: threading.Event, steady_ms: int) -> bool:
        return flag.wait(max(0, steady_ms - self._steady_ms()) / 1000)

    def start(self, name: str, work: Callable[[], None]) -> Joinable:
        thread = threading.Thread(target=work, name=f"longwatch-{name}", daemon=True)
        thread.start()
        return thread


class Retry:
    """An attempt's answer that means: not yet, ask again at `at_ms` (steady)."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms


def wait_for(
    attempt: Callable[[], "T | Retry"], *, sleeper: Sleeper, until_ms: int, bell: Bell | None = None
) -> "T | None":
    """Ask until the attempt has an answer or the instant `until_ms` has passed (None)."""
    while isinstance(answer := attempt(), Retry):
        if answer.at_ms > until_ms:
            sleeper.wait_for_ring(bell, until_ms)
            last = attempt()
            return None if isinstance(last, Retry) else last
        sleeper.wait_for_ring(bell, answer.at_ms)
    return answer
