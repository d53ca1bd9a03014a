"""When a process that ended is started again: at once if it had lived, ever later if it keeps dying young."""

from dataclasses import dataclass

YOUNG_MS = 5_000
FIRST_MS = 250
MOST_MS = 30_000
YOUNG_DEATHS_MOST = 8


@dataclass(frozen=True)
class Slot:
    """One place for a process. young: how often in a row its process died within YOUNG_MS of its start."""

    young: int = 0


def after_death(slot: Slot, *, lived_ms: int) -> tuple[Slot, int | None]:
    """The slot afterwards, and milliseconds before the next start; None: parked, it dies at every start."""
    if lived_ms >= YOUNG_MS:
        return Slot(), 0
    young = slot.young + 1
    if young > YOUNG_DEATHS_MOST:
        return Slot(young), None
    return Slot(young), 0 if young == 1 else min(MOST_MS, FIRST_MS << (young - 2))
