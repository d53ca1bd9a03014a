"""A storm of kills and stops over a real fleet: no task is lost, none is committed twice, none is stuck, nobody is left.

Workers and their parents are killed at random instants, some are stopped past their lease and woken; a killed parent is
started again, as a service manager would. Afterwards two things are looked at from outside: the files that the tasks
wrote, and the ledger through a process of its own.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from share import share

from longwatch.testing.servers import started

SCRIPT = Path(__file__).parent / "storm_script.py"
MARK = "LONGWATCH_STORM"
VARIABLES = {"postgresql": "STORM_STATE", "redis": "STORM_ADMISSION"}
PENNY = 10_000  # micro-pounds
STILL_S = 120  # how long a fleet may take to come to rest when nobody disturbs it any more


@dataclass
class Faults:
    killed: int = 0
    parents: int = 0
    stopped: int = 0


@dataclass
class Storm:
    """One fleet under fire. chance: seeded, so that a failure names what to repeat. engines: for the environment."""

    folder: Path
    processes: int
    chance: random.Random
    engines: dict[str, str] = field(default_factory=dict[str, str])
    faults: Faults = field(default_factory=Faults)
    parent: "subprocess.Popen[str] | None" = None
    stopped: dict[int, float] = field(default_factory=dict[int, float])

    @property
    def mark(self) -> str:
        return f"{MARK}={self.folder}"

    def run(self, *arguments: str) -> str:
        command = [sys.executable, str(SCRIPT), str(self.folder), *arguments]
        environ = os.environ | self.engines
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=STILL_S, env=environ).stdout

    def start(self) -> None:
        command = [sys.executable, str(SCRIPT), str(self.folder), "work", str(self.processes)]
        environ = os.environ | self.engines | {MARK: str(self.folder)}
        with Path(self.folder / "errors.log").open("a") as errors:
            self.parent = subprocess.Popen(command, stdout=errors, stderr=errors, env=environ, text=True)

    def family(self) -> list[int]:
        """Every living process of this storm, by the mark in its environment."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def blow(self, seconds: float) -> None:
        """Faults at random instants for so long, from when work has begun; whoever was stopped is woken, at the latest
        when it is over.
        """
        before, ends = self.effects(), time.monotonic() + STILL_S
        while self.effects() == before:
            assert time.monotonic() < ends, f"nobody begins: {self.errors()}"
            time.sleep(0.01)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(self.chance.uniform(0.02, 0.25))
            self._wake(time.monotonic())
            assert self.parent is not None
            if self.parent.poll() is not None:
                self.start()
            workers = [pid for pid in self.family() if pid != self.parent.pid]
            if workers:
                self._strike(self.chance.choice(workers))
        self._wake(float("inf"))

    def effects(self) -> int:
        """How much has been written: bytes of all books."""
        return sum(path.stat().st_size for path in self.folder.glob("book-*.txt"))

    def _strike(self, worker: int) -> None:
        assert self.parent is not None
        throw = self.chance.random()
        with contextlib.suppress(ProcessLookupError):
            if throw < 0.08:
                self.parent.kill()
                self.parent.wait()
                self.faults.parents += 1
            elif throw < 0.35 and worker not in self.stopped:
                os.kill(worker, signal.SIGSTOP)
                self.stopped[worker] = time.monotonic() + self.chance.uniform(1.1, 2.5)  # the lease is 1 s
                self.faults.stopped += 1
            else:
                os.kill(worker, signal.SIGKILL)
                self.faults.killed += 1

    def _wake(self, until: float) -> None:
        for pid in [pid for pid, at in self.stopped.items() if at <= until]:
            del self.stopped[pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def settle(self) -> None:
        """Undisturbed, the fleet comes to rest: the parent ends by itself, and every process with it."""
        assert self.parent is not None
        if self.parent.poll() is not None:
            self.start()
        ends = time.monotonic() + STILL_S
        assert self.parent.wait(STILL_S) == 0, self.errors()
        while left := self.family():
            assert time.monotonic() < ends, f"left behind: {left}"
            time.sleep(0.05)

    def errors(self) -> str:
        return (self.folder / "errors.log").read_text()[-4000:]

    def end(self) -> None:
        self._wake(float("inf"))
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.parent is not None:
            self.parent.wait(30)


def find_faults(folder: Path, told: dict[str, Any]) -> list[str]:
    """What is wrong, in words; nothing, hopefully."""
    wrong: list[str] = []
    finished, ended = dict(told["finished"]), dict(told["ended"])
    steps = Counter((task, name) for task, name, _ in told["steps"])
    lines = {path: path.read_text().splitlines() for path in folder.glob("book-*.txt")}
    booked = Counter(line for found in lines.values() for line in found)
    paid = [line.split() for line in read(folder / "bank.log")]
    keys = {task: {key for payer, key in paid if payer == task} for task, _ in paid}
    spent = {task: money for task, _, money in told["calls"]}
    mailed = Counter(read(folder / "mail.log"))
    for path, found in lines.items():
        count = path.with_name(f"count-{path.name}").read_text()
        if int(count) != len(found):
            wrong.append(f"{path.name} has {len(found)} lines and its count says {count}")
    for task, kind, state, failures, crashes, result, args in told["tasks"]:
        story = f"{kind} {task} {state} ({failures} failures, {crashes} crashes)"
        if state not in (("done", "unknown") if kind == "mail" else ("done",)):
            wrong.append(f"lost or stuck: {story}")
        if state == "done" and (result != str(json.loads(args)["number"]) or finished.get(task) != 1):
            wrong.append(f"finished {finished.get(task)} times with {result}: {story}")
        if ended.get(task) != 1:
            wrong.append(f"ended {ended.get(task)} times: {story}")
        if kind == "order" and booked[task] != 1:
            wrong.append(f"booked {booked[task]} times: {story}")
        if kind == "order" and (len(keys.get(task, ())) != 1 or spent.get(task, 0) < PENNY):
            wrong.append(f"paid with {keys.get(task)}, {spent.get(task)} recorded: {story}")
        if kind == "mail" and (mailed[task] > 1 or (state == "done" and mailed[task] != 1)):
            wrong.append(f"mailed {mailed[task]} times: {story}")
        if state == "done" and any(steps[task, name] != 1 for name in ("think", "think again")):
            wrong.append(f"a step is missing: {story}")
    if len(told["calls"]) != len({tuple(line) for line in paid}):
        wrong.append(
            f"{len(told['calls'])} keys of calls in the ledger, {len({tuple(line) for line in paid})} at the bank"
        )
    strangers = (set(booked) | set(mailed)) - {row[0] for row in told["tasks"]}
    wrong += [f"nobody's effect: {line}" for line in strangers]
    wrong += [f"still open: {name} {told[name]}" for name in ("open_runs", "open_calls", "pending_edits") if told[name]]
    return wrong + ([] if told["checked"] == [["ok"]] else [f"integrity: {told['checked']}"])


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def storm(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Storm]:
    processes, seed, *servers = request.param
    with started(servers) as urls:
        engines = {variable: urls[name] for name, variable in VARIABLES.items() if name in urls}
        made = Storm(tmp_path, processes, random.Random(seed), engines)
        yield made
        made.end()


def rage(storm: Storm, *, rounds: int, tasks: int, seconds: float, say: Any) -> None:
    began, told = time.monotonic(), dict[str, Any]()
    for number in range(rounds):
        assert json.loads(storm.run("submit", str(number), str(tasks))) == [tasks, 0], "submitted again, it is new"
        storm.start()
        storm.blow(storm.chance.uniform(0.5, 1.0) * seconds)
        storm.settle()
        told = json.loads(storm.run("audit"))
        wrong = find_faults(storm.folder, told)
        assert not wrong, f"round {number}: {wrong[:10]}\n{storm.errors()}"
        assert len(told["tasks"]) == (number + 1) * tasks
    states = Counter(state for _, _, state, *_ in told["tasks"])
    crashes = sum(crashes for _, _, _, _, crashes, *_ in told["tasks"])
    with say.disabled():
        sys.stdout.write(
            f"\n{rounds} rounds, {storm.processes} workers, {time.monotonic() - began:.0f} s: {storm.faults}; "
            f"{dict(states)}, {crashes} crashes; 0 lost, 0 twice, 0 stuck, 0 left behind\n"
        )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("storm", [(4, 1)], indirect=True, ids=["4 workers, seed 1"])
def test_a_squall_loses_nothing(storm: Storm, capsys: pytest.CaptureFixture[str]) -> None:
    rage(storm, rounds=2, tasks=40, seconds=3, say=capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("storm", [(15, 2026)], indirect=True, ids=["15 workers, seed 2026"])
def test_a_storm_loses_nothing(storm: Storm, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = share(30)
    rage(storm, rounds=rounds, tasks=120, seconds=10, say=capsys)
    assert storm.faults.killed >= 3 * rounds
    assert storm.faults.stopped >= rounds
    assert storm.faults.parents >= rounds // 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "storm",
    [(15, 2027, "postgresql"), (15, 2028, "postgresql", "redis"), (15, 2029, "redis")],
    indirect=True,
    ids=["postgresql", "postgresql and redis", "sqlite and redis"],
)
def test_a_storm_over_servers_loses_nothing(storm: Storm, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = share(15)
    rage(storm, rounds=rounds, tasks=120, seconds=10, say=capsys)
    assert storm.faults.killed >= 3 * rounds
    assert storm.faults.stopped >= rounds
