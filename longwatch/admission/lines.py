"""The lines in front of services: places by lane, kept in the state whatever engine decides. Each method is one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from longwatch.admission.calls import CallRequest
from longwatch.admission.standing import encode
from longwatch.db.connection import Database, Row, Transaction, Value
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


@dataclass(frozen=True)
class Standing:
    """turns: who may ask now. ahead: by call, how many of its lane stand before it."""

    turns: list[str]
    ahead: dict[str, int]


class Lines:
    """Safe in threads."""

    def __init__(self, database: Database, tell: Tell) -> None:
        self._database, self._tell = database, tell

    def stand(self, line: str, requests: Sequence[CallRequest], *, most: int) -> Standing:
        """Take places for calls of one owner, in this order; at most so many may ask at once. Twice keeps a place."""
        owner = requests[0].owner
        with self._database.transaction(part="lines", durable=False) as tx:
            tx.count("line.clear", line=line, gone_ms=policy.GONE_MS)
            tx.count("line.clear_seen", line=line, gone_ms=policy.GONE_MS)
            given, waited_in = tx.several(("line.given", {"line": line}), ("line.waited_in", {"line": line}))
            passes, waiting = _passes(given), {row.lane for row in waited_in}
            for request in requests:
                begins = policy.begins_at(request.lane, passes, waiting)
                if begins != passes.get(request.lane):
                    tx.count("line.give", line=line, lane=request.lane, given=begins)
                    passes[request.lane] = begins
                waiting.add(request.lane)
                who = {"owner": owner, "agent": request.agent, "task": request.task}
                tx.count("line.stand", id=request.id, line=line, lane=request.lane, **who)
            ids = encode([request.id for request in requests]).decode()
            turns, (placed,) = _look(tx, line, owner, most, ("line.placed", {"line": line, "ids": ids}))
            return Standing(turns, {row.id: int(row.ahead) for row in placed})

    def look(self, line: str, owner: str, *, most: int) -> list[str]:
        """Who may ask now. The owner's places count while it looks."""
        with self._database.transaction(part="lines", durable=False) as tx:
            return _look(tx, line, owner, most)[0]

    def busy(self, line: str) -> None:
        """Somebody whose turn it is has to wait: for a moment newcomers are sent to the line without being decided about."""
        with self._database.transaction(part="calls", durable=False) as tx:
            free_us = (tx.now_ms + policy.BUSY_MS) * 1000 + HORIZON_US
            meter = line_gauge(line).meter
            tx.count("gate.slow", name=meter, free_us=free_us)
        self._tell({}, {meter: free_us})

    def leave(self, line: str, request: CallRequest, *, served: bool) -> None:
        """Give up the place. served: for a slot."""
        with self._database.transaction(part="lines", durable=False) as tx:
            if served:
                stride = policy.stride(request.lane)
                tx.count("line.grown", id=request.id, line=line, lane=request.lane, stride=stride)
            tx.count("line.leave", id=request.id)

    def bury(self, owner: str) -> int:
        """The owner is dead: how many places it had."""
        with self._database.transaction(part="lines", durable=False) as tx:
            return tx.count("line.leave_all", owner=owner)

    def before(self, call: str) -> int | None:
        """How many slots are given before that of the call, None: it does not stand in line."""
        with self._database.read() as tx:
            row = tx.one("line.ahead", id=call)
            if row is None:
                return None
            silent: dict[str, Value] = {"line": row.line, "silent_ms": policy.SILENT_MS}
            lengths, given = tx.several(("line.lengths", silent), ("line.given", {"line": row.line}))
            waiting = {each.lane: int(each.waiting) for each in lengths}
            return policy.before(_passes(given), waiting, row.lane, int(row.ahead))

    def all(self) -> list[LineState]:
        with self._database.read() as tx:
            return [LineState(row.line, row.lane, int(row.waiting), int(row.since_ms)) for row in tx.all("line.every")]


def _look(
    tx: Transaction, line: str, owner: str, most: int, *also: tuple[str, Mapping[str, Value]]
) -> tuple[list[str], list[list[Row]]]:
    """Who may ask now, and what is asked besides."""
    tx.count("line.seen", owner=owner, line=line)
    asked: dict[str, Value] = {"line": line, "most": most, "silent_ms": policy.SILENT_MS}
    found, given, *others = tx.several(("line.heads", asked), ("line.given", {"line": line}), *also)
    heads: dict[str, list[str]] = {}
    for row in found:
        heads.setdefault(row.lane, []).append(row.id)
    passes = _passes(given)
    return policy.turns([Queue(lane, passes.get(lane, 0), calls) for lane, calls in heads.items()], most), others


def _passes(given: Iterable[Row]) -> dict[str, int]:
    return {row.lane: int(row.given) for row in given}
