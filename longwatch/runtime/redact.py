"""Takes what a record says out of all there is: memory, the state, and what of both is in the archive.

A record that has left is brought back first, so that whoever dies on the way leaves something that is still known to hold it.
Then the segments are written anew, then memory and the state; then the segments are looked at once more, for what an archivist
had read before and listed since. A repetition finishes what was left half done.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from longwatch.policy.memory import Record
from longwatch.runtime.memory import Memories
from longwatch.store.archive import Archive, Entry
from longwatch.store.redaction import Redaction

GONE = {"state": "redacted", "body": "[redacted]", "data": None, "author": None, "key": None, "trust": "own"}
MANY = 1_000_000  # entries of one task
encode = msgspec.json.Encoder().encode
decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


def redact(memories: Memories, agent: str, ref: str, reason: str, *, who: str) -> Record:
    """Twice does no harm. Errors: NotFound; StoreUnavailable, also while somebody writes the archive: do it again."""
    whole = memories.whole
    record = whole.back(agent, ref)
    archived = Archived(memories.archive(), record, who)
    archived.redact(reason)
    redaction = Redaction(memories.store.database, memories.state, whole.of)
    before = archived.told()
    made = redaction.redact(record.agent, record.id, reason, who=who, told=before)
    if archived.redact(reason):
        redaction.add_receipt(made, archived.told()[len(before) :], who=who)
    return made


@dataclass(frozen=True)
class Archived:
    """What the archive has of a record, as it was remembered."""

    archive: Archive | None
    record: Record
    who: str

    def redact(self, reason: str) -> int:
        """How many entries have changed."""
        if self.archive is None:
            return 0
        ids = sorted(self._ids(self.archive))
        return self.archive.redact(self.without, ids=ids, reason=f"{self.record.id}: {reason}", who=self.who).entries

    def told(self) -> list[str]:
        """Which segments were written anew for it, and as what."""
        moves = [] if self.archive is None else self.archive.manifest().moves
        mine = (move for move in moves if move.move == "redact" and move.reason.startswith(f"{self.record.id}:"))
        return [f"{move.name[:17]} -> {move.segment.name[:17]}" for move in mine if move.segment is not None]

    def _ids(self, archive: Archive) -> Iterator[str]:
        yield self.record.id
        if self.record.task is not None and self.record.source in ("run", "task"):
            yield from (each.id for each in archive.find(task=self.record.task, limit=MANY).entries if self._says(each))

    def _says(self, entry: Entry) -> bool:
        return self.without(entry) != entry

    def without(self, entry: Entry) -> Entry:
        """The entry, as it may be read by anybody."""
        record, body = self.record, decode(entry.body)
        if entry.kind == "record" and entry.id == record.id:
            return entry._replace(body=encode(body | GONE))
        if entry.task != record.task or record.task is None:
            return entry
        if entry.kind == "task" and record.source == "task":
            return entry._replace(body=encode(_task(body)))
        if entry.kind == "journal" and (data := self._told(body)) is not None:
            return entry._replace(body=encode(body | {"data": data}))
        return entry

    def _told(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """What the journal may tell of it; None: as it is."""
        area: str = body["kind"].partition(".")[0]
        data: dict[str, Any] = body.get("data") or {}
        if self.record.source == "run" and area == "note" and data.get("record") == self.record.id:
            return {"record": self.record.id, "redacted": True}
        return {"redacted": True} if self.record.source == "task" and area == "task" and data else None


def _task(body: dict[str, Any]) -> dict[str, Any]:
    steps = [each | {"result": each["result"] and '"[redacted]"'} for each in body["steps"]]
    runs = [each | {"error": each["error"] and "[redacted]"} for each in body["runs"]]
    told = {"args": "{}", "result": body["result"] and '"[redacted]"', "error": body["error"] and "[redacted]"}
    return body | told | {"steps": steps, "runs": runs}
