"""What happened in one column, second by second: the material of the live view, the audit and the picture."""

import threading
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["killed", "frozen", "thawed", "outage", "died", "torn", "sound"]


@dataclass(frozen=True)
class Seen:
    """One mark. at_s: since the column began. status: of the answer that it tells of, else 0."""

    at_s: float
    pid: int
    place: str
    module: str
    status: int


@dataclass(frozen=True)
class Event:
    """Something done to the column, or seen of it. until_s: of an outage."""

    at_s: float
    kind: Kind
    pid: int = 0
    place: str = ""
    module: str = ""
    until_s: float = 0.0


@dataclass
class Trace:
    """seen: by order of time. spent: (at_s, micro-dollars) of second opinions, as billed. row: a worker's place by pid."""

    seen: list[Seen] = field(default_factory=list[Seen])
    events: list[Event] = field(default_factory=list[Event])
    spent: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    rows: dict[int, int] = field(default_factory=dict[int, int])
    gone: dict[int, float] = field(default_factory=dict[int, float])
    guard: threading.Lock = field(default_factory=threading.Lock)
    ended_s: float = 0.0

    def see(self, seen: Seen) -> None:
        with self.guard:
            self.seen.append(seen)

    def tell(self, event: Event) -> None:
        with self.guard:
            self.events.append(event)

    def come(self, pid: int) -> None:
        """A worker has come: it gets the first row that nobody alive has."""
        with self.guard:
            taken = {row for other, row in self.rows.items() if other not in self.gone}
            self.rows[pid] = next(row for row in range(len(self.rows) + 1) if row not in taken)

    def go(self, pid: int, at_s: float) -> None:
        with self.guard:
            self.gone[pid] = at_s

    def alive(self) -> list[int]:
        with self.guard:
            return [pid for pid in self.rows if pid not in self.gone]

    def of(self, *kinds: Kind) -> list[Event]:
        with self.guard:
            return [event for event in self.events if event.kind in kinds]

    def modules_booked(self) -> set[str]:
        """What somebody has entered in the catalogue so far, whatever the entry is worth."""
        with self.guard:
            return {seen.module for seen in self.seen if seen.place == "booked"}
