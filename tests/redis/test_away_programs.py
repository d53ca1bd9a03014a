"""Two processes of one fleet, and only one of them sees Redis: what both admit together, whatever happens to them.

Random programs: calls are admitted, settled, released, lost and expire, on either side; the way to Redis is cut and mended,
Redis forgets. An auditor of its own adds up what was admitted. It never looks into the state, until the end.
"""

import contextlib
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import BudgetExceeded, LimitRefused, StoreUnavailable
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing import postgres
from longwatch.testing.play import HandClock
from longwatch.testing.redis import Server

NUMBERS = count()
RATE, MOST, CAP, QUOTA = Rate(20, 1_000, 8), 6, 4_000, 60
LIMITS = Limits(
    services={
        "api": Service("api", rates={"requests": RATE}, concurrency=MOST),
        "paid": Service("paid", quota=Cap(QUOTA, "total")),
        "keyed": Service("keyed", key_memory_ms=86_400_000),
    },
    budgets={"small": Budget("small", {"money": (Cap(CAP, "total"),)})},
    admission="redis",
    away=25,
)
Database = SqliteDatabase | PostgresDatabase


@dataclass
class Call:
    request: CallRequest
    side: str
    charge: int
    state: str = "open"


@dataclass
class Shop:
    """near: sees Redis, but for when it is restarted. far: by a way of its own, which can be cut."""

    database: Database
    clock: HandClock
    server: Server
    way: Path
    chance: random.Random
    calls: list[Call] = field(default_factory=list[Call])
    slots: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        tag = f"away-{next(NUMBERS)}"
        self.mend()
        self.sides = {
            "near": self._limiter(Link(self.server.url, tag, timeout_s=1.0)),
            "far": self._limiter(Link(f"redis://{self.way}", tag, timeout_s=1.0)),
        }

    def _limiter(self, link: Link) -> RedisLimiter:
        return RedisLimiter(
            self.database,
            Journal(self.database, Redactor(b"key")),
            LIMITS,
            link=link,
            clock=self.clock,
            new_token=lambda: f"token-{next(NUMBERS)}",
            given=True,
        )

    def cut(self) -> None:
        self.way.unlink(missing_ok=True)
        self.sides["far"].link.close()

    def mend(self) -> None:
        if not self.way.is_symlink():
            self.way.symlink_to(self.server.socket)

    def forget(self) -> None:
        self.server.kill()
        if self.chance.random() < 0.5:
            self.ask("near")
        self.server.launch()

    def advance(self, ms: int) -> None:
        self.clock.steady += ms
        self.clock.wall += ms
        for limiter in self.sides.values():
            limiter.flush()  # as a thread of each process does all the time
        for limiter in self.sides.values():
            limiter.ask_again()

    # -- acts ------------------------------------------------------------------------------------------------------------

    def ask(self, side: str) -> None:
        service = self.chance.choice(("api", "api", "paid", "keyed"))
        id = f"call_{next(NUMBERS):07}"
        key = self.chance.choice((id, "k1", "k2")) if service == "keyed" else id
        money = self.chance.choice((0, 50, 120, 400))
        request = CallRequest(id, key, service, "agent", f"owner-{side}", budget="small", money=money)
        try:
            answer = self.sides[side].admit(request)
        except (BudgetExceeded, LimitRefused):
            return
        except StoreUnavailable as error:
            if not error.waits:
                raise
            return
        if isinstance(answer, Admitted):
            self.calls.append(Call(request, side, money))
            if service == "api":
                self.slots.append(answer.slot_ms)
        self.audit()

    def end(self, side: str) -> None:
        mine = [call for call in self.calls if call.side == side and call.state == "open"]
        if not mine:
            return
        call, limiter = self.chance.choice(mine), self.sides[side]
        how = self.chance.choice(("settle", "settle", "cheap", "release", "lose"))
        try:
            if how == "settle":
                limiter.settle(call.request.id, owner=call.request.owner)
            elif how == "cheap":
                limiter.settle(call.request.id, money=call.request.money // 2, owner=call.request.owner)
                call.charge //= 2
            elif how == "release":
                limiter.release(call.request.id, owner=call.request.owner)
                call.charge = 0
            else:
                limiter.unknown(call.request.id, owner=call.request.owner)
        except StoreUnavailable as error:
            if not error.waits:
                raise
            call.charge = call.request.money  # Redis has admitted it, and is away: its end is told later
            return
        call.state = "settled" if how in ("settle", "cheap") else how

    def audit(self) -> None:
        keyed = sum(call.charge for call in self.calls if call.request.key == call.request.id)
        assert keyed <= CAP
        calls = [call for call in self.calls if call.request.service == "paid" and call.state != "release"]
        assert len(calls) <= QUOTA
        places = [call for call in self.calls if call.request.service == "api" and call.state == "open"]
        assert len(places) <= MOST, [call.side for call in places]

    def spent(self) -> int:
        with self.database.read() as tx:
            return sum(int(row.settled) for row in tx.all("spend.every", minute_ms=0) if row.purse == "budget:small")

    def play(self, acts: int) -> None:
        for _ in range(acts):
            side = self.chance.choice(("near", "far"))
            act = self.chance.random()
            if act < 0.55:
                self.ask(side)
            elif act < 0.8:
                self.end(side)
            elif act < 0.9:
                self.advance(self.chance.choice((10, 100, 700, 3_000)))
            elif act < 0.94:
                self.cut()
            elif act < 0.97:
                self.mend()
            elif act < 0.98:
                self.forget()
            else:
                self.sides[side].flush()

    def finish(self) -> None:
        """Everybody sees Redis again; everything ends, and is written down."""
        self.mend()
        for _ in range(12):
            self.advance(1_000)
        assert not any(limiter.away for limiter in self.sides.values())
        for call in self.calls:
            if call.state == "open":
                self.sides[call.side].settle(call.request.id, owner=call.request.owner)
                call.state, call.charge = "settled", call.request.money
        for limiter in self.sides.values():
            limiter.flush()


@contextlib.contextmanager
def opened(server: Server, folder: Path, url: str = "") -> Generator[Shop]:
    """url: of a database of PostgreSQL; without it, SQLite in the folder."""
    clock = HandClock()
    database = PostgresDatabase(url, Machine(), clock=clock) if url else SqliteDatabase(str(folder / "s.db"), clock)
    if not url:
        migrate(database)
    fleet.enter(database, clock, name="shop", redaction_key="00")
    try:
        yield Shop(database, clock, server, folder / "way.sock", random.Random(0))
    finally:
        database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def made(request: pytest.FixtureRequest, own_server: Server, tmp_path: Path) -> Iterator[Shop]:
    url = postgres.shared().new_database() if request.param == "postgres" else ""
    with opened(own_server, tmp_path, url) as shop:
        yield shop
    if url:
        postgres.shared().drop(url)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(6))
def test_both_sides_together_keep_every_limit(made: Shop, seed: int) -> None:
    keeps_every_limit(made, seed)


def keeps_every_limit(made: Shop, seed: int) -> None:
    made.chance = random.Random(seed)
    made.play(400)
    made.audit()
    made.finish()
    rows = marks(made.database)
    alone = [call for call in made.calls if call.request.key == call.request.id]
    for call in alone:
        state, money, _ = rows[call.request.id]
        assert (state, money) == ({"release": "released", "lose": "unknown"}.get(call.state, "settled"), call.charge)
    assert at_most(sorted(made.slots)), f"seed {seed}"
    counted = sum(money for state, money, _ in rows.values() if state in ("settled", "unknown"))
    parked = parked_of(made.database)
    assert made.spent() == counted + parked
    assert made.spent() <= CAP
    assert {mark for _, _, mark in rows.values()} == {0, 1}, "one side never decided"


def marks(database: Database) -> dict[str, tuple[str, int, int]]:
    with database.read() as tx:
        ids = [row.id for row in tx.all("call.doubts", state="settled", limit=9_999)]
        ids += [
            row.id
            for state in ("unknown", "released", "open")
            for row in tx.all("call.doubts", state=state, limit=9_999)
        ]
        found = {id: (tx.one("call.doubt", id=id), tx.one("away.by_id", id=id)) for id in ids}
    return {id: (row.state, int(row.money), int(mark.away)) for id, (row, mark) in found.items() if row and mark}


def parked_of(database: Database) -> int:
    with database.read() as tx:
        rows = tx.all("allotment.parked", purses='["budget:small"]', at_ms=tx.wall_ms)
    return sum(int(row.parked) for row in rows)


def at_most(slots: list[int]) -> bool:
    refilled = RATE.amount / RATE.per_ms
    return all(
        end - start + 1 <= RATE.burst + refilled * (slots[end] - slots[start] + 1)
        for start in range(len(slots))
        for end in range(start, len(slots))
    )


def test_what_nobody_ends_on_the_far_side_is_unknown_in_time(made: Shop) -> None:
    expires_what_nobody_ends(made)


def expires_what_nobody_ends(made: Shop) -> None:
    made.cut()
    made.ask("far")
    while not made.calls:
        made.ask("far")
    made.advance(HOLD_MS + 1)
    assert made.sides["far"].expire() == len(made.calls)
    assert {state for state, _, _ in marks(made.database).values()} == {"unknown"}
