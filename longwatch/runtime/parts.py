"""The parts of one opened fleet, wired once (by the surface) and handed to whoever acts."""

from dataclasses import dataclass

from longwatch.db.connection import Database
from longwatch.runtime.archive import Archives
from longwatch.runtime.calls import Calls
from longwatch.runtime.files import Edits
from longwatch.runtime.lease import Leases
from longwatch.runtime.loop import Bell, Bells, Sleeper
from longwatch.runtime.memory import Memories
from longwatch.runtime.world import World, own_process, pids_of, start_ticks
from longwatch.store.journal import Journal
from longwatch.store.money import Earnings
from longwatch.store.runs import Runs
from longwatch.store.steps import Steps
from longwatch.store.tasks import Tasks
from longwatch.store.workers import Enrolled, Workers


@dataclass(frozen=True)
class Parts:
    """fleet: its name. bells: None without any (in memory). lease_ms, payload_max: settings."""

    fleet: str
    world: World
    sleeper: Sleeper
    database: Database
    journal: Journal
    tasks: Tasks
    runs: Runs
    steps: Steps
    workers: Workers
    earnings: Earnings
    calls: Calls
    leases: Leases
    edits: Edits
    memories: Memories
    bells: Bells | None
    agent: str
    budget: str | None
    lease_ms: int
    payload_max: int
    archives: Archives | None = None
    """None: the state is in this process's memory, and nothing of it is kept."""

    def steady_ms(self) -> int:
        """This machine's steady clock: what sleepers go by."""
        return self.world.steady_ms()

    def fleet_ms(self) -> int:
        """The fleet's clock: the same, in epoch milliseconds, as the state's instants are."""
        return self.world.steady_ms() + self.database.offset_ms

    def ring(self, runnable: int) -> None:
        """Wake up to `runnable` idle workers."""
        if runnable and self.bells is not None:
            self.bells.ring(most=runnable)

    def hang_bell(self, owner: str) -> Bell | None:
        return None if self.bells is None else self.bells.hang(owner)

    def enrol(self, owner: str, agent: str | None, *, name: str | None = None) -> None:
        pid, ticks = own_process()
        self.workers.enrol(
            owner,
            agent=agent or self.agent,
            pid=pid,
            start_ticks=ticks,
            boot_id=pids_of(self.world.boot_id()),
            name=name,
        )

    def dismiss(self, owner: str) -> None:
        """The worker ends by itself. What it did is written down first: whoever is off the list is not buried any more."""
        self.calls.limiter.flush()
        self.workers.dismiss(owner)

    def beat(self, owner: str, fences: list[int]) -> set[int]:
        """Push what the owner holds, its runs and open calls; the fences of runs that are still held.

        Leases are renewed by a thread of their own.
        """
        held = self.runs.beat(owner, fences, lease_ms=self.lease_ms)
        self.calls.beat(owner)
        return held

    def bury(self, owner: str) -> int:
        """The owner's process is confirmed dead: free its tasks, leases and calls at once. How many tasks.

        Its tasks come last, because with them it is struck off the list by which the next one would find it.
        """
        self.calls.bury(owner)
        self.leases.bury(owner)
        freed = self.runs.bury(owner)
        self.ring(freed)
        return freed

    def bury_the_dead(self) -> int:
        """Bury every worker of this host whose process has gone; how many workers."""
        dead = [worker for worker in self.workers.all() if self.is_dead(worker)]
        for worker in dead:
            self.bury(worker.owner)
        return len(dead)

    def is_dead(self, worker: Enrolled) -> bool:
        """Certain, or False: a process of this host, boot and container that the kernel no longer knows."""
        return worker.boot_id == pids_of(self.world.boot_id()) and start_ticks(worker.pid) != worker.start_ticks
