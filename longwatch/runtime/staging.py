"""The private copies that an edit works on: a folder of its own, below `.longwatch/staging`, seen by nobody else."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter

from longwatch.errors import ConfigError
from longwatch.policy.edit import Bases, Change
from longwatch.policy.paths import folders_above
from longwatch.runtime.lease import Lease
from longwatch.runtime.root import READ, Root, opened, ordinary, told

REWRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
CHUNK = 1 << 20  # bytes


class Staging:
    """Made when the first file is staged. Files have the permission bits that they will be published with."""

    def __init__(self, root: Root, edit: str) -> None:
        self.edit = edit
        self.folder = root.staging_of(edit)

    def place(self, target: str) -> str:
        """Where the target is staged; its folders exist from here on, the file perhaps not."""
        file = self._path(target)
        with told(file):
            os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        return file

    def _path(self, target: str) -> str:
        return f"{self.folder}/{target}"

    def _writing(self, target: str, flags: int, mode: int) -> BufferedWriter:
        """The staged file to write; its folders are made if need be."""
        file = self._path(target)
        with told(file):
            try:
                descriptor = os.open(file, flags, mode)
            except FileNotFoundError:
                descriptor = os.open(self.place(target), flags, mode)
            return open(descriptor, "wb")

    def open(self, target: str) -> BufferedReader | None:
        """The staged file, or None when there is none. Errors: ConfigError when it became something else than a file."""
        file = self._path(target)
        try:
            with told(file):
                return ordinary(opened(file, READ, folder=None, path=file), target)
        except FileNotFoundError:
            return None

    def write(self, target: str, data: bytes, *, mode: int | None) -> None:
        """Replace the staged bytes. mode: permission bits, None: as a new file gets them."""
        with told(target), self._writing(target, REWRITE, 0o666) as writing:
            writing.write(data)
            if mode is not None:
                os.fchmod(writing.fileno(), mode)

    def append(self, target: str, data: bytes) -> None:
        """Add to the staged bytes, or make the file."""
        with told(target), self._writing(target, APPEND, 0o666) as writing:
            writing.write(data)

    def copy(self, target: str, source: BufferedReader) -> str:
        """Stage the bytes and permission bits of an open file; their SHA-256."""
        with told(target), self._writing(target, REWRITE, 0o600) as writing:
            sha256 = copy_bytes(source, writing)
            os.fchmod(writing.fileno(), mode_of(source))
        return sha256

    def delete(self, target: str) -> None:
        with told(target), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(target))

    def change(self, target: str) -> Change:
        """What stands there now: a file with its digest, or nothing, which means deleted."""
        file = self.open(target)
        if file is None:
            return Change(self.edit, None, 0)
        with told(target), file:
            return Change(self.edit, hashlib.file_digest(file, "sha256").hexdigest(), mode_of(file))

    def remove(self) -> None:
        """Whatever cannot be removed is left to the sweep."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Staged:
    """An edit whose block has ended and that is not published yet; its lease is kept alive until then.

    bases: digests of what it saw; changes: what it made, by target.
    """

    id: str
    lease: Lease
    staging: Staging
    bases: Bases
    changes: Mapping[str, Change]


def copy_bytes(source: BufferedReader, target: BufferedWriter) -> str:
    """Copy to the end; SHA-256 of what was copied."""
    sha256 = hashlib.sha256()
    while chunk := source.read(CHUNK):
        sha256.update(chunk)
        target.write(chunk)
    return sha256.hexdigest()


def mode_of(file: BufferedReader) -> int:
    return os.fstat(file.fileno()).st_mode & 0o777


def refuse_nested(targets: Sequence[str]) -> None:
    """Errors: ConfigError when one of the files would have to be the folder of another."""
    known = set(targets)
    for target in targets:
        above = next((folder for folder in folders_above(target) if folder in known), None)
        if above is not None:
            raise ConfigError(f"{above} cannot be a file and the folder of {target}", hint="Name one of them.")
