"""Deterministic simulation of a fleet: the real code on virtual time, with faults by seed, judged from outside.

    result = simulate(days=27, agents=4, seed=1, faults="swarm")
    assert result.broken is None, result.broken["message"]

Everything from the handlers down to the SQL is the real thing: surface/api.py, runtime/, store/, admission/ on SQLite in
memory, and real files in a temporary folder. Virtual are only time, the machine's kernel (processes, their death, the
root's lock) and the services. One seed gives one history: `Result.trace` is a hash over all of it.

A simulation proves only what it exercises: `Result.marks` counts how often every rare place was reached.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from longwatch.admission.calls import HOLD_MS
from longwatch.db.migrate import migrate
from longwatch.errors import StoreUnavailable
from longwatch.runtime import worker
from longwatch.runtime.persist import persist
from longwatch.testing import load
from longwatch.testing.auditor import Auditor, Broken
from longwatch.testing.faults import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Mix, chosen
from longwatch.testing.machine import Machine, Process
from longwatch.testing.outside import Outside
from longwatch.testing.pace import collect, told_by, unhurried
from longwatch.testing.program import Program, limits_for, read_book, services, shelf
from longwatch.testing.virtual import Driver, Killed, unwatch, watch

BURST_MS = DAY_MS // load.BURSTS
PATIENCE_MS = 15 * MINUTE_MS  # before a person settles an unknown task: nothing of it is on its way any more
DRAIN_MS = 4 * DAY_MS  # budgets open again at midnight, and a person looks every four hours
Progress = Callable[[int, "Simulation"], None]


@dataclass(frozen=True)
class Result:
    """What a simulation came to. broken: {"promise", "message", "at_ms"} or None. faults, marks: how often, by name."""

    seed: int
    days: int
    agents: int
    kinds: list[str]
    faults: dict[str, int]
    tasks: dict[str, int]
    calls: int
    edits: int
    marks: dict[str, int]
    checks: int
    trace: str
    broken: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Simulation:
    """One simulated fleet. Use `simulate`."""

    days: int
    agents: int
    seed: int
    kinds: dict[str, float]
    root: Path
    driver: Driver = field(init=False)
    working: dict[str, Process] = field(default_factory=dict[str, Process])
    scripts: int = 0  # that have not ended well yet
    unexpected: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.driver = Driver(root=str(self.root))
        self.machine = Machine(self.driver, seed=self.seed)
        self.outside = Outside(self.driver, services(), seed=self.seed)
        self.auditor = Auditor(self.machine, self.outside, self.seed, self.agents)
        self.faults = Mix(self.machine, self.outside, self.kinds, seed=self.seed, lease_ms=load.LEASE_MS)
        self.random = Random(f"load {self.seed}")
        limits = limits_for(self.agents)
        self.settings = load.settings_for(self.root, limits)
        self.names = [f"agent-{number}" for number in range(self.agents)]
        self.retried: set[str] = set()

    # -- the whole ---------------------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None) -> None:
        """Errors: Broken, and whatever the code under test raised that it should not."""
        migrate(self.machine.database)
        self._found()
        self.machine.fate, self.outside.fates = self.faults, self.faults.of_call
        self.machine.on_commit = self.auditor.at_commit
        self.faults.begin()
        self._look_on()
        for day in range(self.days):
            self._plan_day(day)
            self.driver.run_until((day + 1) * DAY_MS)
            self.auditor.look()
            if progress is not None:
                progress(day + 1, self)
        self.faults.stop()
        self.machine.jumped_ms = 0
        self._drain()
        self._close()

    def _found(self) -> None:
        """The first process founds the fleet, before anything goes wrong."""
        self._spawn("founder", lambda process: load.open_fleet(process, self.settings))
        self.driver.run_until(self.driver.now_ms + 1)

    def _plan_day(self, day: int) -> None:
        for number in range(load.BURSTS):
            at_ms = day * DAY_MS + number * BURST_MS + self.random.randrange(30 * MINUTE_MS)
            for agent in self.names:
                name = f"{agent}/{day}/{number}"
                burst = load.plan_burst(self.random, name=name, agent=agent, books=shelf(day))
                self._script(burst, at_ms + self.random.randrange(MINUTE_MS))
                self.driver.at(at_ms + self.random.randrange(90 * SECOND_MS), lambda agent=agent: self._work(agent))  # type: ignore[misc]
            for _ in range(2):
                self.driver.at(at_ms + self.random.randrange(6 * MINUTE_MS), self._read_books)
            self.driver.at(at_ms + self.random.randrange(90 * SECOND_MS, 4 * MINUTE_MS), self._cancel)
            self.driver.at(at_ms + 2 * HOUR_MS, self._upkeep)
            self.driver.at(at_ms + 2 * HOUR_MS + PATIENCE_MS, self._operate)

    def _look_on(self) -> None:
        self.auditor.watch()
        self.driver.at(self.driver.now_ms + 30 * MINUTE_MS, self._look_on)

    def _drain(self) -> None:
        """Without faults and new tasks: everything that runs ends within a lease and its slack, everything ends."""
        self.driver.run_until(self.driver.now_ms + 5 * load.LEASE_MS)
        began_ms = self.driver.now_ms
        while self.scripts or self.auditor.unfinished() or self.auditor.unknown():
            for agent in self.names:
                self._work(agent)
            self.driver.run_until(self.driver.now_ms + 20 * MINUTE_MS)
            if not self.working:
                self._nothing_hangs()
            self._upkeep()
            self._operate()
            self.driver.run_until(self.driver.now_ms + max(5 * MINUTE_MS, self.auditor.due_ms() or 0))
            if self.driver.now_ms > began_ms + DRAIN_MS:
                left = self.auditor.unfinished() or [(task, "unknown") for task in self.auditor.unknown()]
                raise self.auditor.broken("P8", f"{len(left)} tasks never end: {left[:5]}; at work: {self.working}")

    def _nothing_hangs(self) -> None:
        for task, state in self.auditor.unfinished():
            if state in ("claimed", "running", "ready"):
                raise self.auditor.broken("P8", f"{task} is {state}, and every worker has gone home")

    def _close(self) -> None:
        books: dict[int, Any] = {}
        logs: dict[str, list[str]] = {"crawl": [], "report": []}

        def read(process: Process) -> None:
            edits = load.open_fleet(process, self.settings).parts.edits
            edits.recover()
            for book in range(shelf(self.days - 1).stop):
                books[book] = read_book(lambda *names: edits.read(names), book)
                logs["report"].extend(
                    edits.read([f"reports/{book}.log"]).read_text(f"reports/{book}.log", default="").split()
                )
            for agent in self.names:
                logs["crawl"].extend(edits.read([f"crawls/{agent}.json"]).read_json(f"crawls/{agent}.json", default=[]))

        self.driver.run_until(self.driver.now_ms + HOLD_MS + MINUTE_MS)
        self._upkeep()
        self.driver.run_until(self.driver.now_ms + MINUTE_MS)
        self._spawn("closer", read)
        self.driver.run_until(self.driver.now_ms + MINUTE_MS)
        self.auditor.close(books, logs)
        if self.unexpected:
            raise self.auditor.broken(
                "P1", f"a process ended by an error that it should not have: {self.unexpected[0]}"
            )

    # -- processes ---------------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, main: Callable[[Process], object], again_ms: int | None = None) -> Process:
        """A process that does `main`; again_ms: started again so much later until it has ended well."""

        def ended(process: Process, error: BaseException | None) -> None:
            self._judge(process, error)
            if error is not None and again_ms is not None:
                later_ms = self.driver.now_ms + self.random.randrange(again_ms) + 1
                self.driver.at(later_ms, lambda: self._spawn(name, main, again_ms))

        return self.machine.spawn(name, main, on_end=ended)

    def _judge(self, process: Process, error: BaseException | None) -> None:
        if isinstance(error, Broken):
            self.driver.failure = self.driver.failure or error
        elif error is not None and not isinstance(error, Killed | StoreUnavailable):
            self.driver.failure = self.driver.failure or error
            error.add_note(f"in process {process.name} at {self.driver.now_ms} ms of seed {self.seed}")

    def _program(self, process: Process) -> list[Any]:
        program = Program(process, self.outside, self.auditor.ran, lambda what: self.auditor.broken("P2", what))
        return program.handlers()

    def _script(self, burst: load.Burst, at_ms: int) -> None:
        self.scripts += 1

        def main(process: Process) -> None:
            receipts = load.submit(process, self.settings, burst, self._program(process))
            self.auditor.submitted(receipts)
            self.scripts -= 1

        self.driver.at(at_ms, lambda: self._spawn(f"script-{burst.name}", main, 20 * SECOND_MS))

    def _work(self, agent: str, dead: str = "") -> None:
        """A worker for this agent, unless it has one; one that dies is followed by another. dead: owner to bury."""
        if agent in self.working:
            return
        owner = self.machine.driver.now_ms, agent
        name = f"worker-{agent}-{owner[0]}"

        def main(process: Process) -> None:
            opened = load.open_fleet(process, self.settings)
            if dead:
                opened.parts.bury(dead)
            for handler in self._program(process):
                opened.registry.add(handler)
            worker.Worker(
                opened.parts,
                opened.registry,
                owner=name,
                agent=agent,
                on_overrun=lambda why: process.kill(f"by itself: {why}"),  # as a spawned one ends itself
            ).work(until_idle=True)

        def ended(process: Process, error: BaseException | None) -> None:
            self._judge(process, error)
            if self.working.get(agent) is process:
                del self.working[agent]
            if error is not None:
                buried = name if self.random.random() < 0.6 else ""
                delay_ms = int(10 ** self.random.uniform(2, 4))
                self.driver.at(self.driver.now_ms + delay_ms, lambda: self._work(agent, buried))

        self.working[agent] = self.machine.spawn(name, main, on_end=ended)

    def _read_books(self) -> None:
        book = self.random.choice(shelf(self.driver.now_ms // DAY_MS))

        def main(process: Process) -> None:
            edits = load.open_fleet(process, self.settings).parts.edits
            index, lines = read_book(lambda *names: edits.read(names), book)
            if index["n"] != len(lines) or index["sum"] != sum(line[2] for line in lines):
                raise self.auditor.broken("P2", f"book {book}: the index says {index}, the ledger {len(lines)} lines")

        self._spawn(f"reader-{self.driver.now_ms}", main)

    def _upkeep(self) -> None:
        collect()
        self.auditor.look()
        self._spawn(f"upkeep-{self.driver.now_ms}", lambda process: load.upkeep(process, self.settings))

    def _cancel(self) -> None:
        """A person cancels one of the tasks that are under way, now and then."""
        if self.random.random() < 0.3 and (open_tasks := self.auditor.unfinished()):
            task = self.random.choice(open_tasks)[0]
            self._spawn(
                f"cancel-{self.driver.now_ms}", lambda process: load.cancel_some(process, self.settings, [task])
            )

    def _operate(self) -> None:
        """A person settles what is unknown: done if the effect is there, else once more, or failed."""
        if self.auditor.unknown():
            self._spawn(f"operator-{self.driver.now_ms}", self._settle, 30 * SECOND_MS)

    def _settle(self, process: Process) -> None:
        tasks = load.open_fleet(process, self.settings).parts.tasks
        for task in self.auditor.unknown():
            now_ms = self.machine.steady_ms() + self.machine.database.offset_ms
            if now_ms - (tasks.get(task).ended_ms or 0) < PATIENCE_MS:
                continue
            self.auditor.person_begins(task)
            if self.auditor.effects_of(task, "issue"):
                persist(lambda task=task: tasks.resolve(task, "done", note="the issue is there"))  # type: ignore[misc]
            elif task not in self.retried and self.random.random() < 0.6:
                self.retried.add(task)
                persist(lambda task=task: tasks.retry(task))  # type: ignore[misc]
            else:
                persist(lambda task=task: tasks.resolve(task, "failed", note="nothing there"))  # type: ignore[misc]
        self.auditor.person_ends()

    # -- the end -----------------------------------------------------------------------------------------------------------

    def judged(self, progress: Progress | None) -> Result:
        """Run it to its end; a broken promise is part of the result."""
        broken: dict[str, Any] | None = None
        try:
            self.run(progress)
        except Broken as error:
            broken = {"promise": error.promise, "message": str(error), "at_ms": error.at_ms}
        finally:
            self.end()
        return self.result(broken)

    # -- figures -----------------------------------------------------------------------------------------------------------

    def result(self, broken: dict[str, Any] | None) -> Result:
        marks: Counter[str] = Counter(self.machine.marks)
        for kind, move, count in self.machine.rows("select kind, data ->> 'move', count(*) from record group by 1, 2"):
            name = f"{kind} by {move}" if move else str(kind)
            if name not in self.machine.marks:  # else it was counted where it was reached
                marks[name] += count
        return Result(
            seed=self.seed,
            days=self.days,
            agents=self.agents,
            kinds=sorted(self.kinds),
            faults=dict(sorted(self.faults.counts.items())),
            tasks=dict(self.machine.rows("select state, count(*) from task group by 1 order by 1")),
            calls=sum(self.outside.requests.values()),
            edits=marks["edit.committed"],
            marks=dict(sorted(marks.items())),
            checks=self.auditor.checks,
            trace=self.machine.trace.hexdigest(),
            broken=broken,
        )

    def end(self) -> None:
        """Every process dies, every thread ends."""
        for process in list(self.machine.processes):
            process.kill("the simulation is over")
        self.driver.failure = None
        self.driver.end()


def simulate(
    days: int = 27,
    agents: int = 4,
    seed: int = 1,
    faults: str | Sequence[str] = "swarm",
    progress: Progress | None = None,
) -> Result:
    """Simulate a fleet of `agents` for `days`, then let everything drain. faults: see `faults.chosen`.

    progress: called after every day with its number. A broken promise is in the result; any other error is raised, with
    the simulation's seed and instant in its notes.
    """
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="longwatch-", dir=memory if memory.is_dir() else None))
    simulation = Simulation(days, agents, seed, chosen(faults, seed), root.resolve())
    watch(simulation.driver)
    try:
        with unhurried(), told_by(simulation.machine):
            return simulation.judged(progress)
    finally:
        unwatch()
        simulation.machine.database.close()
        shutil.rmtree(root, ignore_errors=True)
