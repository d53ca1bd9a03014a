"""Memory as it acts: records are written down, and what the journal tells is made into records.

The journal is the outbox: a task's end and what its handler notes are written in the state's own transaction, under its
fence, and become records later, in order, each once. Who reads memory reads what was written before: it catches up first.
Memory is opened when it is first used; a fleet that never asks for it has no such file.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from longwatch.db.connection import Database, Row
from longwatch.errors import BudgetTooSmall, ConfigError, KeyConflict, NotStorable, Refused
from longwatch.policy.bound import bound
from longwatch.policy.brief import COUNTED, Composed, Material, compose, counted, least, ran_out, reads
from longwatch.policy.memory import Record, check_kind, check_trust, plain
from longwatch.policy.naming import check_name
from longwatch.policy.remembered import Told, tell_call, tell_end, tell_note
from longwatch.policy.size import format_bytes
from longwatch.runtime.archived import Whole
from longwatch.runtime.file_telling import Telling
from longwatch.runtime.persist import persist
from longwatch.runtime.storable import digest, to_json
from longwatch.runtime.world import World, format_id
from longwatch.store.archive import Archive
from longwatch.store.journal import Journal
from longwatch.store.memory import MOST, MemoryStore, NewRecord
from longwatch.store.memory_files import FileStore
from longwatch.store.snapshots import Snapshots

if TYPE_CHECKING:
    from longwatch.runtime.authoring import Author

AT_ONCE = 5_000  # entries of the journal that are looked at in one go
ROUNDS = 10_000
MAIN = "main"


@dataclass(eq=False)
class Memories:
    """Of all agents of one fleet. open: opens memory's database, made ready for use. snapshot_every: tasks."""

    state: Database
    journal: Journal
    world: World
    open: Callable[[], Database]
    payload_max: int
    snapshot_every: int
    brief_tokens: int
    shared: bool = True  # with other processes; a state that is only in this one's own memory is not worth the upkeep
    charters: dict[str, Callable[[], str]] = field(default_factory=dict[str, Callable[[], str]])
    """By agent: reads the file that the config names."""
    archive: Callable[[], Archive | None] = lambda: None
    """Opens it, if there is one."""
    author: "Author | None" = None
    """Who writes snapshots; None: nobody but the offline summary."""

    def __post_init__(self) -> None:
        self.holder = self.world.new_id("compactor")
        self._guard = threading.Lock()
        self._told: set[str] = set()
        # by agent and part, how many times as many records as are usual have room in a brief
        self._reading: dict[str, dict[str, int]] = {}
        self._store: MemoryStore | None = None

    @property
    def store(self) -> MemoryStore:
        """Errors: StoreUnavailable."""
        with self._guard:
            if self._store is None:
                database = self.open()
                if database is not self.state:
                    database.offset_ms = self.state.offset_ms
                self._store = MemoryStore(database, self.journal.redactor)
            return self._store

    @property
    def whole(self) -> Whole:
        """With what is in the archive. Errors: StoreUnavailable."""
        return Whole(self.store, self.archive)

    @property
    def files(self) -> FileStore:
        """Those of the memory tool. Errors: StoreUnavailable."""
        return FileStore(self.store.database, self.store.redactor)

    @property
    def telling(self) -> Telling:
        """Of what became of them. Errors: StoreUnavailable."""
        return Telling(self.state, self.journal, self.world, self.files)

    def first_time(self, what: str) -> bool:
        """Whether it is to be told: not more than once in this process."""
        with self._guard:
            known, self._told = what in self._told, self._told | {what}
            return not known

    def close(self) -> None:
        with self._guard:
            if self._store is not None and self._store.database is not self.state:
                self._store.database.close()
            self._store = None

    # -- writing -----------------------------------------------------------------------------------------------------------

    def new(
        self,
        kind: str,
        text: str,
        *,
        data: object = None,
        key: str | None = None,
        supersedes: str | None = None,
        trust: str | None = None,
        **about: Any,
    ) -> NewRecord:
        """A record to be written. about: task, thread, author, source, at_ms. Errors: ConfigError, NotStorable."""
        size = len(text.encode("utf-8", "replace"))
        if size > self.payload_max:
            raise NotStorable(
                f"a record of {size:,} bytes is more than {format_bytes(self.payload_max)}",
                hint="Keep the whole in a file and record where it is; or raise [fleet] payload.",
            )
        if key is not None:
            check_name("the key", key)
        return NewRecord(
            id=self.world.new_id("rec"),
            kind=check_kind(kind),
            body=plain(text),
            trust=check_trust(trust, kind),
            key=key,
            data=None if data is None else to_json(data, what="data of the record", most=self.payload_max),
            supersedes=supersedes,
            **about,
        )

    def record(self, agent: str, new: Sequence[NewRecord], *, who: str) -> list[Record]:
        """Write them down, as many as there are, MOST at a time. Errors: KeyConflict, NotFound, Refused."""
        check_name("the agent", agent)
        if any(each.supersedes is not None for each in new):
            self.catch_up()
        kept: list[Record] = []
        for start in range(0, len(new), MOST):
            part = new[start : start + MOST]
            self._bring_back(agent, part)
            kept += persist(lambda part=part: self.store.add(agent, part, who=who))  # type: ignore[misc]
        return kept

    def _bring_back(self, agent: str, new: Sequence[NewRecord]) -> None:
        """Whatever these may be, or supersede, and that is in the archive."""
        self.whole.back_by_key(agent, [each.key for each in new])
        for each in new:
            if each.supersedes is not None:
                self.whole.back(agent, each.supersedes)

    def noted(self, agent: str, new: NewRecord) -> Record | None:
        """What an earlier attempt noted under the key. Errors: KeyConflict when it says something else."""
        assert new.key is not None
        self.catch_up()
        self.whole.back_by_key(agent, [new.key])
        found = self.store.by_key(agent, new.key)
        if found is not None and (found.kind, found.body) != (new.kind, self.journal.redactor.clean(new.body)):
            raise KeyConflict(
                f"the key {new.key!r} is of {found.id}, which says something else", hint="Use another key."
            )
        return found

    def check_live(self, agent: str, ref: str) -> Record:
        """What is to be superseded. Errors: NotFound, Refused when something else has taken its place."""
        self.catch_up()
        found = self.whole.back(agent, ref)
        if found.state != "live":
            raise Refused(f"{found.id} is {found.state} already", hint="longwatch memory show tells what became of it.")
        return found

    # -- charters ------------------------------------------------------------------------------------------------------------

    def charter(self, agent: str) -> str | None:
        """Word for word. Taken from the config's file the first time; from then on only the operator changes it."""
        found = self.store.charter(agent)
        if found is None and agent in self.charters:
            found = self.store.set_charter(agent, self.fitting(self.charters[agent]()), who="config", only_first=True)
        return None if found is None else found.body

    def fitting(self, text: str) -> str:
        """Errors: ConfigError for an empty one, or one that would leave no room in a brief."""
        if not text.strip():
            raise ConfigError("a charter with no words says nothing", hint="Say why the agent is there.")
        size, most = bound(text), self.brief_tokens // 2
        if size > most:
            raise ConfigError(
                f"a charter of up to {size:,} tokens is more than half of a brief: at most {most:,} are left for it",
                hint=f"Shorten it, or raise [memory] brief_tokens (now {self.brief_tokens:,}).",
            )
        return text

    # -- briefs --------------------------------------------------------------------------------------------------------------

    def brief(self, agent: str, tokens: int | None = None, *, count: Callable[[str], int] | None = None) -> Composed:
        """At most so many tokens of what the agent should read first; left out: [memory] brief_tokens.

        count: the tokens of a text by a real tokenizer, which then counts instead of the bound. Errors: BudgetTooSmall.
        """
        self.catch_up()
        self.charter(agent)
        tokens = self.brief_tokens if tokens is None else tokens
        times = self._reading.get(agent, {})
        material, composed = self._composed(agent, tokens, count, times)
        while composed is not None and (short := ran_out(material, composed)):
            times = self._reading[agent] = {**times, **{part: 2 * times.get(part, 1) for part in short}}
            material, composed = self._composed(agent, tokens, count, times)
        if composed is None:
            needed = least(material.charter) if count is None else count(material.charter or "")
            raise BudgetTooSmall(
                f"a brief of {tokens:,} tokens cannot hold the charter of {agent}, which takes up to {needed:,}",
                tokens=tokens,
                least=needed,
                hint=f"Ask for {2 * needed:,} or more.",
            )
        return composed

    def _composed(
        self, agent: str, tokens: int, count: Callable[[str], int] | None, times: Mapping[str, int]
    ) -> tuple[Material, Composed | None]:
        read = reads(tokens if count is None else COUNTED * tokens, times)
        material = Snapshots(self.store.database).material(agent, read)
        return material, compose(material, tokens) if count is None else counted(material, tokens, count)

    # -- what the journal tells ------------------------------------------------------------------------------------------------

    def catch_up(self, *, most: int = ROUNDS, still: Callable[[], object] = lambda: None) -> int:
        """Make records of what the journal has told until now, in up to `most` steps; how many entries were taken.

        What it tells meanwhile is for whoever comes next: a busy fleet tells faster than it can be read. And tell it what
        became of files, in the place of who was killed before he did. still: called between steps.
        """
        self.telling.tell_late()
        goal, taken = self._end(), 0
        for _ in range(most):
            step = self._catch_up_some(*goal)
            if step is None:
                break
            taken += step
            still()
        return taken

    def _catch_up_some(self, epoch: int, end: int) -> int | None:
        """None: there is no more up to the end, or the journal's history is another one by now."""
        store = self.store
        before = store.fed()
        after = before[1] if before[0] == epoch else 0  # in another history what is known already is passed over
        if after >= end:
            return None
        upto = min(end, after + AT_ONCE)
        with self.state.read() as tx:
            (now,), rows = tx.several(("memory.epoch", {}), ("memory.journal", {"after": after, "upto": upto}))
        if int(now.epoch) != epoch:
            return None
        made = [(row.agent or MAIN, new) for row in rows if (new := self._made(row)) is not None]
        persist(lambda: store.feed(made, epoch=epoch, seq=upto, before=before))
        return len(made)

    def read_up_to(self) -> int:
        """Up to where the journal of this history was read: what is beyond is needed to make records of."""
        epoch, seq = self.store.fed()
        return seq if epoch == self._end()[0] else 0

    def _end(self) -> tuple[int, int]:
        with self.state.read() as tx:
            (epoch,), (end,) = tx.several(("memory.epoch", {}), ("memory.journal_end", {}))
            return int(epoch.epoch), int(end.seq)

    def _made(self, row: Row) -> NewRecord | None:
        told = _told(row)
        if told is None:
            return None
        entropy = int(digest(f"{told.key}\0{row.agent}")[:20], 16)
        return NewRecord(
            id=told.id or format_id("rec", at_ms=row.at_ms, entropy=entropy),
            kind=told.kind,
            body=told.body,
            trust=told.trust,
            source=told.source,
            at_ms=row.at_ms,
            task=row.task,
            key=told.key,
            data=told.data,
            supersedes=told.supersedes,
        )


def _told(row: Row) -> Told | None:
    area, _, name = row.kind.partition(".")
    if area == "task":
        return tell_end(
            name,
            task=row.task,
            at_ms=row.at_ms,
            kind=row.task_kind,
            args=row.args,
            result=row.result if name == "done" else None,
            error=row.error if name != "done" else None,
        )
    data: dict[str, Any] = msgspec.json.decode(row.data)
    if area == "note":
        return tell_note(name, data, seq=row.seq, task=row.task or row.subject)
    return tell_call(name, data, call=row.subject)
