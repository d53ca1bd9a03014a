"""Real processes that are killed, or stopped past their lease, at every place that an edit can reach.

Run as a program, so that nothing but this file's own children is forked. A trial is a folder of its own with a fleet and
five files that must agree.

    edit_trials.py kills|chains|stops           one JSON object for each trial
    edit_trials.py write ROOT NAME [unsynced]   edits without end; every acknowledged one, as its line of the ledger
    edit_trials.py audit ROOT                   what a new process sees, as JSON
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import LeaseLost, LongwatchError
from longwatch.policy.lease import Holder
from longwatch.policy.redact import Redactor
from longwatch.runtime.files import Edits
from longwatch.runtime.lease import Leases
from longwatch.runtime.loop import Threads
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.edits import EditStore
from longwatch.store.journal import Journal
from longwatch.store.leases import LeaseStore

FILES = ["a.json", "b.json", "new/ledger.txt", "odd.txt", "even.txt"]
DONE, LOST, REFUSED = 0, 3, 4


@dataclass
class Mortal(Machine):
    """A machine that sends this process a signal at the n-th place reached. place: its name, once there."""

    strikes_at: int = 0
    signal: int = signal.SIGKILL
    note: Path | None = None
    reached: int = field(default=0, init=False)

    def reach(self, mark: str) -> None:
        if mark.startswith(("edit.", "lease.")):
            self.reached += 1
            if self.reached == self.strikes_at:
                if self.note is not None:
                    self.note.write_text(mark)
                os.kill(os.getpid(), self.signal)


def open_fleet(root: Path, world: Machine) -> tuple[Leases, Edits]:
    database = SqliteDatabase(str(root / ".longwatch" / "longwatch.db"), world)
    migrate(database)
    fleet.enter(database, world, name="shop", redaction_key="k" * 32)
    journal = Journal(database, Redactor(b"k"))
    store = LeaseStore(database, journal)
    leases = Leases(store=store, root=root, world=world, sleeper=Threads(world.steady_ms))
    return leases, Edits(leases=leases, store=EditStore(database, journal, store), world=world, state=database.path)


def step(edits: Edits, owner: str, *, ttl_ms: int) -> int:
    """Count on by one in all five files: two that are rewritten, one that grows, two that come and go in turn.

    The number reached.
    """
    holder = Holder(owner, owner)
    with edits.edit(FILES, holder=holder, ttl_ms=ttl_ms, wait_ms=20_000) as edit:
        n: int = edit.read_json("a.json", default=0) + 1
        edit.write_json("a.json", n)
        edit.append("new/ledger.txt", f"{n} {owner}\n")
        stays, goes = ("odd.txt", "even.txt") if n % 2 else ("even.txt", "odd.txt")
        edit.write_text(stays, str(n))
        if edit.read_text(goes, default=None) is not None:
            edit.delete(goes)
        edit.write_json("b.json", n)
        edits.world.reach("edit.block")
    return n


def state_of(edits: Edits) -> dict[str, object]:
    """What a reader sees: the count, or what does not agree; who is in the ledger."""
    seen = edits.read(FILES)
    n = seen.read_json("a.json", default=0)
    lines = seen.read_text("new/ledger.txt", default="").splitlines()
    stays, goes = ("odd.txt", "even.txt") if n % 2 else ("even.txt", "odd.txt")
    agree = (
        seen.read_json("b.json", default=0) == n
        and [line.split()[0] for line in lines] == [str(k) for k in range(1, n + 1)]
        and seen.read_text(stays, default="0") == str(n)
        and seen.read_text(goes, default=None) is None
    )
    return {"count": n, "agree": agree, "owners": [line.split()[1] for line in lines]}


def forked(work: Callable[[], object]) -> int:
    """The pid of a child that does the work, prints nothing, and ends with a status that says how it went."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 9
    try:
        work()
        status = DONE
    except LeaseLost:
        status = LOST
    except LongwatchError:
        status = REFUSED
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def worker(root: Path, owner: str, world: Machine, *, ttl_ms: int) -> int:
    return forked(lambda: step(open_fleet(root, world)[1], owner, ttl_ms=ttl_ms))


def looked(root: Path, *, bury: str = "", world: Machine | None = None) -> dict[str, object]:
    """A new process buries the dead, reads, sweeps, and says what it saw, and which leftovers there are."""
    answer = root / ".answer"

    def look() -> None:
        leases, edits = open_fleet(root, world or Machine())
        if bury:
            leases.bury(bury)
        seen = state_of(edits)
        edits.sweep()
        left = [path.name for kind in ("staging", "commits", "gone") for path in (root / ".longwatch" / kind).iterdir()]
        answer.write_text(json.dumps({**seen, "left": left}))

    status = ended(forked(look))
    if status != DONE:
        return {"status": status}
    found: dict[str, object] = json.loads(answer.read_text())
    return found | {"status": status}


def fresh(name: str) -> Path:
    """A folder in which one step was done."""
    root = Path(tempfile.mkdtemp(prefix=f"longwatch-{name}-"))
    assert ended(worker(root, "first", Machine(), ttl_ms=60_000)) == DONE
    return root


def kills() -> Iterator[str]:
    """One process is killed at its n-th place, for every n there is; another one goes on."""
    for n in range(1, 200):
        root = fresh("kill")
        note = root / ".place"
        status = ended(worker(root, "victim", Mortal(n, signal.SIGKILL, note), ttl_ms=60_000))
        raw = (root / "a.json").read_text().strip()
        seen = looked(root, bury="victim")
        follow = ended(worker(root, "next", Machine(), ttl_ms=60_000))
        yield json.dumps(
            {
                "n": n,
                "place": note.read_text() if note.exists() else "",
                "status": status,
                "raw": int(raw),
                "seen": seen,
                "follow": follow,
                "after": looked(root),
            }
        )
        shutil.rmtree(root)
        if status == DONE:
            return


def chains() -> Iterator[str]:
    """The victim is killed at its n-th place, and whoever finishes its work at the m-th, for all n and m."""
    for n in range(1, 200):
        status = DONE
        for m in range(1, 200):
            root = fresh("chain")
            note = root / ".place"
            status = ended(worker(root, "victim", Mortal(n, signal.SIGKILL, note), ttl_ms=60_000))
            second = looked(root, bury="victim", world=Mortal(m))
            yield json.dumps(
                {
                    "n": n,
                    "m": m,
                    "place": note.read_text() if note.exists() else "",
                    "status": status,
                    "second": second["status"],
                    "seen": looked(root),
                }
            )
            shutil.rmtree(root)
            if second["status"] == DONE:
                break
        if status == DONE:
            return


def stops() -> Iterator[str]:
    """A process is stopped at its n-th place, past the end of its lease, and goes on when another one has edited."""
    for first in range(1, 200, BATCH):
        trials = [stopped(n) for n in range(first, first + BATCH)]
        time.sleep(TTL_MS / 1000)  # the zombies outlive their leases
        followers = [(time.monotonic(), worker(trial.root, "next", Machine(), ttl_ms=60_000)) for trial in trials]
        yield from [
            json.dumps(trial.woken(began, follower)) for trial, (began, follower) in zip(trials, followers, strict=True)
        ]
        if not trials[-1].place:
            return


BATCH, TTL_MS = 7, 400


@dataclass
class Stopped:
    """A zombie: pid 0 when it had ended before its place came."""

    n: int
    root: Path
    pid: int
    place: str

    def woken(self, began: float, follower: int) -> dict[str, object]:
        follow = ended(follower)
        waited = time.monotonic() - began
        status = DONE
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)
            status = ended(self.pid)
        seen = looked(self.root, bury="zombie")
        shutil.rmtree(self.root)
        return {"n": self.n, "place": self.place, "status": status, "follow": follow, "waited": waited, "seen": seen}


def stopped(n: int) -> Stopped:
    root = fresh("stop")
    note = root / ".place"
    pid = worker(root, "zombie", Mortal(n, signal.SIGSTOP, note), ttl_ms=TTL_MS)
    _, status = os.waitpid(pid, os.WUNTRACED)
    return Stopped(n, root, pid if os.WIFSTOPPED(status) else 0, note.read_text() if note.exists() else "")


def write(root: str, name: str, *how: str) -> Iterator[str]:
    """how: "unsynced" leaves every fsync out: the control. An edit that a busy machine made too late is made again."""
    if how:
        os.fsync = lambda fd: None
    edits = open_fleet(Path(root), Machine())[1]
    while True:
        with contextlib.suppress(LeaseLost):
            yield f"{step(edits, name, ttl_ms=TTL_MS)} {name}"


def audit(root: str) -> Iterator[str]:
    yield json.dumps(state_of(open_fleet(Path(root), Machine())[1]))


if __name__ == "__main__":
    programs: dict[str, Callable[..., Iterator[str]]] = {
        "kills": kills,
        "chains": chains,
        "stops": stops,
        "write": write,
        "audit": audit,
    }
    for line in programs[sys.argv[1]](*sys.argv[2:]):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
