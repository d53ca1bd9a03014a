"""The files that an agent's model keeps by Claude's memory tool, for programs: `lw.memory("seo").files`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from longwatch.errors import NotFound
from longwatch.policy.memory_files import sized
from longwatch.policy.memory_paths import Declined, shown
from longwatch.runtime.memory_files import Answer, Files
from longwatch.store.memory_versions import LAST, File, Version
from longwatch.surface.wire import Json, at


@dataclass(frozen=True)
class MemoryFile:
    """A file as it is. path: as the model names it. bytes: of its text. at, who, run: of its last change.

    text: None in a list.
    """

    agent: str
    path: str
    version: int
    bytes: int
    at: datetime
    who: str
    run: str | None
    text: str | None

    def _repr_markdown_(self) -> str:
        return f"**{self.path}** version {self.version}, {sized(self.bytes)}, {self.at:%Y-%m-%d %H:%M} by {self.who}"


@dataclass(frozen=True)
class MemoryVersion:
    """What became of a path once. action: create, str_replace, insert, delete, rename, restore.

    state: kept; dropped, where newer texts needed the room; redacted. text: None in a list, where it is not kept, and where
    the file was gone (`exists`). other: the path that it was renamed from or to.
    """

    agent: str
    path: str
    version: int
    action: str
    state: str
    exists: bool
    bytes: int
    sha256: str
    other: str | None
    at: datetime
    who: str
    run: str | None
    text: str | None


FileList: TypeAlias = list[MemoryFile]


class MemoryFiles:
    """Of one agent. Made by `lw.memory(agent).files`; safe in threads."""

    def __init__(self, files: Callable[[], Files], refuse: Callable[[str], None]) -> None:
        """refuse: raises for what an agent may not do in its run."""
        self._files, self._refuse = files, refuse

    def answer(self, given: object) -> Answer:
        """Carry out the input of a memory tool's tool_use block: `.text` for the tool_result, `.declined` for its is_error.

        Errors: LeaseLost, StoreUnavailable.
        """
        return self._files().answer(given)

    def list(self, folder: str = "/memories") -> FileList:
        """Every file there is, or in a folder, by their paths. Errors: NotFound for a path that cannot be."""
        files, path = self._at(folder)
        file, inside = files.store.at(files.agent, path)
        return [file_view(each) for each in ([file] if file is not None else inside)]

    def show(self, path: str) -> MemoryFile:
        """With its text. Errors: NotFound."""
        files, kept = self._at(path)
        file, _ = files.store.at(files.agent, kept)
        if file is None:
            raise NotFound(
                f"{files.agent} has no file {shown(kept)}", hint="longwatch memory files shows what there is."
            )
        return file_view(file)

    def versions(self, path: str, *, limit: int = 100, before: int | None = None) -> tuple[MemoryVersion, ...]:
        """What became of it, the newest first, without the texts. before: a version, to see older ones. Errors: NotFound."""
        files, kept = self._at(path)
        found = files.store.versions(files.agent, kept, limit=limit, before=LAST if before is None else before)
        if not found and before is None:
            raise NotFound(
                f"{files.agent} never had a file {shown(kept)}", hint="longwatch memory files shows what there is."
            )
        return tuple(map(version_view, found))

    def version(self, path: str, version: int) -> MemoryVersion:
        """One of them, with its text. Errors: NotFound."""
        files, kept = self._at(path)
        return version_view(files.store.version(files.agent, kept, version))

    def restore(self, path: str, version: int) -> MemoryVersion:
        """Put the text of an earlier version in place, as a new version. Errors: NotFound; Refused where it is not kept."""
        files, kept = self._at(path)
        return version_view(files.restore(kept, version))

    def redact(self, path: str, reason: str = "") -> int:
        """Take the text of every version out of memory and off the disk, for good; of how many.

        Where the file came from another name or went to one, its versions there too. The operator's alone. Errors: NotFound,
        Refused inside an agent's run.
        """
        self._refuse("files are redacted")
        files, kept = self._at(path)
        clean = files.memories.journal.redactor.clean(reason)
        return files.store.redact(files.agent, kept, clean, who=files.who)

    def receipts(self, path: str) -> tuple[tuple[datetime, str, str, str], ...]:
        """(when, who, what, note) of the redactions of a file."""
        files, kept = self._at(path)
        return tuple(
            (instant(row.at_ms), row.who, row.action, row.note) for row in files.store.receipts(files.agent, kept)
        )

    def _at(self, path: str) -> tuple[Files, str]:
        """Errors: NotFound for a path that cannot be."""
        files = self._files()
        try:
            return files, files.path(path)
        except Declined as declined:
            raise NotFound(str(declined), hint="Name a file below /memories.") from declined


def file_view(file: File) -> MemoryFile:
    return MemoryFile(
        agent=file.agent,
        path=shown(file.path),
        version=file.version,
        bytes=file.bytes,
        at=instant(file.at_ms),
        who=file.who,
        run=file.run,
        text=file.body,
    )


def version_view(version: Version) -> MemoryVersion:
    return MemoryVersion(
        agent=version.agent,
        path=shown(version.path),
        version=version.version,
        action=version.action,
        state=version.state,
        exists=not version.gone,
        bytes=version.bytes,
        sha256=version.sha256,
        other=None if version.other is None else shown(version.other),
        at=instant(version.at_ms),
        who=version.who,
        run=version.run,
        text=version.body,
    )


def file_json(file: MemoryFile) -> Json:
    told = {
        "agent": file.agent,
        "path": file.path,
        "version": file.version,
        "bytes": file.bytes,
        "at": at(_ms(file.at)),
    }
    return {**told, "who": file.who, "run": file.run, "text": file.text}


def version_json(version: MemoryVersion) -> Json:
    told = {"agent": version.agent, "path": version.path, "version": version.version, "action": version.action}
    more = {"state": version.state, "exists": version.exists, "bytes": version.bytes, "sha256": version.sha256}
    about = {"other": version.other, "at": at(_ms(version.at)), "who": version.who, "run": version.run}
    return {**told, **more, **about, "text": version.text}


def _ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
