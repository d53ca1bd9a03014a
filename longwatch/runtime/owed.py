"""Ends of calls that could not be written when they happened: the store was away, or the call was dropped, not left.

Its process lives and beats for all of its calls, so that nothing else would end them: they would hold their places and their
money for as long as it lives. They are written with the next call or beat of the process instead. As many can be owed as
calls were open.
"""

import contextlib
from collections import deque
from collections.abc import Callable

from longwatch.errors import ConfigError, NotFound, StoreUnavailable
from longwatch.runtime.persist import persist


class Owed:
    """Safe in threads, and `later` in finalizers too: it takes no lock."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        """goes_on: whether calls go on without the engine that is away, so that ends which wait for it hold up no others."""
        self._ends = deque[tuple[str, Callable[[], None]]]()
        self._goes_on = goes_on

    def end(self, call: str, write: Callable[[], None]) -> None:
        """Write it after what is owed, so that the last one counts; while the store is away it is owed too.

        An engine beside the store that is away and may soon be back is no error: the call has ended, and will be told.
        Errors: StoreUnavailable, and as the write.
        """
        try:
            if not self._goes_on() or any(owed == call for owed, _ in list(self._ends)):
                self.pay()
            persist(write)
        except StoreUnavailable as error:
            self._ends.append((call, write))
            if not error.waits:
                raise

    def __len__(self) -> int:
        return len(self._ends)

    def later(self, call: str, write: Callable[[], None]) -> None:
        self._ends.append((call, write))

    def pay_first(self) -> None:
        """Before another call is asked for. Errors: as `pay`."""
        if not self._goes_on():
            self.pay()

    def pay(self) -> None:
        """Write what is owed, in its order. Errors: StoreUnavailable; the rest is owed as before."""
        for _ in range(len(self._ends)):
            with contextlib.suppress(IndexError, NotFound, ConfigError):  # paid by another thread, or ended otherwise
                self._pay_one()

    def _pay_one(self) -> None:
        call, write = self._ends.popleft()
        try:
            persist(write)
        except StoreUnavailable as error:
            if error.waits and self._goes_on():
                self._ends.append((call, write))  # behind the others, which come round in their order
                return
            self._ends.appendleft((call, write))
            raise
