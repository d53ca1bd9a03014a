"""What has to be done now and then, by one process of the fleet at a time: end what ran out, bury the dead, finish commits.

Every worker offers to do it with its beats; the state lets one of them, once per `EVERY_MS`. Each part is bounded and may
be repeated, so that nothing is lost when the process dies in the middle: the next one begins again.
"""

import contextlib
import threading
from dataclasses import dataclass

from longwatch.errors import LeaseLost
from longwatch.runtime.authoring import Authoring, write_quietly
from longwatch.runtime.compaction import Compaction
from longwatch.runtime.parts import Parts
from longwatch.store import fleet

EVERY_MS = 5_000
LIMIT = 500  # of each kind, at one time
REMEMBERED = 20  # pages of the journal that are made into records, at one time


@dataclass
class Upkeep:
    parts: Parts
    _writing: threading.Event | None = None

    def step(self) -> bool:
        """Do it if it is due and nobody else does; whether it was done here. Errors: StoreUnavailable."""
        parts = self.parts
        if not fleet.take_upkeep(parts.database, every_ms=EVERY_MS):
            return False
        parts.ring(parts.bury_the_dead())
        parts.ring(parts.runs.sweep())
        parts.leases.expire(limit=LIMIT)
        parts.calls.expire()
        parts.calls.give_back()
        parts.calls.close_over()
        parts.edits.sweep(limit=LIMIT)
        fleet.note_killings(parts.database, parts.journal)
        if parts.memories.shared:
            self._remember()
        if parts.archives is not None:
            parts.archives.step()
        return True

    def _remember(self) -> None:
        """Memory comes last: nothing else waits for it, and whoever reads it catches up by himself."""
        self.parts.memories.catch_up(most=REMEMBERED)
        with contextlib.suppress(LeaseLost):  # it took too long, and another process is at it
            Compaction(self.parts.memories).step()
        if (self._writing is None or self._writing.is_set()) and Authoring(self.parts.memories).is_due():
            self._write()

    def _write(self) -> None:
        """In a thread of its own: a model may take half a minute, and beats cannot wait."""
        over = self._writing = threading.Event()

        def write() -> None:
            write_quietly(self.parts.memories)
            over.set()

        self.parts.sleeper.start("snapshots", write)
