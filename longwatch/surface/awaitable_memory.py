"""`lw.aio.memory(agent)`: what an agent remembers, awaitable. Each method runs in a thread, in the run of who awaits it."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from longwatch.runtime.embedding import Embed
from longwatch.runtime.importing import Imported
from longwatch.runtime.memory_files import Answer
from longwatch.surface.briefs import Brief, Snapshot
from longwatch.surface.memory import Hits, Memory, Record, Records, SnapshotList, tool_class
from longwatch.surface.memory_files import FileList, MemoryFile, MemoryFiles, MemoryVersion

if TYPE_CHECKING:
    from longwatch.surface.memory_tool import AsyncMemoryTool


def silent(_: str) -> None:
    """Nobody wants to hear how far it is."""


class AsyncMemory:
    """As `Memory`, of one agent."""

    def __init__(self, memory: Memory) -> None:
        self.agent, self._memory = memory.agent, memory

    async def record(
        self,
        kind: str,
        text: str,
        *,
        task: str | None = None,
        data: object = None,
        key: str | None = None,
        supersedes: str | None = None,
        trust: str | None = None,
        author: str | None = None,
        thread: str | None = None,
        at: datetime | None = None,
    ) -> Record:
        """As `Memory.record`."""
        about: dict[str, Any] = {"task": task, "data": data, "key": key, "supersedes": supersedes, "trust": trust}
        said: dict[str, Any] = {"author": author, "thread": thread, "at": at}
        return await asyncio.to_thread(self._memory.record, kind, text, **about, **said)

    async def record_many(self, records: Iterable[Mapping[str, Any]]) -> int:
        """As `Memory.record_many`."""
        return await asyncio.to_thread(self._memory.record_many, records)

    async def close(self, record: str | Record, note: str = "") -> Record:
        """As `Memory.close`."""
        return await asyncio.to_thread(self._memory.close, record, note)

    async def correct(self, record: str | Record, text: str, *, data: object = None) -> Record:
        """As `Memory.correct`."""
        return await asyncio.to_thread(self._memory.correct, record, text, data=data)

    async def pin(self, record: str | Record) -> Record:
        """As `Memory.pin`."""
        return await asyncio.to_thread(self._memory.pin, record)

    async def unpin(self, record: str | Record) -> Record:
        """As `Memory.unpin`."""
        return await asyncio.to_thread(self._memory.unpin, record)

    async def charter(self, text: str | None = None) -> str | None:
        """As `Memory.charter`."""
        return await asyncio.to_thread(self._memory.charter, text)

    async def redact(self, record: str | Record, reason: str = "") -> Record:
        """As `Memory.redact`."""
        return await asyncio.to_thread(self._memory.redact, record, reason)

    async def import_from(
        self, path: str | os.PathLike[str], *, format: str | None = None, told: Callable[[str], None] = silent
    ) -> Imported:
        """As `Memory.import_from`; `told` is called in the thread."""
        return await asyncio.to_thread(self._memory.import_from, path, format=format, told=told)

    async def export(self, write: Callable[[str], object], *, told: Callable[[str], None] = silent) -> int:
        """As `Memory.export`; `write` is called in the thread."""
        return await asyncio.to_thread(self._memory.export, write, told=told)

    async def show(self, record: str | Record | Snapshot) -> Any:
        """As `Memory.show`."""
        return await asyncio.to_thread(self._memory.show, record)

    async def list(
        self, *, kind: str | None = None, state: str = "live", limit: int = 20, before: str | Record | None = None
    ) -> Records:
        """As `Memory.list`."""
        return await asyncio.to_thread(self._memory.list, kind=kind, state=state, limit=limit, before=before)

    async def brief(self, tokens: int | None = None, *, count: Callable[[str], int] | None = None) -> Brief:
        """As `Memory.brief`; `count` is called in the thread."""
        return await asyncio.to_thread(self._memory.brief, tokens, count=count)

    async def recall(
        self,
        question: str,
        *,
        limit: int = 10,
        tokens: int | None = None,
        count: Callable[[str], int] | None = None,
        kinds: Iterable[str] | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        embed: Embed | None = None,
        archive: bool = False,
    ) -> Hits:
        """As `Memory.recall`; `embed` and `count` are called in the thread."""
        wanted: dict[str, Any] = {"kinds": kinds, "since": since, "until": until, "embed": embed, "archive": archive}
        return await asyncio.to_thread(self._memory.recall, question, limit=limit, tokens=tokens, count=count, **wanted)

    async def compact(self, *, everything: bool = False, told: Callable[[str], None] = silent) -> int:
        """As `Memory.compact`."""
        return await asyncio.to_thread(self._memory.compact, everything=everything, told=told)

    async def snapshots(self, *, level: int | None = None, limit: int = 100) -> SnapshotList:
        """As `Memory.snapshots`."""
        return await asyncio.to_thread(self._memory.snapshots, level=level, limit=limit)

    async def verify(self, *, whole: bool = False, told: Callable[[str], None] = silent) -> tuple[str, ...]:
        """As `Memory.verify`."""
        return await asyncio.to_thread(self._memory.verify, whole=whole, told=told)

    @property
    def files(self) -> "AsyncMemoryFiles":
        """As `Memory.files`."""
        return AsyncMemoryFiles(self._memory.files)

    def tool(self) -> "AsyncMemoryTool":
        """As `Memory.tool`, for the tool runner of `AsyncAnthropic`. Errors: ConfigError without the library."""
        made: AsyncMemoryTool = tool_class("AsyncMemoryTool")(self._memory.files)
        return made


class AsyncMemoryFiles:
    """As `MemoryFiles`, of one agent."""

    def __init__(self, files: MemoryFiles) -> None:
        self._files = files

    async def answer(self, given: object) -> Answer:
        """As `MemoryFiles.answer`."""
        return await asyncio.to_thread(self._files.answer, given)

    async def list(self, folder: str = "/memories") -> FileList:
        """As `MemoryFiles.list`."""
        return await asyncio.to_thread(self._files.list, folder)

    async def show(self, path: str) -> MemoryFile:
        """As `MemoryFiles.show`."""
        return await asyncio.to_thread(self._files.show, path)

    async def versions(self, path: str, *, limit: int = 100, before: int | None = None) -> tuple[MemoryVersion, ...]:
        """As `MemoryFiles.versions`."""
        return await asyncio.to_thread(self._files.versions, path, limit=limit, before=before)

    async def version(self, path: str, version: int) -> MemoryVersion:
        """As `MemoryFiles.version`."""
        return await asyncio.to_thread(self._files.version, path, version)

    async def restore(self, path: str, version: int) -> MemoryVersion:
        """As `MemoryFiles.restore`."""
        return await asyncio.to_thread(self._files.restore, path, version)

    async def redact(self, path: str, reason: str = "") -> int:
        """As `MemoryFiles.redact`."""
        return await asyncio.to_thread(self._files.redact, path, reason)

    async def receipts(self, path: str) -> tuple[tuple[datetime, str, str, str], ...]:
        """As `MemoryFiles.receipts`."""
        return await asyncio.to_thread(self._files.receipts, path)
