"""The lines in front of services: places by lane, kept in the state whatever engine decides. Each method is one transaction."""

from collections.abc import Callable
from dataclasses import dataclass

from longwatch.admission.calls import CallRequest
from longwatch.db.connection import Database, Transaction
from longwatch.policy import lane as policy
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.lane import Queue
from longwatch.policy.meter import Meter
from longwatch.policy.scope import line_gauge

Tell = Callable[[dict[str, Meter], dict[str, int]], None]


@dataclass(frozen=True)
class LineState:
    """One lane of a line, for people. since_ms: when the first of those who wait came, by the fleet's clock."""

    line: str
    lane: str
    waiting: int
    since_ms: int


class Lines:
    """Safe in threads."""

    def __init__(self, database: Database, tell: Tell) -> None:
        self._database, self._tell = database, tell

    def stand(self, line: str, request: CallRequest, *, most: int) -> list[str]:
        """Take a place; who may ask now, at most so many of one lane. Twice keeps the place."""
        with self._database.transaction(part="calls", durable=False) as tx:
            self._clear(tx, line)
            given = {row.lane: int(row.given) for row in tx.all("line.given", line=line)}
            waiting = {row.lane: int(row.waiting) for row in tx.all("line.counts", line=line)}
            begins = policy.begins_at(request.lane, given, waiting)
            if begins != given.get(request.lane):
                tx.count("line.give", line=line, lane=request.lane, given=begins)
            who = {"owner": request.owner, "agent": request.agent, "task": request.task}
            tx.count("line.stand", id=request.id, line=line, lane=request.lane, **who)
            return self._look(tx, line, request.owner, most)

    def look(self, line: str, owner: str, *, most: int) -> list[str]:
        """Who may ask now. The owner's places count while it looks."""
        with self._database.transaction(part="calls", durable=False) as tx:
            return self._look(tx, line, owner, most)

    def _look(self, tx: Transaction, line: str, owner: str, most: int) -> list[str]:
        tx.count("line.seen", owner=owner, line=line)
        return policy.turns(self._queues(tx, line, most), most)

    def _queues(self, tx: Transaction, line: str, most: int) -> list[Queue]:
        given = {row.lane: int(row.given) for row in tx.all("line.given", line=line)}
        found: dict[str, Queue] = {}
        for row in tx.all("line.heads", line=line, most=most, silent_ms=policy.SILENT_MS):
            before = found.get(row.lane, Queue(row.lane, given.get(row.lane, 0), (), int(row.waiting)))
            found[row.lane] = before._replace(waiting=(*before.waiting, row.id))
        return list(found.values())

    def _clear(self, tx: Transaction, line: str) -> None:
        tx.count("line.clear", line=line, gone_ms=policy.GONE_MS)
        tx.count("line.clear_seen", line=line, gone_ms=policy.GONE_MS)

    def busy(self, line: str) -> None:
        """Somebody whose turn it is has to wait: for a moment newcomers are sent to the line without being decided about."""
        with self._database.transaction(part="calls", durable=False) as tx:
            free_us = (tx.now_ms + policy.BUSY_MS) * 1000 + HORIZON_US
            meter = line_gauge(line).meter
            tx.count("gate.slow", name=meter, free_us=free_us)
        self._tell({}, {meter: free_us})

    def leave(self, line: str, request: CallRequest, *, served: bool) -> None:
        """Give up the place. served: for a slot."""
        with self._database.transaction(part="calls", durable=False) as tx:
            if tx.count("line.leave", id=request.id) and served:
                tx.count("line.grown", line=line, lane=request.lane, stride=policy.stride(request.lane))

    def bury(self, owner: str) -> int:
        """The owner is dead: how many places it had."""
        with self._database.transaction(part="calls", durable=False) as tx:
            return tx.count("line.leave_all", owner=owner)

    def before(self, call: str) -> int | None:
        """How many slots are given before that of the call, None: it does not stand in line."""
        with self._database.read() as tx:
            row = tx.one("line.ahead", id=call, silent_ms=policy.SILENT_MS)
            return None if row is None else policy.before(self._queues(tx, row.line, 1), row.lane, int(row.ahead))

    def all(self) -> list[LineState]:
        with self._database.read() as tx:
            return [LineState(row.line, row.lane, int(row.waiting), int(row.since_ms)) for row in tx.all("line.every")]
