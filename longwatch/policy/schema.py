"""Which code may use a state whose schema was made by another: one number tells, of the last migration.

Numbers of migrations are taken in order. One that is a round hundred is *post*: it takes away what only older code needs.
Every other one is *pre*: it only adds, and code that does not know of it goes on working. So the hundreds of a number say
how often something was taken away, and code may use a schema that is ahead of it as long as they are its own.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

HUNDRED = 100
SILENT_MS = 60_000  # a worker without a beat for this long, and for its lease, is taken for gone


class Numbered(Protocol):
    @property
    def number(self) -> int: ...


N = TypeVar("N", bound=Numbered)


def is_post(number: int) -> bool:
    """Whether the migration takes something away."""
    return number % HUNDRED == 0


def is_welcome(known: int, found: int) -> bool:
    """Whether code may use the schema. known: the last migration that the code has. found: the last one of the schema."""
    return found // HUNDRED <= known // HUNDRED


def pending(migrations: Iterable[N], found: int) -> list[N]:
    """What the schema lacks, in order."""
    return [each for each in migrations if each.number > found]


def needed(migrations: Sequence[N], found: int) -> list[N]:
    """Of these, what code cannot work without: everything up to the last pre. A new state gets all.

    What is post stays behind as long as it may, so that the previous code can still be gone back to.
    """
    lacking = pending(migrations, found)
    if found == 0:
        return lacking
    last = max((each.number for each in lacking if not is_post(each.number)), default=0)
    return [each for each in lacking if each.number <= last]
