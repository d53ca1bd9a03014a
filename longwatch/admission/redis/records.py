"""Writes a process's book into the ledger, and tells Redis what it need not keep any more."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from longwatch.admission.keys import Charge
from longwatch.admission.ledger import COUNTED, NOTHING
from longwatch.admission.redis.book import BATCH, Adjust, Book
from longwatch.admission.redis.usual import Usual
from longwatch.admission.redis.values import Known, Said, meters_of
from longwatch.db.connection import Database
from longwatch.errors import StoreUnavailable
from longwatch.policy.meter import Meter

Run = Callable[[str, Said], tuple[str, Said, int]]
"""An operation of the script: (kind, answer, what its clock needs added to read as the fleet's)."""


@dataclass(frozen=True)
class Records:
    """Safe in threads: one of them writes at a time. pending: is told that there is something to flush."""

    database: Database
    book: Book
    run: Run
    pending: Callable[[], None]
    writing: threading.RLock = field(default_factory=threading.RLock)

    def keep(self, call: Known | Usual) -> None:
        if self.book.put(call) >= BATCH:
            self.flush()
        else:
            self.pending()

    def write(self, call: Known, *, durable: bool) -> None:
        """Keep it and write it down at once. durable: so that it survives a power cut."""
        with self.writing:  # else another thread might take it first, and write it as it writes
            self.book.put(call)
            self.flush(durable=durable)

    def flush(self, *, durable: bool = False) -> bool:
        """Write down whatever was kept before, and wait for what another thread is writing. Whether there was anything.

        Errors: StoreUnavailable, while the state is away; the engine may be.
        """
        done = False
        with self.writing:
            while calls := self.book.take():
                done = True
                try:
                    self._write(calls, durable=durable)
                except BaseException:
                    self.book.put_back(calls)
                    raise
        return done

    def _write(self, calls: list[Known | Usual], *, durable: bool) -> None:
        meters = self._meters()
        with self.database.transaction(part="calls", durable=durable) as tx:
            adjusts, others = self.book.write(tx, calls, meters)
        with contextlib.suppress(
            StoreUnavailable
        ):  # it keeps what is written down: whoever finds it loose tells it again
            ended = {
                call.id: _end_of(call)
                for call in calls
                if not isinstance(call, Usual) and call.state != "open" and call.id not in others
            }
            self._tell(adjusts, ended, others)

    def _meters(self) -> dict[str, Meter]:
        try:
            _, said, shift_us = self.run("look", {})
        except StoreUnavailable:
            return {}  # the ledger does not wait for the engine
        return meters_of(said["meters"], shift_us)

    def _tell(self, adjusts: list[Adjust], ended: dict[str, tuple[int, Charge]], others: list[str]) -> None:
        for adjust in adjusts:
            what = {"ps": adjust.purses, "cal": adjust.calendar_ms, "spent": adjust.amounts, "as": adjust.aside}
            self.run("adjust", what)
        if others:
            self.run("disown", {"ids": others})
        if ended:
            self.run("recorded", {"calls": ended})


def _end_of(call: Known) -> tuple[int, Charge]:
    """Its version, and what it came to by itself."""
    return call.version, call.told if call.state in COUNTED else NOTHING
