"""What time it is in a fleet on a server: the server's own, read inside each transaction once it has its lock.

The fleet's steady clock is the server's clock plus an offset in the fleet's row, which is 0 until that clock is set back.
A process that sees it go back by a second or more puts the step into the offset, alone, so that the fleet's time goes on
for everybody from where it was. A smaller step makes time stand still for that long. A step forwards cannot be told from
a process that slept, and is believed: leases end early, and their fences keep that from doing harm.

`offset_ms` leads from this machine's steady clock to the fleet's. It is measured with every transaction, when the answer
arrives: it errs by the way back from the server, towards acting late.
"""

import threading
from dataclasses import dataclass, field
from typing import Protocol

from longwatch.db.connection import Clock

STEP_MS = 1_000


class Instants(Protocol):
    """Where transactions take their instants from."""

    @property
    def offset_ms(self) -> int:
        """What this machine's steady clock needs added to read as the fleet's."""
        ...

    @property
    def asks(self) -> bool:
        """Whether the server is asked for its clock."""
        ...

    def entered(self, offset_ms: int) -> None:
        """The fleet's row says what the clock needs added."""
        ...

    def told(self, server_ms: int, offset_ms: int) -> tuple[int, int]:
        """(now_ms, wall_ms) of a transaction. server_ms: the server's clock; offset_ms: what the fleet's row adds to it."""
        ...

    def went_back(self, server_ms: int, offset_ms: int) -> bool:
        """Whether the clock is behind by so much that somebody has set it back."""
        ...


@dataclass
class GivenInstants:
    """A clock that somebody brought: a simulation's, or a test's. It works as in any other engine."""

    clock: Clock
    offset_ms: int = 0
    asks: bool = False

    def entered(self, offset_ms: int) -> None:
        self.offset_ms = offset_ms

    def told(self, server_ms: int, offset_ms: int) -> tuple[int, int]:
        return self.clock.steady_ms() + self.offset_ms, self.clock.wall_ms()

    def went_back(self, server_ms: int, offset_ms: int) -> bool:
        return False


@dataclass
class ServerInstants:
    """The server's clock. As a `Clock` it says what the last transaction was told. history: of the server, see pool.py."""

    machine: Clock
    history: str
    asks: bool = True
    last_ms: int = 0
    _server_ms: int = 0
    _local_ms: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def told(self, server_ms: int, offset_ms: int) -> tuple[int, int]:
        with self._guard:
            self._server_ms = server_ms
            self.last_ms = max(self.last_ms, server_ms + offset_ms)
            self._local_ms = self.machine.steady_ms()
            return self.last_ms, server_ms

    def went_back(self, server_ms: int, offset_ms: int) -> bool:
        return server_ms + offset_ms < self.last_ms - STEP_MS

    def should_be_ms(self) -> int:
        """What the fleet's clock should say now, by this machine's."""
        return self.last_ms + self.machine.steady_ms() - self._local_ms

    @property
    def offset_ms(self) -> int:
        return self.last_ms - self._local_ms

    def entered(self, offset_ms: int) -> None:
        """Every transaction reads it again."""

    def steady_ms(self) -> int:
        return self._server_ms

    def wall_ms(self) -> int:
        return self._server_ms

    def boot_id(self) -> str:
        return self.history
