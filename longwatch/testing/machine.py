"""A simulated machine and its processes: virtual twins of the world and the sleeper.

One `Machine` is a host: its clocks, its boot id, the one database on it. A `Process` on it runs the real code with twins
of its own; whatever it asks of the machine is a place where a fault may find it. The twins keep the contracts of
runtime/world.py and runtime/loop.py; those of the state's seam and the root's lock are in seam.py and kernel.py.
"""

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from longwatch.db.sqlite import SqliteDatabase
from longwatch.runtime.loop import Bell
from longwatch.runtime.world import format_id
from longwatch.testing.kernel import KernelLock
from longwatch.testing.seam import FaultyDatabase
from longwatch.testing.virtual import NEVER_MS, Driver, Killed, Strand

START_WALL_MS = 1_793_491_200_000  # Sunday 1 November 2026, 00:00 UTC
LINGER_MS = 120_000  # at most: half of the killed outlive their leases so, and are not found dead before
SPINS_MOST = 20_000  # transactions at one virtual instant: above it somebody asks without ever waiting


class Fate(Protocol):
    """Decides what happens to a process at a place: it may kill or pause it, or spoil a commit."""

    def at_place(self, process: "Process", place: str) -> None: ...
    def before_transaction(self, process: "Process") -> None: ...
    def at_commit(self, process: "Process") -> None: ...
    def after_commit(self, process: "Process") -> None: ...


class Kind:
    """The fate of those that nothing happens to."""

    def at_place(self, process: "Process", place: str) -> None: ...
    def before_transaction(self, process: "Process") -> None: ...
    def at_commit(self, process: "Process") -> None: ...
    def after_commit(self, process: "Process") -> None: ...


class Machine:
    """One host. marks: how often each rare place was reached. trace: the running hash of everything that happened."""

    def __init__(self, driver: Driver, *, seed: int) -> None:
        self.driver, self.random = driver, random.Random(seed)
        self.fate: Fate = Kind()
        self.marks: Counter[str] = Counter()
        self.trace = hashlib.blake2b(digest_size=16)
        self.last_events: list[str] = []
        self.boots, self.booted_ms, self.jumped_ms = 1, 0, 0
        self.processes: list[Process] = []
        self.on_commit: Callable[[str], None] = lambda told: None
        self.database = SqliteDatabase(":memory:", self)
        self.root_lock = KernelLock(driver)
        self._instant, self._spins = -1, 0
        self._born, self._gone_ms = 0, dict[int, int]()
        self._lingering = random.Random(f"lingering {seed}")

    # -- clocks (db.connection.Clock) ------------------------------------------------------------------------------------

    def steady_ms(self) -> int:
        return self.driver.now_ms - self.booted_ms + 1_000

    def wall_ms(self) -> int:
        return START_WALL_MS + self.driver.now_ms + self.jumped_ms

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def transact(self) -> None:
        """A transaction begins. Errors: RuntimeError when time has stood still for too many of them."""
        if self.driver.now_ms != self._instant:
            self._instant, self._spins = self.driver.now_ms, 0
        self._spins += 1
        if self._spins > SPINS_MOST:
            raise RuntimeError(f"{SPINS_MOST} transactions at one instant: somebody asks again without waiting")

    # -- what the kernel tells of processes (as runtime.world does) -------------------------------------------------------

    def born(self) -> int:
        """The pid of a new process; none is given twice."""
        self._born += 1
        self._gone_ms[self._born] = NEVER_MS
        return self._born

    def died(self, pid: int, *, lingers: bool) -> None:
        """lingers: it was killed, and the kernel may need time to be rid of it, as in the middle of a write."""
        longest_ms = LINGER_MS if lingers else 0
        self._gone_ms[pid] = self.driver.now_ms + round(longest_ms * self._lingering.random())

    def own_process(self) -> tuple[int, int]:
        """(pid, start ticks) of the process that asks."""
        strand = self.driver.running
        assert strand is not None
        assert isinstance(strand.owner, Process)
        return strand.owner.pid, strand.owner.pid

    def start_ticks(self, pid: int) -> int:
        """0: it is gone."""
        if self._gone_ms.get(pid, 0) > self.driver.now_ms:
            return pid
        self._gone_ms.pop(pid, None)
        return 0

    def rows(self, sql: str, *values: str | int) -> list[Any]:
        """What the auditor asks of the state, in SQL of its own."""
        connection: Any = self.database.connection
        return list(connection.execute(sql, values))

    # -- what happens to it ----------------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """One event of the history: into the hash, and among the last ones that a broken promise shows."""
        line = f"{self.driver.now_ms} {what}"
        self.trace.update(line.encode())
        self.last_events.append(line)
        if len(self.last_events) > 400:
            del self.last_events[:200]

    def spawn(self, name: str, main: "Callable[[Process], object]", *, on_end: "OnEnd | None" = None) -> "Process":
        process = Process(self, name, on_end)
        self.processes.append(process)
        self.note(f"spawn {name}")
        process.run(main)
        return process

    def reboot(self) -> None:
        """Everything that runs dies at once; the steady clock starts anew, and so does the boot id."""
        self.note("reboot")
        self.jumped_ms = 0  # the clock is set from the network while the machine starts
        for process in list(self.processes):
            process.kill("reboot")
        self.boots += 1
        self.booted_ms = self.driver.now_ms


OnEnd = Callable[["Process", BaseException | None], None]


class Process:
    """One simulated process (testing.virtual.Owner). Its World, Sleeper and Database are its own."""

    def __init__(self, machine: Machine, name: str, on_end: OnEnd | None) -> None:
        self.machine, self.driver, self.name = machine, machine.driver, name
        self.dead, self.paused_until_ms, self.over = False, 0, False
        self.critical = 0  # inside a transaction: it cannot be paused there, SQLite's own turnstile would end it
        self.strands: list[Strand] = []
        self.pid = machine.born()
        self.world, self.sleeper = VirtualWorld(self), VirtualSleeper(self)
        self.database = FaultyDatabase(self, machine.database, machine.marks)
        self.on_death: list[Callable[[], None]] = []
        self._on_end = on_end

    def run(self, main: "Callable[[Process], object]") -> None:
        def work() -> None:
            try:
                main(self)
            except Killed:
                raise
            except BaseException as error:  # noqa: BLE001 - a process may end by any error; its parent judges
                self._ended(error)
            else:
                self._ended(None)

        self.start("main", work)

    def start(self, name: str, work: Callable[[], None]) -> Strand:
        self.alive()
        strand = self.driver.start(name, self, work)
        self.strands = [known for known in self.strands if not known.done] + [strand]
        return strand

    def _ended(self, error: BaseException | None) -> None:
        """The main thread has returned: the process is over, whatever its other threads were at."""
        self.machine.note(f"end {self.name} {type(error).__name__ if error else 'ok'}")
        self._die(lingers=False)
        if self._on_end is not None:
            self._on_end(self, error)

    def kill(self, why: str) -> None:
        """SIGKILL: its threads unwind without another effect; kernel locks and connections are let go of."""
        if self.dead:
            return
        self.machine.note(f"kill {self.name} {why}")
        self._die(lingers=True)
        if self._on_end is not None:
            self._on_end(self, Killed())

    def _die(self, *, lingers: bool) -> None:
        self.dead, self.over = True, True
        self.machine.died(self.pid, lingers=lingers)
        if self in self.machine.processes:
            self.machine.processes.remove(self)
        for strand in self.strands:
            self.driver.wake(strand)
        for let_go in list(self.on_death):
            let_go()

    def pause(self, for_ms: int) -> None:
        """SIGSTOP, and SIGCONT later. Called by the process itself it returns when it goes on."""
        until_ms = self.driver.now_ms + for_ms
        self.machine.note(f"pause {self.name} {for_ms}")
        self.paused_until_ms = until_ms
        running = self.driver.running
        if running is not None and running.owner is self:
            self.driver.wait_until(until_ms)

    @property
    def paused(self) -> bool:
        return self.paused_until_ms > self.driver.now_ms

    def alive(self) -> None:
        """Errors: Killed."""
        if self.dead:
            raise Killed

    # -- at its seam (testing.seam.Client) --------------------------------------------------------------------------------

    def begins(self) -> None:
        if self.dead:
            raise Killed
        self.machine.transact()
        self.machine.fate.before_transaction(self)
        if self.dead:
            raise Killed

    def commits(self, told: str) -> None:
        self.machine.fate.at_commit(self)
        if self.dead:
            raise Killed
        self.machine.on_commit(told)

    def committed(self, told: str) -> None:
        self.machine.note(f"{self.name} {told}")
        self.machine.fate.after_commit(self)
        if self.dead:
            raise Killed

    def touch(self, event: str, path: str) -> None:
        self.machine.fate.at_place(self, f"file.{event.removeprefix('os.')}")
        self.alive()


# -- World ---------------------------------------------------------------------------------------------------------------


class VirtualWorld:
    """runtime.world.World."""

    def __init__(self, process: Process) -> None:
        self._process, self._machine = process, process.machine

    def steady_ms(self) -> int:
        if self._process.dead:
            raise Killed
        return self._machine.steady_ms()

    def wall_ms(self) -> int:
        if self._process.dead:
            raise Killed
        return self._machine.wall_ms()

    def boot_id(self) -> str:
        self._process.alive()
        return self._machine.boot_id()

    def new_id(self, sort: str) -> str:
        if self._process.dead:
            raise Killed
        return format_id(sort, at_ms=self._machine.wall_ms(), entropy=self._machine.random.getrandbits(80))

    def fraction(self) -> float:
        self._process.alive()
        return self._machine.random.random()

    def reach(self, mark: str) -> None:
        process = self._process
        if process.dead:
            raise Killed
        self._machine.marks[mark] += 1
        self._machine.fate.at_place(process, mark)
        if process.dead:
            raise Killed


# -- Sleeper -------------------------------------------------------------------------------------------------------------


class VirtualSleeper:
    """runtime.loop.Sleeper. Nobody rings, and nothing becomes readable: a simulated fleet looks by itself."""

    def __init__(self, process: Process) -> None:
        self._process, self._driver = process, process.driver

    def sleep_until(self, steady_ms: int) -> None:
        self._process.alive()
        self._driver.wait_until(steady_ms - self._process.machine.steady_ms() + self._driver.now_ms)

    def wait_for_ring(self, bell: Bell | None, steady_ms: int) -> bool:
        self.sleep_until(steady_ms)
        return False

    def wait_for_flag(self, flag: threading.Event, steady_ms: int) -> bool:
        if not flag.is_set():
            self.sleep_until(steady_ms)
        return flag.is_set()

    def wait_readable(self, descriptors: Sequence[int], steady_ms: int) -> list[int]:
        self.sleep_until(steady_ms)
        return []

    def start(self, name: str, work: Callable[[], None]) -> "Joining":
        return Joining(self._driver, self._process.start(name, work))


class Joining:
    """runtime.loop.Joinable."""

    def __init__(self, driver: Driver, strand: Strand) -> None:
        self._driver, self._strand = driver, strand

    def join(self, timeout: float | None = None) -> None:
        until_ms = NEVER_MS if timeout is None else self._driver.now_ms + round(timeout * 1000)
        self._driver.join(self._strand, until_ms)
