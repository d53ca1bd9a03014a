"""The files that agents keep by the memory tool: one command, one transaction, in memory's own tables.

A command reads the file, decides, and writes in one transaction under memory's write lock: two processes that change one
file do so one behind the other, and neither loses what the other wrote. Every change is a version with its whole text, who
made it and in which run; a version is never changed. Beyond KEPT_MAX the texts of the oldest earlier versions are dropped, and
the rest of what is known of them is kept. A change has an id of its caller's: made again after a lost reply, it finds itself.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import NotFound, Refused
from longwatch.policy.memory import plain
from longwatch.policy.memory_files import KEPT_MAX, Edited, missing, refuse_size
from longwatch.policy.memory_paths import Declined, folders_of, shown
from longwatch.policy.redact import Redactor
from longwatch.store.memory import encode
from longwatch.store.memory_versions import (
    LAST,
    By,
    File,
    Untold,
    Version,
    below,
    changed,
    extent,
    found_at,
    kin,
    live,
    version_of,
    versions_of,
)

TABLES = ("memory_file", "memory_version", "memory_receipt")
DROPPED = 100  # old texts that are looked at in one go
PAGE = 200
UNTOLD = 100  # commands that the journal is told of in one go

Change = Callable[[str | None], Edited]
"""What becomes of a text; None: there is no such file."""


class Gone(NamedTuple):
    """Of a path that ceases to be: where its text goes, if anywhere."""

    file: File
    to: str | None = None


@dataclass(frozen=True)
class FileStore:
    """Safe in threads. Paths are as they are kept: below /memories."""

    database: Database
    redactor: Redactor

    # -- writing -----------------------------------------------------------------------------------------------------------

    def create(self, agent: str, path: str, text: str, by: By) -> Version:
        """Errors: Declined when there is something of that name, or no room."""
        with self.database.transaction(part="memory") as tx:
            if before := changed(tx, agent, by.change):
                return before[-1]
            if live(tx, agent, path) is not None or below(tx, agent, path, limit=1):
                raise Declined(f"Error: File {shown(path)} already exists")
            _owe(tx, by, agent=agent, action="create", path=path)
            return self._write(tx, agent, path, text, "create", by)

    def edit(self, agent: str, path: str, change: Change, action: str, by: By) -> tuple[Version, int]:
        """What `change` makes of its text; the first line that is another, from 0. Errors: as `change`, and Declined."""
        with self.database.transaction(part="memory") as tx:
            if before := changed(tx, agent, by.change):
                return before[-1], 0
            file = live(tx, agent, path)
            edited = change(None if file is None else file.body)
            _owe(tx, by, agent=agent, action=action, path=path)
            return self._write(tx, agent, path, edited.text, action, by), edited.line

    def delete(self, agent: str, path: str, by: By) -> int:
        """A file, or all that is in a folder; how many. Errors: Declined when there is neither."""
        with self.database.transaction(part="memory") as tx:
            if before := changed(tx, agent, by.change):
                return len(before)
            files = found_at(tx, agent, path)
            if not files:
                raise missing(shown(path))
            _owe(tx, by, agent=agent, action="delete", path=path, files=len(files))
            for file in files:
                self._lose(tx, Gone(file), "delete", by)
            return len(files)

    def rename(self, agent: str, old: str, new: str, by: By) -> int:
        """A file, or a folder with all that is in it; how many. Errors: Declined; nothing is overwritten."""
        with self.database.transaction(part="memory") as tx:
            if before := changed(tx, agent, by.change):
                return len(before) // 2
            files = found_at(tx, agent, old)
            if not files:
                raise missing(shown(old))
            if found_at(tx, agent, new):
                raise Declined(f"Error: The destination {shown(new)} already exists")
            if new.startswith(f"{old}/"):
                raise Declined(f"Error: The destination {shown(new)} is inside of {shown(old)}")
            _owe(tx, by, agent=agent, action="rename", path=new, other=old, files=len(files))
            for file in files:
                target = new + file.path[len(old) :]
                body = _text(tx, file)
                self._lose(tx, Gone(file, target), "rename", by)
                self._write(tx, agent, target, body, "rename", by, other=file.path)
            return len(files)

    def restore(self, agent: str, path: str, number: int, by: By) -> Version:
        """Put the text of an earlier version in place, as a new one. Errors: NotFound; Refused when it is not kept."""
        with self.database.transaction(part="memory") as tx:
            if before := changed(tx, agent, by.change):
                return before[-1]
            found = version_of(tx, agent, path, number)
            if found.body is None:
                what = (
                    "it is the version from which on there was no such file" if found.gone else f"it was {found.state}"
                )
                raise Refused(
                    f"version {number} of {shown(path)} has no text: {what}",
                    hint="longwatch memory file versions shows what each of them is.",
                )
            _owe(tx, by, agent=agent, action="restore", path=path)
            try:
                return self._write(tx, agent, path, found.body, "restore", by)
            except Declined as error:
                raise Refused(str(error), hint="Make room first; nothing was restored.") from error

    def _write(
        self, tx: Transaction, agent: str, path: str, text: str, action: str, by: By, *, other: str | None = None
    ) -> Version:
        body = self.redactor.clean(plain(text))
        data = body.encode()
        self._refuse(tx, agent, path, len(data))
        tx.count("memory_files.know_agent", agent=agent)
        version = _next(tx, agent, path)
        tx.count("memory_files.keep", agent=agent, path=path, version=version, bytes=len(data))
        sha = hashlib.sha256(data).hexdigest()
        tx.count(
            "memory_files.add_version",
            **_named(agent, path, version, action, by, other),
            body=body,
            bytes=len(data),
            sha=sha,
        )
        self._make_room(tx, agent, len(data))
        return version_of(tx, agent, path, version)

    def _refuse(self, tx: Transaction, agent: str, path: str, size: int) -> None:
        """Errors: Declined for what is too large, or lies below a file."""
        above = tx.one("memory_files.among", agent=agent, paths=encode(folders_of(path)).decode())
        if above is not None:
            raise Declined(f"Error: {shown(above.path)} is a file, and {shown(path)} cannot be in it")
        there, (files, together) = live(tx, agent, path), extent(tx, agent)
        own, before = (0, 0) if there is None else (1, there.bytes)
        refuse_size(shown(path), size, files=files - own, others=together - before)

    def _lose(self, tx: Transaction, gone: Gone, action: str, by: By) -> None:
        agent, path = gone.file.agent, gone.file.path
        tx.count("memory_files.lose", agent=agent, path=path)
        named = _named(agent, path, _next(tx, agent, path), action, by, gone.to)
        tx.count("memory_files.add_version", **named, body=None, bytes=0, sha="")

    def _make_room(self, tx: Transaction, agent: str, grown: int) -> None:
        """Let the texts of the oldest earlier versions go, as long as more is kept than shall be."""
        kept = _grow(tx, agent, grown)
        while kept > KEPT_MAX:
            rows = tx.all("memory_files.oldest", agent=agent, limit=DROPPED)
            dropped, size = list[int](), 0
            for row in rows:
                if kept - size > KEPT_MAX:
                    dropped.append(int(row.seq))
                    size += int(row.bytes)
            if not dropped:
                return
            tx.count("memory_files.drop", listed=encode(dropped).decode())
            kept = _grow(tx, agent, -size)

    # -- what the journal is told -------------------------------------------------------------------------------------------

    def untold(self, *, age_ms: int) -> list[Untold]:
        """The oldest commands that the journal may not have told of, made so long ago or earlier."""
        with self.database.read() as tx:
            return [Untold(*row) for row in tx.all("memory_files.untold", age_ms=age_ms, limit=UNTOLD)]

    def told(self, changes: Sequence[str]) -> None:
        """Lost with a power cut it is said once more, and the journal knows."""
        with self.database.transaction(part="memory", durable=False) as tx:
            tx.count("memory_files.told", listed=encode(list(changes)).decode())

    # -- redaction ---------------------------------------------------------------------------------------------------------

    def redact(self, agent: str, path: str, reason: str, *, who: str) -> int:
        """Take the text of every version out, off the disk too, and of what it was renamed from or to; how many versions.

        Twice does no harm, and finishes what was left half done. Errors: NotFound.
        """
        with self.database.transaction(part="memory") as tx:
            chosen = kin(tx, agent, path)
            if not chosen:
                raise NotFound(f"{agent} has no file {shown(path)}", hint="longwatch memory files shows what there is.")
            fresh = [each for each in chosen if each.state != "redacted" and not each.gone]
            if fresh:
                kept = sum(each.bytes for each in fresh if each.state == "kept")
                tx.count("memory_files.redact", listed=encode([each.seq for each in fresh]).decode())
                for each in fresh:
                    tx.count("memory_files.lose_version", agent=agent, path=each.path, version=each.version)
                _grow(tx, agent, -kept)
                note = f"{reason or 'no reason given'}; {len(fresh)} versions"
                tx.count("memory.add_receipt", who=who, action="redact", agent=agent, subject=shown(path), note=note)
        cast("Any", self.database).scrub(TABLES)
        return len(fresh)

    # -- reading -----------------------------------------------------------------------------------------------------------

    def at(self, agent: str, path: str) -> tuple[File | None, list[File]]:
        """The file of that path, with its text; else what is below, as of one instant."""
        with self.database.read() as tx:
            file = live(tx, agent, path) if path else None
            return file, [] if file is not None else below(tx, agent, path)

    def version(self, agent: str, path: str, number: int) -> Version:
        """With its text. Errors: NotFound."""
        with self.database.read() as tx:
            return version_of(tx, agent, path, number)

    def versions(self, agent: str, path: str, *, limit: int, before: int = LAST) -> list[Version]:
        """The newest first, without their texts."""
        with self.database.read() as tx:
            return versions_of(tx, agent, path, limit=limit, before=before)

    def receipts(self, agent: str, path: str) -> list[Row]:
        with self.database.read() as tx:
            return [row for row in tx.all("memory.receipts", subject=shown(path)) if row.agent == agent]

    def wrong(self, agent: str) -> list[str]:
        """What was changed or is missing behind Longwatch's back, in words."""
        found, newest = list[str](), dict[str, Version]()
        for each in self._history(agent):
            before = newest.get(each.path)
            if each.version != (0 if before is None else before.version) + 1:
                found.append(f"a version of {shown(each.path)} before version {each.version} is missing")
            if each.body is not None and hashlib.sha256(each.body.encode()).hexdigest() != each.sha256:
                found.append(f"version {each.version} of {shown(each.path)} was changed: its digest differs")
            newest[each.path] = each
        _, files = self.at(agent, "")
        there = {file.path: file.version for file in files}
        due = {path: each.version for path, each in newest.items() if each.body is not None}
        found += [
            f"{shown(path)} is at version {there.get(path)}, and should be at {due.get(path)}"
            for path in sorted(there.keys() | due.keys())
            if there.get(path) != due.get(path)
        ]
        return found

    def _history(self, agent: str) -> Iterator[Version]:
        after = 0
        while True:
            with self.database.read() as tx:
                rows = tx.all("memory_files.history", agent=agent, after=after, limit=PAGE)
            yield from (Version(*row) for row in rows)
            if len(rows) < PAGE:
                return
            after = int(rows[-1].seq)


def _named(agent: str, path: str, version: int, action: str, by: By, other: str | None) -> dict[str, Any]:
    about = {"agent": agent, "path": path, "version": version, "action": action, "other": other}
    return {**about, "change": by.change, "who": by.who, "run": by.run}


def _owe(
    tx: Transaction, by: By, *, agent: str, action: str, path: str, other: str | None = None, files: int = 1
) -> None:
    about = {"agent": agent, "action": action, "path": path, "other": other, "files": files}
    tx.count("memory_files.owe", change=by.change, who=by.who, run=by.run, task=by.task, **about)


def _next(tx: Transaction, agent: str, path: str) -> int:
    row = tx.one("memory_files.last_version", agent=agent, path=path)
    assert row is not None
    return int(row.version) + 1


def _grow(tx: Transaction, agent: str, amount: int) -> int:
    row = tx.one("memory_files.grow", agent=agent, amount=amount)
    assert row is not None
    return int(row.bytes)


def _text(tx: Transaction, file: File) -> str:
    found = live(tx, file.agent, file.path)
    assert found is not None
    assert found.body is not None, f"{file.agent} has no text of {file.path}"
    return found.body
