"""What is kept of the memory tool's files, as it is read: a file as it is, each of its versions, what belongs together."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from longwatch.db.connection import Transaction
from longwatch.errors import NotFound
from longwatch.policy.memory_files import FILES_MAX
from longwatch.policy.memory_paths import around, shown

LAST = 1 << 60


class File(msgspec.Struct, frozen=True):
    """As it is. path: below /memories. at_ms: when it was changed. body: None in a listing."""

    agent: str
    path: str
    version: int
    bytes: int
    at_ms: int
    body: str | None
    who: str
    run: str | None


class Version(msgspec.Struct, frozen=True):
    """state: kept, dropped or redacted. body: None in a listing, and of a version from which on the file is gone.

    change: the id of the command. other: the path that it was renamed from or to.
    """

    seq: int
    change: str
    agent: str
    path: str
    version: int
    action: str
    state: str
    body: str | None
    bytes: int
    sha256: str
    other: str | None
    at_ms: int
    who: str
    run: str | None

    @property
    def gone(self) -> bool:
        """From here on there was no such file."""
        return not self.sha256 and self.state != "redacted"


class By(NamedTuple):
    """change: the id of the command. who: as receipts name them. run, task: their ids, of a run that acts."""

    change: str
    who: str
    run: str | None = None
    task: str | None = None


class Untold(NamedTuple):
    """A command that has changed so many files, and of which the journal may not have told. path: where it left them."""

    change: str
    agent: str
    action: str
    path: str
    other: str | None
    files: int
    who: str
    run: str | None
    task: str | None


def newest_files(tx: Transaction, agent: str, limit: int) -> list[File]:
    return [File(*row) for row in tx.all("memory_files.newest", agent=agent, limit=limit)]


def extent(tx: Transaction, agent: str) -> tuple[int, int]:
    """How many files there are, and their bytes together."""
    row = tx.one("memory_files.extent", agent=agent)
    assert row is not None
    return int(row.files), int(row.bytes)


def version_of(tx: Transaction, agent: str, path: str, number: int) -> Version:
    """Errors: NotFound."""
    row = tx.one("memory_files.version", agent=agent, path=path, version=number)
    if row is None:
        raise NotFound(
            f"{agent} has no version {number} of {shown(path)}",
            hint="longwatch memory file versions shows which there are.",
        )
    return Version(*row)


def changed(tx: Transaction, agent: str, change: str) -> list[Version]:
    """What the very same command has done before, its reply having been lost."""
    return [Version(*row) for row in tx.all("memory_files.changed", agent=agent, change=change)]


def live(tx: Transaction, agent: str, path: str) -> File | None:
    row = tx.one("memory_files.live", agent=agent, path=path)
    return None if row is None else File(*row)


def below(tx: Transaction, agent: str, folder: str, *, limit: int = FILES_MAX) -> list[File]:
    lowest, highest = around(folder)
    rows = tx.all("memory_files.below", agent=agent, lowest=lowest, highest=highest, limit=limit)
    return [File(*row) for row in rows]


def found_at(tx: Transaction, agent: str, path: str) -> list[File]:
    """The file, or all that is in the folder."""
    file = live(tx, agent, path)
    return [file] if file is not None else below(tx, agent, path)


def versions_of(tx: Transaction, agent: str, path: str, *, limit: int = LAST, before: int = LAST) -> list[Version]:
    rows = tx.all("memory_files.versions", agent=agent, path=path, before=before, limit=limit)
    return [Version(*row) for row in rows]


def kin(tx: Transaction, agent: str, path: str) -> list[Version]:
    """Every version of a path; and where one came from another path or went to one, of the life that the file had there."""
    found: dict[int, Version] = {}
    todo: list[tuple[str, int | None]] = [(path, None)]
    while todo:
        name, around_version = todo.pop()
        rows = versions_of(tx, agent, name)[::-1]
        for each in rows if around_version is None else _life(rows, around_version):
            if each.seq not in found:
                found[each.seq] = each
                if each.other is not None:
                    twins = [twin for twin in changed(tx, agent, each.change) if _are_twins(each, twin)]
                    todo += [(twin.path, twin.version) for twin in twins]
    return list(found.values())


def _are_twins(one: Version, other: Version) -> bool:
    """The two ends of one renaming."""
    return one.path == other.other and one.other == other.path


def _life(rows: Sequence[Version], number: int) -> list[Version]:
    """The versions around this one, between the file's coming and its going; rows: all of one path, oldest first."""
    at = next(place for place, each in enumerate(rows) if each.version == number)
    first, last = at, at
    while first > 0 and not rows[first - 1].gone:
        first -= 1
    while last + 1 < len(rows) and not rows[last].gone:
        last += 1
    return list(rows[first : last + 1])
