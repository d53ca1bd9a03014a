"""What has to be done now and then, by one process of the fleet at a time: end what ran out, bury the dead, finish commits.

Every worker offers to do it with its beats; the state lets one of them, once per `EVERY_MS`. Each part is bounded and may
be repeated, so that nothing is lost when the process dies in the middle: the next one begins again.
"""

from dataclasses import dataclass

from longwatch.runtime.parts import Parts
from longwatch.store import fleet

EVERY_MS = 5_000
LIMIT = 500  # of each kind, at one time


@dataclass
class Upkeep:
    parts: Parts

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
        return True
