"""The append-only record of every move, written in the same transaction as the move and redacted before it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from longwatch.db.connection import Database, Row, Transaction
from longwatch.policy.redact import Redactor

Data = dict[str, object]
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Entry:
    """One record: `at_ms` epoch milliseconds by the calendar, `kind` such as "task.done", `subject` the id it is of."""

    seq: int
    at_ms: int
    kind: str
    subject: str
    agent: str | None
    task: str | None
    data: Data


class NewEntry(NamedTuple):
    """An entry before it is one. data: also as its JSON."""

    kind: str
    subject: str
    agent: str | None
    task: str | None
    data: Data | str


@dataclass(frozen=True)
class Journal:
    database: Database
    redactor: Redactor

    def append(
        self,
        tx: Transaction,
        kind: str,
        subject: str,
        *,
        agent: str | None = None,
        task: str | None = None,
        **data: object,
    ) -> None:
        """Write an entry into the open transaction `tx`; it stands or falls with the move it tells of."""
        text = self.redactor.clean(encode(data).decode()) if data else "{}"
        tx.count("journal.append", kind=kind, subject=subject, agent=agent, task=task, data=text)

    def append_all(self, tx: Transaction, entries: Sequence[NewEntry]) -> None:
        """The same of several entries, in this order; looked through for secrets together, because most have none."""
        texts = [entry.data if isinstance(entry.data, str) else encode(entry.data).decode() for entry in entries]
        whole = "\n".join(texts)
        if self.redactor.clean(whole) != whole:
            texts = [self.redactor.clean(text) for text in texts]
        rows = [(*entry[:4], text) for entry, text in zip(entries, texts, strict=True)]
        tx.each("journal.append", NewEntry._fields, rows)

    def after(self, seq: int, *, limit: int = 100, **filters: str | int | None) -> list[Entry]:
        """Up to `limit` entries after the place `seq`, oldest first. Filters: kind (or prefix), subject, agent, since_ms."""
        statement = "journal.list" if filters.get("subject") is None else "journal.list_of"  # by its indexes
        with self.database.read() as tx:
            return [entry(row) for row in tx.all(statement, after=seq, limit=limit, **_all_of(filters))]

    def latest(self, *, limit: int = 100, **filters: str | int | None) -> list[Entry]:
        """The newest `limit` entries, oldest of them first."""
        statement = "journal.latest" if filters.get("subject") is None else "journal.latest_of"
        with self.database.read() as tx:
            rows = tx.all(statement, limit=limit, **_all_of(filters))
        return [entry(row) for row in reversed(rows)]


def entry(row: Row) -> Entry:
    data = msgspec.json.decode(row.data, type=dict[str, object])
    return Entry(row.seq, row.at_ms, row.kind, row.subject, row.agent, row.task, data)


def _all_of(filters: dict[str, str | int | None]) -> dict[str, str | int | None]:
    return {"kind": None, "subject": None, "agent": None, "since_ms": None} | filters
