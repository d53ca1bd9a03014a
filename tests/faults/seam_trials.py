"""Runs that are killed between what they did and the commit that tells of it. Run as a program by test_seams, so that
nothing but this file's own children is forked.

    seam_trials.py edit|charge TIMES FOLDER URL      one JSON object for each trial

A trial is a fleet of its own. The submit script is started, its worker is killed at the n-th place of the seam; then it is
started again, as it would be after a crash, until nothing is left to do; then an auditor looks.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from longwatch import Longwatch, Run
from longwatch.db.sqlite import SqliteDatabase
from longwatch.runtime.world import Machine
from longwatch.surface.opened import read, wire

FEE = "0.20 GBP"
FLEET = {"currency": "GBP", "money": "100 GBP/month"}
LIMITS = {
    "service": {"stripe": {"rate": "1000/s", "burst": 100}},
    "budget": {"billing": {"money": "50 GBP/month"}},
}
PLACES = {
    "edit": (
        "step.returned",
        "edit.copied",
        "edit.prepared",
        "edit.checked",
        "edit.committed",
        "edit.moving",
        "edit.moved",
        "edit.applied",
        "step.stored",
    ),
    "charge": ("call.admitted", "call.leaving", "seam.charged", "call.returned", "step.returned", "step.stored"),
    "last": ("call.admitted", "call.leaving", "seam.charged", "call.returned", "step.returned"),
}


@dataclass
class Mortal(Machine):
    """A machine whose process is killed the first time it reaches the place."""

    place: str = ""
    note: Path = field(default_factory=Path)

    def reach(self, mark: str) -> None:
        if mark == self.place:
            self.note.write_text(mark)
            os.kill(os.getpid(), signal.SIGKILL)


def program(folder: Path, url: str, sort: str, world: Machine) -> None:
    """What a user's script does: declare, submit under a key, work until idle."""
    config = LIMITS | {"fleet": FLEET | {"root": str(folder)}}
    settings = read(folder / "state" / "longwatch.db", config, agent=None, budget="billing")
    lw = Longwatch(wire(settings, world), agent=settings.agent, budget=settings.budget)

    def book(task: str) -> str:
        with lw.edit("ledger.txt", "count.txt", ttl="1s") as edit:
            edit.append("ledger.txt", f"{task}\n")
            edit.write_text("count.txt", str(int(edit.read_text("count.txt", default="0")) + 1))
        return "booked"

    def charge(run: Run) -> str:
        with run.call("stripe", money=FEE) as call:
            answer = httpx.post(
                f"{url}/v1/charges",
                data={"amount": 1200, "currency": "gbp", "source": "tok_visa", "metadata[trial]": folder.name},
                headers={"authorization": "Bearer sk_test", "idempotency-key": call.key},
                trust_env=False,
            )
            answer.raise_for_status()
            world.reach("seam.charged")
            call.settle(money=FEE)
        return str(answer.json()["id"])

    @lw.task("edit", crashes=9)
    def edits(run: Run) -> str:
        return run.step("book", book, run.task)

    @lw.task("charge", crashes=9)
    def charges(run: Run) -> str:
        made = run.step("charge", charge, run)
        return made  # noqa: RET504 - returned at once it would be stored with the end of the task

    @lw.task("last", crashes=9)
    def lasts(run: Run) -> str:
        return run.step("charge", charge, run)

    lw.submit({"edit": edits, "charge": charges, "last": lasts}[sort].bind(), key="the one")
    lw.work(until_idle=True)
    lw.close()


def audit(folder: Path) -> dict[str, object]:
    database = SqliteDatabase(str(folder / "state" / "longwatch.db"), Machine())
    look = database.connection.execute
    found: dict[str, object] = {
        "tasks": look("select state, result, crashes from task").fetchall(),
        "steps": look("select name, state from step").fetchall(),
        "calls": look("select key, state, money from call order by seq").fetchall(),
        "spent": look("select settled from spend where purse = 'budget:billing' and dimension = 'money'").fetchall(),
        "checked": look("pragma integrity_check").fetchall(),
    }
    database.close()
    return found


def forked(act: Callable[[], object]) -> tuple[int, object]:
    """Run it in a child; (its exit status, negative for a signal; what it returned, through a pipe)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, json.dumps(act()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(told) if told else None


def trial(folder: Path, url: str, sort: str, place: str) -> dict[str, object]:
    folder.mkdir(parents=True)
    status, _ = forked(lambda: program(folder, url, sort, Mortal(place, folder / "killed-at")))
    again = [forked(lambda: program(folder, url, sort, Machine()))[0] for _ in range(2)]
    _, seen = forked(lambda: audit(folder))
    assert isinstance(seen, dict)
    files = {name: (folder / name).read_text() for name in ("ledger.txt", "count.txt") if (folder / name).exists()}
    return {"place": place, "name": folder.name, "status": status, "again": again, "files": files, **seen}


if __name__ == "__main__":
    sort, times, where, url = sys.argv[1:]
    for number in range(int(times)):
        place = PLACES[sort][number % len(PLACES[sort])]
        sys.stdout.write(json.dumps(trial(Path(where) / f"{sort}-{number}", url, sort, place)) + "\n")
        sys.stdout.flush()
