"""What worker processes print: a file for each while they live, sealed when nobody can write to it any more, then archived.

A process writes to its file itself, so that nothing is lost when it is killed; what it starts writes to it too. Whoever has it
open holds a shared lock with the open file, which the kernel drops with the last of them: a file that can be locked alone is
sealed for good. One that has become large is left for the next one; what children of the process still write to the old
one is bounded by cutting it off.
"""

import base64
import fcntl
import os
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from longwatch.policy.redact import Redactor
from longwatch.runtime.loop import Sleeper
from longwatch.store.archive import Entry
from longwatch.store.retire import digest_of

FOLDER, ENDING, DRAFT = "logs", ".log", ".draft"
TURN_MS = 1_000
TIMES = 4  # larger than it should be by this, it is cut off
LONGEST = 64 << 10  # bytes of a line in one entry
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
encode = msgspec.json.Encoder().encode


@dataclass
class Output:
    """This process's own standard output and error. owner, agent: whose. size: bytes of a file."""

    folder: Path
    owner: str
    agent: str
    size: int
    number: int = 0

    def begin(self) -> None:
        """From now on into a file of its own. Errors: OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.number += 1
        path = self.folder / f"{self.owner}.{quote(self.agent, safe='')}.{self.number}{ENDING}"
        draft = path.with_suffix(DRAFT)
        descriptor = os.open(draft, APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            draft.rename(path)  # only now may anybody ask whether it is sealed
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        finally:
            os.close(descriptor)

    def turn(self) -> bool:
        """Go on in the next file, if this one is large enough; whether it was. Errors: OSError."""
        large = os.fstat(1).st_size >= self.size
        if large:
            self.begin()
        return large

    def watch(self, sleeper: Sleeper, steady_ms: Callable[[], int]) -> None:
        """Turn whenever it is time, for as long as the process lives."""

        def turning() -> None:
            while True:
                sleeper.sleep_until(steady_ms() + TURN_MS)
                with suppress(OSError):  # a full disk: the file that there is goes on
                    self.turn()

        sleeper.start("output", turning)


@dataclass(frozen=True)
class Outputs:
    """All of them in a folder. size: as of one."""

    folder: Path
    size: int
    redactor: Redactor

    def cut(self) -> list[str]:
        """Take off what is far too large and still written to; which."""
        found: list[str] = []
        for path in self._all():
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                if size >= TIMES * self.size and not self._is_sealed(path):
                    os.truncate(path, 0)
                    with open(path, "ab") as file:
                        file.write(b"longwatch: %d bytes that were printed here were cut off\n" % size)
                    found.append(path.name)
        return found

    def entries(self, *, before_ms: int) -> Iterator[list[Entry]]:
        """Of each sealed file that was written to last before an instant of the calendar, line by line."""
        for path in self._all():
            with self._sealed(path) as content:
                if content and _at_ms(path) <= before_ms:
                    yield list(self.lines(path, content))

    def drop(self, digests: Collection[bytes]) -> int:
        """Remove the sealed files all of whose lines are in a verified segment, told by their digests; how many lines."""
        gone = 0
        for path in self._all():
            with self._sealed(path) as content:
                lines = [] if content is None else list(self.lines(path, content))
                if content is not None and all(digest_of(each) in digests for each in lines):
                    path.unlink()
                    gone += len(lines)
        return gone

    def lines(self, path: Path, content: bytes) -> Iterator[Entry]:
        """Each line as the archive has it, with secrets taken out; its id is the file's name and where it starts."""
        at_ms, agent = _at_ms(path), unquote(path.name.split(".", 1)[1].rsplit(".", 2)[0])
        start = 0
        for line in _pieces(content):
            body = {"file": path.name, "start": start} | self._said(line.rstrip(b"\n"))
            yield Entry("log", f"{path.name}:{start}", at_ms, agent, "", encode(body))
            start += len(line)

    def _said(self, line: bytes) -> dict[str, str]:
        try:
            return {"line": self.redactor.clean(line.decode())}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(line).decode()}

    def _all(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(path for path in self.folder.iterdir() if path.suffix == ENDING and path.name.count(".") >= 3)
        return []

    def _is_sealed(self, path: Path) -> bool:
        with self._sealed(path) as content:
            return content is not None

    @contextmanager
    def _sealed(self, path: Path) -> Generator[bytes | None]:
        """What is in it, kept as it is meanwhile; None: somebody has it open, or it is gone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        with os.fdopen(descriptor, "rb") as file:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file.read()


def _at_ms(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000


def _pieces(content: bytes) -> Iterator[bytes]:
    """Lines with their ends; of very long ones, pieces."""
    for line in BytesIO(content):
        yield from (line[at : at + LONGEST] for at in range(0, len(line), LONGEST))
