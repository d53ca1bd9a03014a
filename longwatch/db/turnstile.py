"""One writer at a time, in turn: a kernel file lock (flock) in front of SQLite's own.

SQLite's busy handler is unfair: of 15 writers one did 19,871 times the work of another. A blocking flock hands the lock
on in order. To be woken takes as long as half a commit, so whoever is next in line (a second lock on the same file says
who) does not sleep but asks again and again, for about as long as a commit takes.

What both locks add is a new way to freeze: a process *stopped* (SIGSTOP, a debugger) inside, or next in line, stops
everybody. So whoever waits longer than `PATIENCE_S` asks the kernel who is in front (/proc/locks); one that is stopped
for `STOPPED_S` on end is killed through a pidfd, which cannot hit a successor of the same pid. One that is merely slow
(a stalling disk) is left alone. Each killing is kept in `killed` for the journal.

Without /proc/locks (not Linux) nothing is ever killed, and a stopped process blocks the others until it goes on.
"""

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ASKED_AGAIN = 200  # by the next in line, half a microsecond each
PATIENCE_S = 0.25
STOPPED_S = 1.0
QUIET_LOOKS = 20


@dataclass
class Turnstile:
    """`with turnstile:` - one thread of one process on this host is inside. Blocks without a bound; never re-entered."""

    path: Path
    killed: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(self.path, flags, 0o600)
        self._device = device_of(os.fstat(self.descriptor))
        self._waiting = 0
        self._asleep = False  # the watcher, until somebody waits; while it looks around, waiting costs no notice
        self._changed = threading.Condition()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> None:
        try:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._queue()
        except BaseException:  # an interrupt may come when the lock is held already
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        except BaseException:  # an interrupt on the way to the kernel
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            raise

    def close(self) -> None:
        """Give the descriptor back. The watcher ends by itself; it never uses the descriptor."""
        with self._changed:
            self._waiting = -1
            self._changed.notify_all()
        os.close(self.descriptor)

    def _queue(self) -> None:
        self._count(+1)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)  # next in line
            try:
                self._ask_again()
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
        finally:
            self._count(-1)

    def _ask_again(self) -> None:
        for _ in range(ASKED_AGAIN):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def _count(self, step: int) -> None:
        with self._changed:
            self._waiting += step
            if step == 1 and self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="longwatch-turnstile", daemon=True)
                self._watcher.start()
            elif step == 1 and self._asleep:
                self._changed.notify_all()

    def _watch(self) -> None:
        """While somebody waits, look at who is in front every `PATIENCE_S`; sleep once nobody has for a while."""
        suspect, seen, quiet = 0, 0.0, 0
        while (waiting := self._look_around(quiet >= QUIET_LOOKS)) >= 0:
            quiet = 0 if waiting else quiet + 1
            holder = next(filter(is_stopped, self._in_front()), 0) if waiting else 0
            if not holder:
                suspect, seen = 0, 0.0
                continue
            seen = seen + PATIENCE_S if holder == suspect else PATIENCE_S
            suspect = holder
            if seen >= STOPPED_S and self._kill(holder):
                suspect, seen = 0, 0.0

    def _look_around(self, quiet: bool) -> int:
        """Wait for a while (quiet: first until somebody waits); how many wait then, -1 when the turnstile is closed."""
        with self._changed:
            if quiet and self._waiting == 0:
                self._asleep = True
                self._changed.wait()
                self._asleep = False
            if self._waiting >= 0:
                self._changed.wait(PATIENCE_S)
            return self._waiting

    def _in_front(self) -> list[int]:
        """Who is inside, and who is next in line, of other processes."""
        found = [*lock_holders(self._device, kind="FLOCK"), *lock_holders(self._device, kind="POSIX")]
        return [pid for pid in found if pid != os.getpid()]

    def _kill(self, pid: int) -> bool:
        if kill_if_stopped(pid, still=lambda: pid in self._in_front()):
            self.killed.append(pid)
            return True
        return False


def device_of(status: os.stat_result) -> str:
    """The file as /proc/locks names it: major:minor:inode."""
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def flock_holder(descriptor: int) -> int:
    """The pid that holds the flock on this file, or 0: nobody, or the kernel does not tell."""
    return holder_on(device_of(os.fstat(descriptor)))


def holder_on(device: str) -> int:
    """As `flock_holder`, of the file `major:minor:inode`."""
    return next(iter(lock_holders(device, kind="FLOCK")), 0)


def lock_holders(device: str, *, kind: str) -> list[int]:
    """Pids with a granted lock of `kind` (FLOCK, POSIX) on the file `major:minor:inode`."""
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [int(row[4]) for row in rows if len(row) >= 6 and row[1] == kind and row[5] == device and int(row[4]) > 0]


def is_stopped(pid: int) -> bool:
    """Whether the process stands still by SIGSTOP or under a tracer (states T and t). A dead one is not stopped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in ("T", "t")


def kill_if_stopped(pid: int, *, still: Callable[[], bool]) -> bool:
    """SIGKILL the process if it is stopped and `still()` holds once its pidfd is open; whether it was sent."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if is_stopped(pid) and still():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                return True
        finally:
            os.close(handle)
    return False
