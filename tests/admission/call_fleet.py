"""One fleet of calls on a real SQLite file, with a clock that a test can move, and a store that can lose a reply."""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.db.connection import Part, Transaction
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import StoreUnavailable
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.call import Call
from longwatch.runtime.calls import Caller, Calls
from longwatch.runtime.loop import Bell, Joinable
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Entry, Journal

NOON = 1_795_521_600_000  # 24 Nov 2026 12:00 UTC
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ME = Caller("seo", "owner-me", "growth")
OTHER = Caller("biller", "owner-other", "growth")


class Hand(Machine):
    """A machine whose clocks stand still until a test moves them. marks: every place that was reached."""

    def __init__(self) -> None:
        self.steady, self.wall = 1_000_000, NOON
        self.marks: list[str] = []

    def steady_ms(self) -> int:
        return self.steady

    def wall_ms(self) -> int:
        return self.wall

    def boot_id(self) -> str:
        return "boot-1"

    def fraction(self) -> float:
        return 0.5

    def reach(self, mark: str) -> None:
        self.marks.append(mark)

    def advance(self, ms: int) -> None:
        self.steady, self.wall = self.steady + ms, self.wall + ms


class Nobody:
    def join(self, timeout: float | None = None) -> None:
        return


class VirtualSleeper:
    """Sleeping moves the hand. late_ms: how much too late it wakes. What is started is kept for the test to run."""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.late_ms = hand, 0
        self.started: list[Callable[[], None]] = []
        self.while_asleep: Callable[[], None] | None = None

    def sleep_until(self, steady_ms: int) -> None:
        if self.while_asleep is not None:
            self.while_asleep()
        if steady_ms > self.hand.steady:
            self.hand.advance(steady_ms - self.hand.steady + self.late_ms)

    def wait_for_ring(self, bell: Bell | None, steady_ms: int) -> bool:
        self.sleep_until(steady_ms)
        return False

    def wait_for_flag(self, flag: Event, steady_ms: int) -> bool:
        self.sleep_until(steady_ms)
        return flag.is_set()

    def wait_readable(self, descriptors: Sequence[int], steady_ms: int) -> list[int]:
        self.sleep_until(steady_ms)
        return []

    def start(self, name: str, work: Callable[[], None]) -> Joinable:
        self.started.append(work)
        return Nobody()


class Forgetful(SqliteDatabase):
    """A store whose next commits land while their replies are lost."""

    lose = 0

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True, part: Part = "all") -> Generator[Transaction]:  # type: ignore[override]
        with super().transaction(durable=durable) as tx:
            yield tx
        if self.lose:
            self.lose -= 1
            error = StoreUnavailable("the reply was lost")
            error.maybe_committed = True
            raise error


LIMITS = Limits(
    fleet_money=(Cap(10_000_000, "month"),),
    services={
        "api": Service("api", rates={"requests": Rate(50, 1_000, 50)}, concurrency=20),
        "slow": Service("slow", rates={"requests": Rate(1, 1_000, 1)}),
        "brisk": Service("brisk", rates={"requests": Rate(5, 1_000, 1)}),
        "narrow": Service("narrow", concurrency=1),
        "tokens": Service("tokens", rates={"input_tokens": Rate(60_000, 60_000, 60_000)}),
        "few": Service("few", quota=Cap(3, "day")),
        "stripe": Service("stripe", price_micros=200_000, key_memory_ms=DAY),
        "free": Service("free"),
    },
    budgets={
        "growth": Budget("growth", {"money": (Cap(1_000_000, "day"),), "calls": (Cap(1_000, "day"),)}, (0.5, 0.8, 1.0)),
        "small": Budget("small", {"money": (Cap(1_000, "day"),)}, (0.5, 1.0)),
        "talk": Budget("talk", {"tokens": (Cap(5_000, "day"),)}),
    },
    agents={"seo": Budget("seo", {"money": (Cap(900_000, "day"),)})},
)


@dataclass
class Opened:
    hand: Hand
    sleeper: VirtualSleeper
    database: Forgetful
    limiter: Limiter
    calls: Calls
    kept: list[Call] = field(default_factory=list[Call])

    def request(
        self,
        service: str = "free",
        *,
        money: int = 0,
        budget: str | None = "small",
        agent: str = "agent",
        owner: str = "owner-me",
        key: str | None = None,
        tokens: int = 0,
        weights: Mapping[str, int] | None = None,
        until_ms: int | None = None,
    ) -> CallRequest:
        call = self.hand.new_id("call")
        return CallRequest(
            call,
            key or call,
            service,
            agent,
            owner,
            budget=budget,
            money=money,
            tokens=tokens,
            weights=weights or {"requests": 1},
            until_ms=until_ms,
        )

    def admit(self, request: CallRequest) -> Admitted:
        answer = self.limiter.admit(request)
        assert isinstance(answer, Admitted), answer
        return answer

    def standing(self, purse: str, dimension: str = "money") -> tuple[int, int]:
        """(spent, held) of the purse's present window."""
        found = next(cap for cap in self.limiter.peek().caps if (cap.purse, cap.dimension) == (purse, dimension))
        return found.spent, found.held

    def journal(self, kind: str, subject: str | None = None) -> list[Entry]:
        return self.limiter.journal.latest(kind=kind, subject=subject)

    def now_ms(self) -> int:
        return self.hand.steady + self.database.offset_ms


def open_fleet(path: Path | str, *, limits: Limits = LIMITS, hand: Hand | None = None) -> Opened:
    hand = hand or Hand()
    database = Forgetful(str(path), hand)
    migrate(database)
    fleet.enter(database, hand, name="shop", redaction_key="00" * 16)
    limiter = Limiter(database, Journal(database, Redactor(b"key")), limits)
    sleeper = VirtualSleeper(hand)
    return Opened(hand, sleeper, database, limiter, Calls(hand, sleeper, limiter))
