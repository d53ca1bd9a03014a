"""One fleet of leases and edits on a real SQLite file, with a clock that a test can move."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from longwatch.db.connection import Part, Transaction
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import StoreUnavailable
from longwatch.policy.lease import Holder
from longwatch.policy.redact import Redactor
from longwatch.runtime.files import Edits
from longwatch.runtime.lease import Leases
from longwatch.runtime.loop import Bell, Joinable, Sleeper, Threads
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.edits import EditStore
from longwatch.store.journal import Journal
from longwatch.store.leases import LeaseStore

ME = Holder("owner-me", "seo", "task_1")
OTHER = Holder("owner-other", "biller")


class Hand(Machine):
    """A machine whose clocks stand still until a test moves them. marks: every place that was reached."""

    def __init__(self) -> None:
        self.steady, self.wall, self.boot = 1_000_000, 1_700_000_000_000, "boot-1"
        self.marks: list[str] = []

    def steady_ms(self) -> int:
        return self.steady

    def wall_ms(self) -> int:
        return self.wall

    def boot_id(self) -> str:
        return self.boot

    def reach(self, mark: str) -> None:
        self.marks.append(mark)

    def advance(self, ms: int) -> None:
        self.steady, self.wall = self.steady + ms, self.wall + ms


class Nobody:
    def join(self, timeout: float | None = None) -> None:
        return


class VirtualSleeper:
    """Sleeping moves the hand. Nothing runs beside the caller: beats are the test's to give."""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.asleep = hand, list[Callable[[], None]]()

    def sleep_until(self, steady_ms: int) -> None:
        for event in self.asleep:
            event()
        self.hand.advance(max(0, steady_ms - self.hand.steady))

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
        return Nobody()


class LossyDatabase(SqliteDatabase):
    """Loses the replies of `losing` transactions, after `passing` others: they have landed, or (`before`) they have not."""

    passing, losing, before = 0, 0, False

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True, part: Part = "all") -> Generator[Transaction]:  # type: ignore[override]
        lose = self._loses()
        with super().transaction(durable=durable) as tx:
            yield tx
            if lose and self.before:
                raise self._lost()
        if lose:
            raise self._lost()

    def _loses(self) -> bool:
        if self.passing:
            self.passing -= 1
            return False
        lose, self.losing = self.losing > 0, max(0, self.losing - 1)
        return lose

    def _lost(self) -> StoreUnavailable:
        error = StoreUnavailable("the reply was lost")
        error.maybe_committed = True
        return error


@dataclass(frozen=True)
class Opened:
    """One process's view of the fleet."""

    world: Machine
    database: LossyDatabase
    journal: Journal
    leases: Leases
    edits: Edits

    def kinds(self, prefix: str = "") -> list[str]:
        return [entry.kind for entry in self.journal.after(0, limit=10_000) if entry.kind.startswith(prefix)]


def open_fleet(
    root: Path, *, world: Machine | None = None, sleeper: Sleeper | None = None, state: str = ".longwatch/longwatch.db"
) -> Opened:
    """state: below the root, or ":memory:"."""
    world = world or Machine()
    database = LossyDatabase(state if state == ":memory:" else str(root / state), world)
    migrate(database)
    fleet.enter(database, world, name="shop", redaction_key="k" * 32)
    journal = Journal(database, Redactor(b"k"))
    store = LeaseStore(database, journal)
    leases = Leases(store=store, root=root, world=world, sleeper=sleeper or Threads(world.steady_ms))
    edits = Edits(leases=leases, store=EditStore(database, journal, store), world=world, state=database.path)
    return Opened(world, database, journal, leases, edits)
