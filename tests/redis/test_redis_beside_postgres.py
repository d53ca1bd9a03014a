"""Redis that decides for a state on a server: what has to be alone is alone there too."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.redis.memory import GRACE_MS
from longwatch.db.postgres import PostgresDatabase
from longwatch.policy.admission import Later
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing import postgres
from longwatch.testing.play import HandClock
from longwatch.testing.redis import Server

NUMBERS = count()
CAP = 73_800_000
LIMITS = Limits(services={"free": Service("free")}, budgets={"small": Budget("small", {"money": (Cap(CAP, "total"),)})})


class Shop:
    """A state on PostgreSQL, and processes of its fleet whose calls this Redis decides about."""

    def __init__(self, server: Server) -> None:
        self.server, self.clock = server, HandClock()
        self.url = postgres.shared().new_database()
        self.database = PostgresDatabase(self.url, Machine(), clock=self.clock)
        fleet.enter(self.database, self.clock, name="shop", redaction_key="00")

    def limiter(self) -> RedisLimiter:
        """As another process of the fleet has it."""
        return RedisLimiter(
            self.database,
            Journal(self.database, Redactor(b"key")),
            LIMITS,
            link=Link(self.server.url, "beside", timeout_s=1.0),
            clock=self.clock,
            new_token=lambda: f"generation-{next(NUMBERS)}",
            given=True,
        )

    def advance(self, ms: int) -> None:
        self.clock.steady += ms
        self.clock.wall += ms

    def locks(self) -> int:
        """How many advisory locks are held on the server."""
        with psycopg.connect(self.url) as connection:
            (found,) = connection.execute(b"select count(*) from pg_locks where locktype = 'advisory'").fetchall()
        return int(found[0])


@pytest.fixture
def shop(own_server: Server, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(own_server)
    yield made
    made.database.close()
    postgres.shared().drop(made.url)


def request() -> CallRequest:
    call = f"call_{next(NUMBERS):06}"
    return CallRequest(call, call, "free", "ann", "me", budget="small", money=100_000)


def test_whether_the_memory_is_filled_is_asked_behind_the_lock(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who asks early and goes on late takes what others have been allotted meanwhile for lost."""
    shop.limiter().admit(request())
    shop.server.kill()
    shop.server.launch()
    limiter, seen, asked = shop.limiter(), list[int](), Link.run

    def run(link: Link, operation: str, arguments: dict[str, object]) -> dict[str, object]:
        if operation in ("state", "fill"):
            seen.append(shop.locks())
        return asked(link, operation, arguments)

    assert isinstance(limiter.admit(request()), Later)
    shop.advance(GRACE_MS + 1)
    monkeypatch.setattr(Link, "run", run)
    assert isinstance(limiter.admit(request()), Admitted)
    assert seen
    assert all(seen), f"locks held each time: {seen}"
