"""Where an archive lies: a folder, or a store like S3. What is under a final name is whole, and never changes."""

import contextlib
import fcntl
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from longwatch.errors import NotFound, StoreUnavailable
from longwatch.store.archive.manifest import NAME

MANIFEST, DRAFT = "manifest.jsonl", re.compile(r"draft-\d+")
SYNC_SIZE = 1 << 20


class OutOfReach(StoreUnavailable):
    """Where the archive lies cannot be read or written now. What is made of it, such as the side index, is as good as ever."""


class Draft(Protocol):
    """A segment on its way. Left by an error or a kill it is swept by the next writer."""

    @property
    def file(self) -> BinaryIO: ...

    def publish(self, name: str) -> None:
        """Under its final name, whole and on the disk, or not at all. One that is there with this name is the same."""
        ...

    def discard(self) -> None:
        """Twice does no harm."""
        ...


class Place(Protocol):
    """Errors of each: StoreUnavailable when it cannot be reached, or is full."""

    @property
    def title(self) -> str:
        """As people name it."""
        ...

    @property
    def index(self) -> Path:
        """The file of the side index."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """One writer at a time. Errors: StoreUnavailable while another one is at it."""
        ...

    def sizes(self) -> dict[str, int]:
        """The bytes of each segment that is there."""
        ...

    def read(self, name: str, start: int, size: int) -> bytes:
        """Bytes of a segment; fewer where it ends. Errors: NotFound."""
        ...

    def draft(self) -> Draft: ...

    def sweep(self) -> list[str]:
        """Remove drafts that nobody writes any more; which. Only for who may write."""
        ...

    def drafts(self) -> list[str]: ...

    def remove(self, name: str) -> None:
        """Of a segment; one that is not there is removed."""
        ...

    def moves(self) -> bytes:
        """The whole manifest."""
        ...

    def append(self, line: bytes, *, n: int, good_bytes: int) -> None:
        """Move `n` of the manifest, on the disk once this returns. good_bytes: where it ends; what is behind is torn off."""
        ...


class Desk(ABC):
    """What every place needs of a local folder: one writer at a time, and where its drafts are made."""

    def __init__(self, path: Path, title: str) -> None:
        """Errors: StoreUnavailable when the folder cannot be made."""
        self.path = path.expanduser().absolute()
        self.title, self.index = title or str(self.path), self.path / "index.db"
        self._drafts = self.path / "drafts"
        self.make()

    def make(self) -> None:
        """Its folders, where they are not there, or not any more. Errors: StoreUnavailable."""
        with self.reachable():
            for folder in self.folders():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folders(self) -> tuple[Path, ...]:
        return (self.path, self._drafts)

    @abstractmethod
    def publish(self, draft: Path, name: str) -> None:
        """A file that is whole and synced, under its final name."""
        ...

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        self.make()
        with self.reachable():
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                hint = "Wait until it is done, and do it again."
                raise StoreUnavailable(f"somebody writes the archive {self.title}", hint=hint, retry_after=1) from error
            yield
        finally:
            os.close(descriptor)

    def draft(self) -> "DeskDraft":
        with self.reachable():
            path = self._drafts / f"draft-{os.getpid()}"
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            return DeskDraft(self, path, os.fdopen(descriptor, "w+b", buffering=SYNC_SIZE))

    def drafts(self) -> list[str]:
        with self.reachable():
            return sorted(name for name in os.listdir(self._drafts) if DRAFT.fullmatch(name))

    def sweep(self) -> list[str]:
        swept = self.drafts()
        with self.reachable():
            for name in swept:
                (self._drafts / name).unlink(missing_ok=True)
        return swept

    @contextlib.contextmanager
    def reachable(self) -> Generator[None]:
        """The system's refusals as StoreUnavailable."""
        try:
            yield
        except StoreUnavailable:
            raise
        except OSError as error:
            raise OutOfReach(
                f"the archive {self.title} cannot be used: {error.strerror or error}",
                hint="Check that its folder is there, has room, and may be written. Nothing was taken out of the state.",
            ) from error


class DeskDraft:
    def __init__(self, desk: Desk, path: Path, file: BinaryIO) -> None:
        self._desk, self._path, self.file = desk, path, file

    def publish(self, name: str) -> None:
        with self._desk.reachable():
            self.file.flush()
            os.fsync(self.file.fileno())
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that reading back reads the disk
            self.file.close()
        self._desk.publish(self._path, name)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # what it still had to write is not wanted
            self.file.close()
        self._path.unlink(missing_ok=True)


class Folder(Desk):
    """A local folder: `segments/`, `drafts/`, `manifest.jsonl`, and the side index beside them."""

    def __init__(self, path: Path) -> None:
        """Errors: StoreUnavailable when it cannot be made."""
        super().__init__(path, "")

    def folders(self) -> tuple[Path, ...]:
        return (*super().folders(), self._segments)

    @property
    def _segments(self) -> Path:
        return self.path / "segments"

    def sizes(self) -> dict[str, int]:
        with self.reachable(), os.scandir(self._segments) as found:
            return {entry.name: entry.stat().st_size for entry in found if NAME.fullmatch(entry.name)}

    def read(self, name: str, start: int, size: int) -> bytes:
        with self.reachable():
            try:
                descriptor = os.open(self._segment(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                raise NotFound(f"there is no segment {name} in {self.title}") from error
            try:
                return _pread(descriptor, start, size)
            finally:
                os.close(descriptor)

    def publish(self, draft: Path, name: str) -> None:
        with self.reachable():
            os.rename(draft, self._segment(name))
            sync_folder(self._segments)

    def remove(self, name: str) -> None:
        with self.reachable():
            self._segment(name).unlink(missing_ok=True)
            sync_folder(self._segments)

    def moves(self) -> bytes:
        with self.reachable():
            try:
                return (self.path / MANIFEST).read_bytes()
            except FileNotFoundError:
                return b""

    def append(self, line: bytes, *, n: int, good_bytes: int) -> None:
        with self.reachable():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path / MANIFEST, flags, 0o600)
            try:
                os.ftruncate(descriptor, good_bytes)
                _pwrite(descriptor, line, good_bytes)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if n == 1:
                sync_folder(self.path)

    def _segment(self, name: str) -> Path:
        assert NAME.fullmatch(name), name
        return self._segments / name


def _pread(descriptor: int, start: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(descriptor, size, start)):
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


def _pwrite(descriptor: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, start)
        data, start = data[written:], start + written


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
