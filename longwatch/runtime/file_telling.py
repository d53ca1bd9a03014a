"""The journal is told once of every change of the memory tool's files, though memory is a database of its own.

A command writes down, in the transaction that changes the files, that the journal has to be told. Then it tells it, and strikes
that off. Who is killed in between leaves it written down: whoever reads memory or does the fleet's upkeep tells it in his
place, and so does the next command once it is LATE_MS old. Before each telling the journal is asked whether it knows. A late
one has the state to itself meanwhile, so that it and the command's own cannot pass each other by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from longwatch.db.connection import Database, Part, Transaction
from longwatch.policy.memory_paths import shown
from longwatch.runtime.persist import persist
from longwatch.runtime.world import World
from longwatch.store.journal import Journal
from longwatch.store.memory_files import FileStore
from longwatch.store.memory_versions import Untold

LATE_MS = 10_000  # by then a command has told by itself, or is dead, or asks the journal when it goes on
ROUNDS = 1_000


@dataclass(frozen=True)
class Telling:
    state: Database
    journal: Journal
    world: World
    files: FileStore

    def tell(self, made: Untold) -> None:
        """By the command itself."""
        self.world.reach("memory.file_written")
        self._tell([made], part="tasks")

    def tell_late(self, *, age_ms: int = 0) -> int:
        """In the place of those that were killed so long ago or earlier; of how many changes."""
        told = 0
        for _ in range(ROUNDS):
            found = self.files.untold(age_ms=age_ms)
            if not found:
                break
            self._tell(found, part="all")
            told += len(found)
        return told

    def _tell(self, made: Sequence[Untold], *, part: Part) -> None:
        persist(lambda: self._append(made, part))
        self.world.reach("memory.file_told")
        persist(lambda: self.files.told([each.change for each in made]))

    def _append(self, made: Sequence[Untold], part: Part) -> None:
        with self.state.transaction(part=part) as tx:
            for each in made:
                if tx.one("journal.has", kind="file.changed", subject=each.change) is None:
                    self._say(tx, each)

    def _say(self, tx: Transaction, made: Untold) -> None:
        facts = {"path": shown(made.path), "action": made.action, "files": made.files, "run": made.run, "who": made.who}
        more = {} if made.other is None else {"other": shown(made.other)}
        self.journal.append(tx, "file.changed", made.change, agent=made.agent, task=made.task, **facts, **more)
