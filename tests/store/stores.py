"""The stores over one state file, for tests and for the processes that they start (`python stores.py VERB FILE ...`)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import StoreUnavailable
from longwatch.policy.redact import Redactor
from longwatch.policy.task import Finished
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask
from longwatch.store.runs import Runs
from longwatch.store.steps import Steps
from longwatch.store.tasks import Tasks
from longwatch.store.workers import Workers

LEASE_MS = 60_000


@dataclass(frozen=True)
class Stores:
    database: SqliteDatabase
    journal: Journal
    tasks: Tasks
    runs: Runs
    steps: Steps
    workers: Workers

    def states(self) -> dict[str, int]:
        with self.database.read() as tx:
            return {row.state: row.tasks for row in tx.all("look.counts")}


def opened(path: Path | str) -> Stores:
    """The stores of this state, which is made if absent."""
    machine = Machine()
    database = SqliteDatabase(str(path), machine)
    try:
        migrate(database)
        fleet.enter(database, machine, name="store", redaction_key="key")
    except BaseException:
        database.close()
        raise
    journal = Journal(database, Redactor(b"key"))
    kept = (database, journal)
    return Stores(database, journal, Tasks(*kept), Runs(*kept), Steps(*kept), Workers(*kept))


def new_task(id: str, *, after: tuple[str, ...] = (), kind: str = "pay", args: str = "{}") -> NewTask:
    return NewTask(id=id, kind=kind, args=args, agent="main", after=after)


def started(verb: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own; it writes one line once it is where it should be."""
    import warm  # not in the processes that run this very file

    command = [sys.executable, __file__, verb, *map(str, arguments)]
    return warm.Popen(command, stdout=subprocess.PIPE)


# -- what the processes do -------------------------------------------------------------------------------------------------


def say(word: object) -> None:
    print(word, flush=True)  # noqa: T201 - how the process speaks to its test


def drain(file: str, owner: str) -> None:
    """Claim and finish until nothing is ready; every task that was run, one a line."""
    stores = opened(file)
    while found := stores.runs.claim(
        owner, kinds=["pay"], limit=3, lease_ms=LEASE_MS, start=f"run_{owner}_{time.monotonic_ns()}"
    ):
        while found:
            run, *found = found
            then = (found[0], f"run_{owner}_{time.monotonic_ns()}") if found else None
            ended = stores.runs.conclude(run, Finished("1"), then=then, lease_ms=LEASE_MS)
            say(run.task.id)
            if ended.started is not None:
                found[0] = ended.started


def hold(file: str, how: str) -> None:
    """Begin a transaction, and stand still in it: stopped until somebody goes on, or merely slow for two seconds."""
    stores = opened(file)
    with stores.database.transaction() as tx:
        stores.journal.append(tx, "note.held", "hold")
        say("holding")
        if how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            time.sleep(2.5)
    say("committed")


def read_on(file: str) -> None:
    """Read as of one instant, for as long as three seconds."""
    stores = opened(file)
    with stores.database.read() as tx:
        tx.all("look.counts")
        say("reading")
        time.sleep(3)
    say("read")


def open_as_nobody(file: str) -> None:
    """Without root's rights, which no mode of a file stands up to."""
    os.setgid(65534)
    os.setuid(65534)
    try:
        opened(file)
        say("opened")
    except StoreUnavailable as error:
        say(error.message)


def copy(file: str, target: str) -> None:
    """Copy the state by a process of its own, as auditors do."""
    stores = opened(file)
    stores.database.backup(Path(target))
    stores.database.close()
    say("copied")


VERBS: dict[str, Callable[..., None]] = {
    "drain": drain,
    "hold": hold,
    "read_on": read_on,
    "open_as_nobody": open_as_nobody,
    "copy": copy,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](*sys.argv[2:])
