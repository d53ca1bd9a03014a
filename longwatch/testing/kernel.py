"""The lock of a simulated root: who has it, who waits in what order, and what becomes of one who stands still inside."""

from collections.abc import Callable
from typing import Protocol

from longwatch.testing.virtual import Driver, Strand

STOPPED_MS = 1_000  # how long a process may stand still inside before those who wait end it


class Holder(Protocol):
    """A simulated process, as the kernel sees it."""

    on_death: list[Callable[[], None]]

    @property
    def paused(self) -> bool: ...
    def alive(self) -> None: ...
    def kill(self, why: str) -> None: ...


class KernelLock:
    """What the kernel keeps of a file lock: who has it, and who waits, in order."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.holder: Holder | None = None
        self.waiting: list[Strand] = []

    def take(self, process: Holder, killed: list[int]) -> None:
        while self.holder is not None:
            strand = self.driver.running
            assert strand is not None
            self.waiting.append(strand)
            holder, seen_paused = self.holder, self.holder.paused
            try:
                self.driver.wait_until(self.driver.now_ms + STOPPED_MS)
            finally:
                if strand in self.waiting:
                    self.waiting.remove(strand)
            if self.holder is holder and seen_paused and holder.paused:
                killed.append(1 + len(killed))
                holder.kill("stopped in the root's lock")
        self.holder = process

    def give(self, process: Holder) -> None:
        if self.holder is process:
            self.holder = None
            if self.waiting:
                self.driver.wake(self.waiting.pop(0))


class VirtualRootLock:
    """runtime.root.RootLock."""

    def __init__(self, process: Holder, lock: KernelLock) -> None:
        self._process, self._lock, self._killed = process, lock, list[int]()
        self._suspect: tuple[Holder, int] | None = None
        process.on_death.append(lambda: self._lock.give(process))

    def __enter__(self) -> None:
        self._process.alive()
        self._lock.take(self._process, self._killed)

    def __exit__(self, *_: object) -> None:
        self._lock.give(self._process)

    def look(self, now_ms: int) -> None:
        holder = self._lock.holder
        if holder is None or not holder.paused:
            self._suspect = None
        elif self._suspect is None or self._suspect[0] is not holder:
            self._suspect = (holder, now_ms)
        elif now_ms - self._suspect[1] >= STOPPED_MS:
            self._killed.append(1 + len(self._killed))
            holder.kill("stopped in the root's lock, seen from the line")

    def killed(self) -> list[int]:
        found, self._killed[:] = list(self._killed), []
        return found

    def close(self) -> None: ...
