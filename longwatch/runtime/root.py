"""The folder that a fleet's files live under, reached so that no symbolic link in it leads out.

Paths are walked from the top by descriptors that do not follow links; a link anywhere in a path is refused, because a
file with two names could have two writers. Longwatch's own folder `.longwatch` below the root holds the lock, the
private copies (`staging`), the commits (`commits`) and what waits to be removed (`gone`), all on the root's file system.

The lock is a kernel lock on the file `.longwatch/root`, which also holds the folder's identity: a state that is opened
with another root leaves this one's commits alone. Whoever stands still for a second while it holds the lock is killed
by those who wait (see db/turnstile.py). A root belongs to one host.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
import weakref
from collections.abc import Generator
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from longwatch.db.place import refuse_remote
from longwatch.db.turnstile import STOPPED_S, Turnstile, device_of, holder_on, is_stopped, kill_if_stopped
from longwatch.errors import ConfigError, LongwatchError, StoreUnavailable
from longwatch.policy.paths import OWN
from longwatch.runtime.world import World

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LOOK_MS = 100
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)

_locks: "weakref.WeakSet[RootLock]" = weakref.WeakSet()


class RootLock:
    """`with lock:` - one thread of one process is inside. A forked child has to open the fleet again."""

    def __init__(self, path: Path) -> None:
        self._thread = threading.Lock()
        self._turnstile = Turnstile(path)
        self._device = device_of(os.fstat(self._turnstile.descriptor))
        self._ended = ""
        self._looked_ms, self._suspect = 0, (0, 0)  # pid, and since when it has been seen to stand still
        _locks.add(self)

    def __enter__(self) -> None:
        if self._ended:
            raise StoreUnavailable(f"this fleet {self._ended}", hint="Open it again with longwatch.open(...).")
        self._thread.acquire()
        try:
            self._turnstile.__enter__()
        except BaseException:
            self._thread.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._turnstile.__exit__()
        finally:
            self._thread.release()

    def look(self, now_ms: int) -> None:
        """For whoever waits for a lease: its holder may stand still inside, and then it is killed a second from now.

        Without this the second would only begin when the lease has run out and the lock is waited for.
        """
        if now_ms < self._looked_ms + LOOK_MS or self._ended:
            return
        self._looked_ms = now_ms
        holder = holder_on(self._device)
        if not holder or holder == os.getpid() or not is_stopped(holder):
            self._suspect = (0, 0)
        elif holder != self._suspect[0]:
            self._suspect = (holder, now_ms)
        elif now_ms >= self._suspect[1] + STOPPED_S * 1000 and self._kill(holder):
            self._turnstile.killed.append(holder)

    def _kill(self, pid: int) -> bool:
        return kill_if_stopped(pid, still=lambda: holder_on(self._device) == pid)

    def killed(self) -> list[int]:
        """Pids of the stopped holders that had to be killed since the last time this was asked."""
        found, self._turnstile.killed[:] = list(self._turnstile.killed), []
        return found

    def abandon(self) -> None:
        """In a forked child: let go of the parent's lock, which lives as long as anybody has its descriptor."""
        self._ended = "was opened before a fork"
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self._turnstile.descriptor, inheritable=False)
        os.close(null)

    def close(self) -> None:
        """Give back the descriptor; the lock is not used again."""
        with self._thread:
            self._ended = "is closed"
            _locks.discard(self)
            self._turnstile.close()


class Root:
    """path: absolute, without links. Makes `.longwatch` below it if that is absent. fleet: a short mark of its own.

    Folders of edits carry the fleet's mark: a second state over the same root (a test's, a new one after a reset) must
    not take them for its own dead. It is not kept from writing: a root should have one fleet.
    Errors: ConfigError when the root is no folder, StoreUnavailable when nothing can be made in it.
    """

    def __init__(self, path: Path, *, fleet: str, world: World) -> None:
        if not path.is_dir():
            raise ConfigError(
                f"the root {path} is not a folder", hint="Make it, or set [fleet] root in longwatch.toml."
            )
        self.path, self._mark = path, f".{fleet}"
        self.own = path / OWN
        self.staging, self.commits, self.gone = self.own / "staging", self.own / "commits", self.own / "gone"
        with told(str(self.own)):
            refuse_remote(path)
            for folder in (self.own, self.staging, self.commits, self.gone):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._ignore()
            self.lock = RootLock(self.own / "root")
            with self.lock:
                self.id = self._identify(world)
            self.device = os.stat(self.own).st_dev

    def staging_of(self, edit: str) -> str:
        """The folder of an edit's private copies."""
        return f"{self.staging}/{edit}{self._mark}"

    def commit_of(self, edit: str) -> str:
        """The folder of a commit's files, before they are put in place."""
        return f"{self.commits}/{edit}{self._mark}"

    def edits(self) -> set[str]:
        """Every edit of this fleet that has a folder here."""
        found = [entry.name for folder in (self.staging, self.commits) for entry in folder.iterdir()]
        return {name.removesuffix(self._mark) for name in found if name.endswith(self._mark)}

    def _ignore(self) -> None:
        with contextlib.suppress(FileExistsError), open(self.own / ".gitignore", "x", encoding="ascii") as file:
            file.write("*\n")

    def _identify(self, world: World) -> str:
        file = self.own / "root"
        known = file.read_text("ascii").strip()
        if known.startswith("root_") and len(known) == len(world.new_id("root")):
            return known
        made = world.new_id("root")
        with open(file, "w", encoding="ascii") as writing:  # in place: the lock is on this very file
            writing.write(made + "\n")
            writing.flush()
            os.fsync(writing.fileno())
        sync_folder(self.own)
        sync_folder(self.path)
        return made

    # -- one file ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def folder_of(self, target: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """A descriptor of the target's folder, and the target's name in it. make: make missing folders.

        Errors: FileNotFoundError when the folder is missing; ConfigError for a link or a file in the way.
        """
        *folders, name = target.split("/")
        at = os.open(self.path, FOLDER)
        try:
            for place, folder in enumerate(folders):
                if make:
                    _make_folder(at, folder)
                above, at = at, opened(folder, FOLDER, folder=at, path="/".join(folders[: place + 1]))
                os.close(above)
            yield at, name
        finally:
            os.close(at)

    def open(self, target: str) -> BufferedReader | None:
        """The file to read, or None when there is none. Errors: ConfigError when it is no ordinary file."""
        with told(target):
            try:
                with self.folder_of(target) as (folder, name):
                    return ordinary(opened(name, READ, folder=folder, path=target), target)
            except FileNotFoundError:
                return None

    def digest(self, target: str) -> str | None:
        """SHA-256 of the file's bytes, or None when there is none."""
        file = self.open(target)
        if file is None:
            return None
        with told(target), file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self, target: str) -> bytes | None:
        """The file's bytes, or None when there is none."""
        file = self.open(target)
        if file is None:
            return None
        with told(target), file:
            return file.read()


def ordinary(descriptor: int, target: str) -> BufferedReader:
    """The open descriptor as a file. Errors: ConfigError (and it is closed) for folders, pipes, devices."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{target} is not an ordinary file", hint="Only ordinary files can be read and edited.")
    return open(descriptor, "rb")


def sync_folder(folder: Path | str) -> None:
    """Names made, moved and removed in the folder survive a power cut from here on."""
    descriptor = os.open(folder, FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class told:
    """`with told(what):` - the system's refusals as StoreUnavailable, with what to do; FileNotFoundError passes."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, LongwatchError | FileNotFoundError):
            reason, hint = _reason(error)
            raise StoreUnavailable(f"{self._what}: {reason}", hint=hint) from error


def opened(name: str, flags: int, *, folder: int | None, path: str) -> int:
    """A descriptor of `name` in `folder` (a descriptor; None: name is a path). path: what the file is called in errors.

    Errors: ConfigError for a link, and for a file where a folder should be.
    """
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and _is_link(folder, name)):
            hint = "Name the file it points at: one file has one name, so that it has one writer."
            raise ConfigError(f"{path} is a symbolic link", hint=hint) from error
        if error.errno == errno.ENOTDIR:
            raise ConfigError(
                f"{path} is a file, not a folder", hint="Name a path whose folders are folders."
            ) from error
        raise


def _is_link(folder: int | None, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _make_folder(at: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=at)
        os.fsync(at)


def _reason(error: OSError) -> tuple[str, str]:
    if error.errno in FULL:
        return "the disk is full", "Free some space and repeat; nothing was written, nothing is lost."
    if error.errno in FORBIDDEN:
        return f"{error.strerror}", "Make the file and its folder writable for this user, then repeat."
    return f"{error.strerror or error}", "Check the disk and the folder, then repeat; nothing was written."


def _after_fork() -> None:
    for lock in list(_locks):
        lock.abandon()


os.register_at_fork(after_in_child=_after_fork)
