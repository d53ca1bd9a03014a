"""What a run remembers: written into the journal under the run's fence, and made a record of memory from there.

A run that was overtaken can therefore note nothing, and a note stands or falls with the state, not with memory's file.
"""

from dataclasses import dataclass, field

import msgspec

from longwatch.errors import KeyConflict
from longwatch.policy.memory import Record
from longwatch.runtime.parts import Parts
from longwatch.runtime.persist import persist
from longwatch.runtime.storable import digest
from longwatch.store.memory import NewRecord
from longwatch.store.moves import Run as Claimed
from longwatch.store.runs import hold


@dataclass
class Notes:
    """Of one run."""

    parts: Parts
    claimed: Claimed
    _noted: dict[str, Record] = field(default_factory=dict[str, Record])  # by key

    def note(
        self,
        kind: str,
        text: str,
        *,
        data: object = None,
        key: str | None = None,
        supersedes: str | None = None,
        trust: str | None = None,
    ) -> Record:
        """Errors: ConfigError, NotStorable, KeyConflict, LeaseLost, NotFound and Refused for what cannot be superseded."""
        task = self.claimed.task
        new = self.parts.memories.new(kind, text, data=data, key=key, supersedes=supersedes, trust=trust, task=task.id)
        own = key or f"{task.id}/{digest(msgspec.json.encode((kind, new.body, new.data)).decode())}"
        new = msgspec.structs.replace(new, key=own, source="run")
        found = self._noted.get(own) or self._before(new, given=key is not None)
        if found is None:
            if supersedes is not None:
                self.parts.memories.check_live(task.agent, supersedes)
            persist(lambda: self._write(new, data))
            found = self._record(new)
        elif (found.kind, found.body) != (new.kind, new.body) and found.place == 0:
            raise KeyConflict(f"the key {key!r} is of {found.id}, which says something else", hint="Use another key.")
        self._noted[own] = found
        return found

    def _before(self, new: NewRecord, *, given: bool) -> Record | None:
        """As an earlier attempt noted it. Only who was here before, or was told a key, has to look."""
        task = self.claimed.task
        if not given and not task.failures and not task.crashes:
            return None
        return self.parts.memories.noted(task.agent, new)

    def _write(self, new: NewRecord, data: object) -> None:
        task = self.claimed.task
        with self.parts.database.transaction(part="tasks") as tx:
            hold(tx, self.claimed)
            self.parts.journal.append(
                tx,
                f"note.{new.kind}",
                task.id,
                agent=task.agent,
                task=task.id,
                text=new.body,
                data=None if new.data is None else msgspec.json.decode(new.data),
                record=new.id,
                key=new.key,
                trust=new.trust,
                supersedes=new.supersedes,
            )

    def _record(self, new: NewRecord) -> Record:
        task = self.claimed.task
        return Record(
            seq=0,
            id=new.id,
            agent=task.agent,
            place=0,
            kind=new.kind,
            state="live",
            at_ms=self.parts.world.wall_ms(),
            task=task.id,
            thread=task.id,
            author=None,
            source=new.source,
            trust=new.trust,
            key=new.key,
            body=new.body,
            data=new.data,
            successor=None,
            pinned=0,
        )
