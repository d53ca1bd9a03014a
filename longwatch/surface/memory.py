"""What a program has of an agent's memory: `lw.memory("seo")`. Inside that agent's run it belongs to the run."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from longwatch.errors import ConfigError, LeaseLost, Refused
from longwatch.policy import memory as policy
from longwatch.runtime.authoring import BY_HAND, Authoring
from longwatch.runtime.compaction import Compaction
from longwatch.runtime.embedding import Embed
from longwatch.runtime.importing import Imported, Importer
from longwatch.runtime.memory import Memories
from longwatch.runtime.memory_files import Files
from longwatch.runtime.recollect import recollection_of
from longwatch.runtime.redact import redact
from longwatch.runtime.run import RunCore
from longwatch.store.memory import NewRecord
from longwatch.store.search import LAST_MS
from longwatch.store.snapshots import Snapshots
from longwatch.surface.briefs import Brief, Hit, Snapshot, brief_view, hit_view, snapshot_view
from longwatch.surface.memory_files import MemoryFiles, instant
from longwatch.surface.snapshots import whole_view
from longwatch.surface.wire import record_json

if TYPE_CHECKING:
    from longwatch.surface.memory_tool import MemoryTool

LONGWATCH_RUN = "LONGWATCH_RUN"
MANY = 1_000_000


@dataclass(frozen=True)
class Record:
    """One thing remembered. ref: its short name, as briefs use it; "" of a record that its run has only just noted.

    state: live, closed, superseded (by `successor`) or redacted. trust: own, tool or untrusted. data: what was given.
    history: (when, who, what, note) of everything that was done to it, where it was asked for by `show`.
    """

    id: str
    ref: str
    agent: str
    kind: str
    state: str
    text: str
    data: Any
    task: str | None
    at: datetime
    trust: str
    source: str
    author: str | None
    thread: str | None
    key: str | None
    successor: str | None
    pinned: bool
    history: tuple[tuple[datetime, str, str, str], ...] = ()

    def _repr_markdown_(self) -> str:
        return f"**{self.kind}** {self.text}  \n`{self.id}` {self.at:%Y-%m-%d %H:%M} {self.state}"


def record_view(record: policy.Record, receipts: Iterable[Any] = ()) -> Record:
    return Record(
        id=record.id,
        ref=record.ref if record.place else "",
        agent=record.agent,
        kind=record.kind,
        state=record.state,
        text=record.body,
        data=None if record.data is None else msgspec.json.decode(record.data),
        task=record.task,
        at=instant(record.at_ms),
        trust=record.trust,
        source=record.source,
        author=record.author,
        thread=record.thread,
        key=record.key,
        successor=record.successor,
        pinned=bool(record.pinned),
        history=tuple((instant(each.at_ms), each.who, each.action, each.note) for each in receipts),
    )


def tool_class(name: str) -> Any:
    """Of surface/memory_tool.py, which needs Anthropic's library. Errors: ConfigError without it."""
    try:
        from longwatch.surface import memory_tool
    except ImportError as error:
        raise ConfigError(
            f"Anthropic's library has no memory tool here: {error}",
            hint='pip install "longwatch[claude]"; or answer a tool_use block by memory.files.answer(block.input).',
        ) from error
    return getattr(memory_tool, name)


def refuse_in_a_run(run: RunCore | None, what: str, *, ask: str = "longwatch memory --help") -> None:
    """ask: the command that tells how a person does it. Errors: Refused for an agent that would change its own rules."""
    name = run.id if run is not None else os.environ.get(LONGWATCH_RUN)
    if name:
        raise Refused(
            f"{what} by the operator, and this is an agent's run ({name})",
            hint=f"Ask a person to do it: {ask}.",
        )


Records: TypeAlias = list[Record]
Hits: TypeAlias = list[Hit]
SnapshotList: TypeAlias = list[Snapshot]


class Memory:
    """Of one agent. Made by `lw.memory(agent)`; safe in threads, as long as its fleet is open."""

    def __init__(self, agent: str, memories: Callable[[], Memories], run: Callable[[], RunCore | None]) -> None:
        self.agent, self._memories, self._run = agent, memories, run

    # -- writing -----------------------------------------------------------------------------------------------------------

    def record(
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
        """Remember something: a goal, decision, fact, commitment, lesson, failure, result, message, tool_output or call.

        key: the same key with the same text is the same record. supersedes: the record whose place it takes. trust: own;
        tool for what a tool said; untrusted for what anybody may have written, which is what messages are unless you say
        otherwise. author, thread: who said it, in which conversation. Errors: KeyConflict, ConfigError, NotStorable, NotFound.
        """
        run = self._mine()
        if run is not None and (task is None or task == run.task) and author is None and thread is None and at is None:
            return record_view(run.record(kind, text, data=data, key=key, supersedes=supersedes, trust=trust))
        at_ms = None if at is None else round(at.timestamp() * 1000)
        about: dict[str, Any] = {"task": task, "author": author, "thread": thread, "at_ms": at_ms}
        new = self._memories().new(kind, text, data=data, key=key, supersedes=supersedes, trust=trust, **about)
        return record_view(self._memories().record(self.agent, [new], who=self._who())[0])

    def record_many(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Remember many at once: mappings with `kind`, `text` and what else `record` takes. All of a thousand, or none.

        How many there were. Errors: as `record`.
        """
        memories = self._memories()
        new = [self._new(memories, dict(each)) for each in records]
        return len(memories.record(self.agent, new, who=self._who()))

    def _new(self, memories: Memories, given: dict[str, Any]) -> NewRecord:
        at = given.pop("at", None)
        if at is not None:
            given["at_ms"] = round(at.timestamp() * 1000)
        return memories.new(given.pop("kind"), given.pop("text"), **given)

    def close(self, record: str | Record, note: str = "") -> Record:
        """The commitment was kept, the goal reached: it is not live any more. Twice does no harm. Errors: NotFound, Refused."""
        memories = self._current()
        found = memories.whole.back(self.agent, _id(record))
        return record_view(memories.store.close(found.agent, found.id, note, who=self._who()))

    def correct(self, record: str | Record, text: str, *, data: object = None) -> Record:
        """Put another text in its place; the old record stays to be shown, and says what superseded it."""
        old = self._current().whole.back(self.agent, _id(record))
        return self.record(old.kind, text, data=data, task=old.task, supersedes=old.id, trust=old.trust)

    def pin(self, record: str | Record) -> Record:
        """Keep it from deletion."""
        return self._pin(record, pinned=True)

    def unpin(self, record: str | Record) -> Record:
        return self._pin(record, pinned=False)

    def _pin(self, record: str | Record, *, pinned: bool) -> Record:
        memories = self._current()
        found = memories.whole.back(self.agent, _id(record))
        return record_view(memories.store.pin(found.agent, found.id, pinned=pinned, who=self._who()))

    def charter(self, text: str | None = None) -> str | None:
        """Why the agent is there, word for word; given a text, that from now on, which only the operator may do.

        Errors: Refused inside an agent's run; ConfigError for one that would leave no room in a brief.
        """
        memories = self._memories()
        if text is None:
            return memories.charter(self.agent)
        refuse_in_a_run(self._run(), "charters are set")
        return memories.store.set_charter(self.agent, memories.fitting(text), who=self._who()).body

    def redact(self, record: str | Record, reason: str = "") -> Record:
        """Take its text out of memory, the journal, the task that it tells of and the archive, and off the disk, for good.

        Its place stays, with a receipt of who did it and why, and which segments were written anew. The operator's alone.
        Backups made before still have it. Errors: Refused inside an agent's run, NotFound; StoreUnavailable while somebody
        writes the archive: do it again, which finishes it.
        """
        refuse_in_a_run(self._run(), "records are redacted")
        memories = self._current()
        made = redact(memories, self.agent, _id(record), memories.journal.redactor.clean(reason), who=self._who())
        recollection_of(memories).forget()
        return record_view(made, memories.store.receipts(made.id))

    # -- files -------------------------------------------------------------------------------------------------------------

    @property
    def files(self) -> MemoryFiles:
        """The files that the agent's model keeps by Claude's memory tool, and every version of them."""
        return MemoryFiles(self._files, lambda what: refuse_in_a_run(self._run(), what))

    def tool(self) -> "MemoryTool":
        """Claude's memory tool over these files, for `client.beta.messages.tool_runner(tools=[...])`, or by `.execute(input)`.

        Errors: ConfigError without the library; `files.answer(input)` needs none.
        """
        made: MemoryTool = tool_class("MemoryTool")(self.files)
        return made

    def _files(self) -> Files:
        run = self._run()
        return Files(self._memories(), self.agent, self._who(), None if run is None else run.claimed)

    # -- in and out ----------------------------------------------------------------------------------------------------------

    def import_from(
        self, path: str | os.PathLike[str], *, format: str | None = None, told: Callable[[str], None] = lambda _: None
    ) -> Imported:
        """Remember a log, or every log below a folder: claude-code, anthropic, openai or jsonl; left out: by its first lines.

        Goes on where it was left off; what is known is not added again. Files and counts come back. Errors: ConfigError.
        """
        importer = Importer(self._memories(), self.agent, self._who(), told)
        return importer.take(Path(path).expanduser(), format)

    def export(self, write: Callable[[str], object], *, told: Callable[[str], None] = lambda _: None) -> int:
        """Give every record to `write`, as lines of JSON that `import_from` reads, oldest first; how many there were."""
        memories = self._current()
        last = memories.store.agent(self.agent).places
        number = 0
        for each in memories.whole.records(self.agent, 1, last):
            write(json.dumps(record_json(record_view(each)), ensure_ascii=False) + "\n")
            number += 1
            if number % 1000 == 0:
                told(f"{number:,} of {last:,} records")
        return number

    # -- reading -----------------------------------------------------------------------------------------------------------

    def show(self, record: str | Record | Snapshot) -> Any:
        """The whole of it, by id or short name: a Record, with what was done to it, also from the archive. Errors: NotFound.

        By the id of a snapshot a WholeSnapshot: everything that it says, with the records that each statement is of.
        """
        memories = self._current()
        if isinstance(record, Snapshot) or (isinstance(record, str) and record.startswith("snap_")):
            kept, below = Snapshots(memories.store.database).get(_id(record))
            return whole_view(kept, below, memories.store.receipts(kept.id))
        found = memories.whole.get(self.agent, _id(record))
        return record_view(found, memories.store.receipts(found.id))

    def list(
        self, *, kind: str | None = None, state: str = "live", limit: int = 20, before: str | Record | None = None
    ) -> Records:
        """The newest records, newest first, of those that are not in the archive. before: a record, to see the ones before it.
        state: of those of one kind."""
        memories = self._current()
        store = memories.store
        last = {} if before is None else {"before": memories.whole.get(self.agent, _id(before)).place}
        named = None if kind is None else policy.check_kind(kind)
        found = store.newest(self.agent, limit=limit, kind=named, state=state if named else None, **last)
        return [record_view(each) for each in found]

    def brief(self, tokens: int | None = None, *, count: Callable[[str], int] | None = None) -> Brief:
        """What the agent reads first, in at most so many tokens; left out: [memory] brief_tokens.

        It opens with the charter, word for word; its head stays the same to the byte until a lesson or a snapshot is added.
        count: a real tokenizer's count of a text; left out, a bound that errs towards too many. Errors: BudgetTooSmall.
        """
        return brief_view(self.agent, self._memories().brief(self.agent, tokens, count=count))

    def recall(
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
        """Records that answer the question, best first, with what stands beside them.

        tokens: as many as fit with their texts into so many, by `count` or a bound that errs towards too many, and not `limit`;
        a record that is longer than what is left is passed over. kinds: of records; left out, all but calls. since, until:
        instants, or days such as "2026-01-01" (UTC). embed: texts to vectors, by any model, or a model with
        `embed_query` and `embed_documents`, which reads a question in its own way; up to 1,000 records are then also found
        without a word of the question, and where it fails the words are left, with a warning in the log. archive: also of
        what has gone into the archive, which takes up to ten times as long. Errors: ConfigError; StoreUnavailable when the
        archive is out of reach.
        """
        named = None if kinds is None else [policy.check_kind(kind) for kind in kinds]
        found = recollection_of(self._memories()).recall(
            self.agent,
            question,
            limit=limit,
            tokens=tokens,
            count=count,
            kinds=named,
            since_ms=0 if since is None else _instant_ms(since, end=False),
            until_ms=LAST_MS if until is None else _instant_ms(until, end=True),
            embed=embed,
            archive=archive,
        )
        return [hit_view(each, question) for each in found]

    # -- upkeep ------------------------------------------------------------------------------------------------------------

    def compact(self, *, everything: bool = False, told: Callable[[str], None] = lambda _: None) -> int:
        """Make the snapshots that are due, which workers do by themselves; how many. everything: due or not, of all that
        none covers yet. told: hears what is being done.

        Where [memory] names a writer it is then asked for up to 20 that are offline, the newest first, until it gives no
        answer; `snapshots` tells what came of it. Errors: StoreUnavailable.
        """
        memories = self._current()
        made = Compaction(memories).step(agent=self.agent, most=MANY, forced=everything, told=told).snapshots
        with contextlib.suppress(LeaseLost):  # it took too long, and another process asks
            Authoring(memories).step(agent=self.agent, most=BY_HAND, told=told)
        return made

    def snapshots(self, *, level: int | None = None, limit: int = 100) -> SnapshotList:
        """The newest ones, newest first, with who wrote each, for how much. level: 1 are those of records."""
        store = Snapshots(self._memories().store.database)
        levels = range(1, store.levels(self.agent) + 1) if level is None else (level,)
        found = [each for one in levels for each in store.of_level(self.agent, one)]
        found.sort(key=lambda each: (-each.last_place, each.level))
        return [snapshot_view(each) for each in found[:limit]]

    def verify(self, *, whole: bool = False, told: Callable[[str], None] = lambda _: None) -> "tuple[str, ...]":
        """What is missing or was changed, in words; nothing when all is well. whole: also read what is in the archive, which
        else is only counted and looked up in its manifest."""
        found = Compaction(self._current()).verify(agent=self.agent, whole=whole, told=told)
        return tuple(each.what for each in found)

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _current(self) -> Memories:
        """With everything in it that was written before."""
        memories = self._memories()
        memories.catch_up()
        return memories

    def _mine(self) -> RunCore | None:
        """The run that the calling code belongs to, if it is one of this agent."""
        run = self._run()
        return run if run is not None and run.agent == self.agent else None

    def _who(self) -> str:
        run = self._run()
        return "operator" if run is None else f"{run.agent} {run.id}"


def _id(record: str | Record | Snapshot) -> str:
    return record if isinstance(record, str) else record.id


def _instant_ms(given: datetime | str, *, end: bool) -> int:
    """Epoch milliseconds; of a day, its first instant, or its last. Errors: ConfigError."""
    if isinstance(given, str):
        try:
            at = datetime.fromisoformat(given)
        except ValueError as error:
            raise ConfigError(f"{given!r} is no day and no instant", hint='Write "2026-01-01".') from error
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        if end and len(given) == len("2026-01-01"):
            at += timedelta(days=1, milliseconds=-1)
    else:
        at = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
