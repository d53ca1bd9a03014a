"""The places of this process's calls in the lines in front of services.

All calls of a process that come to one line at a time take their places together, so that a thousand that come at one instant
do not keep those up whose turn it is. All that wait in it look together: one small transaction every quarter of a second, or
when one of them has left.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from longwatch.admission.calls import CallRequest
from longwatch.errors import StoreUnavailable
from longwatch.policy.lane import BUSY_MS, LOOK_MS, MOST, at_once, look_again_ms
from longwatch.policy.scope import Scope
from longwatch.runtime.persist import persist

if TYPE_CHECKING:
    from longwatch.admission.limiter import Limiter
    from longwatch.runtime.world import World


AT_ONCE = 100  # calls that take their places in one transaction


class Newcomer:
    """ahead: once it stands. gone: it waits no more."""

    def __init__(self, request: CallRequest) -> None:
        self.request, self.gone = request, False
        self.ahead: int | None = None


class Looks:
    """Who may ask, as this process saw it last, by owner and line. Safe in threads."""

    def __init__(self, world: "World", limiter: "Limiter") -> None:
        self.world, self.limiter = world, limiter
        self._guard = threading.Lock()
        self._turns: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}
        self._busy: dict[str, int] = {}
        self._owed: deque[tuple[str, CallRequest, bool]] = deque()  # a garbage collector may add to it anywhere
        self._standing = threading.Lock()
        self._coming: dict[tuple[str, str], deque[Newcomer]] = {}  # who will be stood for by whoever is first

    def rank(self, line: str, request: CallRequest, most: int) -> int | None:
        """How many may ask before it; None: it is not the call's turn."""
        key = (request.owner, line)
        with self._guard:
            seen_ms, turns = self._turns.get(key, (-LOOK_MS, dict[str, int]()))
            if self.world.steady_ms() - seen_ms >= LOOK_MS:
                self._pay()
                turns = self._keep(key, persist(lambda: self.limiter.lines.look(line, request.owner, most=most)))
        return turns.get(request.id)

    def owe(self, line: str, request: CallRequest, served: bool) -> None:
        """A place is to be given up with the next look: nobody is there any more to do it, or it could not be done."""
        self._owed.append((line, request, served))

    def _pay(self) -> None:
        while self._owed:
            line, request, served = self._owed[0]
            persist(partial(self.limiter.lines.leave, line, request, served=served))
            self._owed.popleft()

    def stand(self, line: str, request: CallRequest, most: int) -> int:
        """Take a place, with whoever of this process comes at the same time; how many of its lane are before it."""
        key = request.owner, line
        mine, coming = Newcomer(request), self._coming.setdefault(key, deque())
        try:
            coming.append(mine)
            with self._standing:
                while mine.ahead is None:
                    self._stand_all(line, coming, most)
                if not coming:
                    self._coming.pop(key, None)  # who has it in hand already stands from there
            return mine.ahead
        except BaseException:
            mine.gone = True
            raise

    def _stand_all(self, line: str, coming: "deque[Newcomer]", most: int) -> None:
        """For those who have come, or as many as fit into one transaction.

        Whoever is interrupted in this, at whatever instant, leaves the others where the next one finds them.
        """
        here = [coming[at] for at in range(min(AT_ONCE, len(coming)))]
        newcomers = [each for each in here if each.ahead is None and not each.gone]
        if newcomers:
            requests = [each.request for each in newcomers]
            standing = persist(lambda: self.limiter.lines.stand(line, requests, most=most))
            with self._guard:
                self._keep((requests[0].owner, line), standing.turns)
            for each in newcomers:
                each.ahead = standing.ahead.get(each.request.id, 0)
                if each.gone:  # meanwhile
                    self.owe(line, each.request, False)
        for _ in here:
            coming.popleft()

    def forget(self, line: str, owner: str) -> None:
        """Somebody has left: look again."""
        with self._guard:
            self._turns.pop((owner, line), None)

    def busy(self, line: str) -> None:
        """Somebody of this process whose turn it is has to wait: newcomers to the line are told, and told again in time."""
        now_ms = self.world.steady_ms()
        with self._guard:
            if now_ms - self._busy.get(line, -BUSY_MS) < BUSY_MS // 2:
                return
            self._busy[line] = now_ms
        persist(lambda: self.limiter.lines.busy(line))

    def _keep(self, key: tuple[str, str], turns: Iterable[str]) -> dict[str, int]:
        found = {call: rank for rank, call in enumerate(turns)}
        self._turns[key] = self.world.steady_ms(), found
        return found


class Place:
    """Of one call. taken: it stands in line. rank: how many may ask before it, once it may."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self.rank = self._ahead = self._since_ms = 0
        self._dropped: weakref.finalize[[str, CallRequest, bool], Place] | None = None
        self.line: str | None = None

    @property
    def taken(self) -> bool:
        return self.line is not None

    def take(self, scope: Scope, request: CallRequest) -> bool:
        """Stand in line; whether it is the call's turn already."""
        assert scope.line is not None
        self.line, self._most = scope.line, most_of(scope)
        self._dropped = weakref.finalize(self, self._looks.owe, self.line, request, False)
        self._dropped.atexit = False
        self._ahead = self._looks.stand(self.line, request, self._most)
        self._since_ms = self._looks.world.steady_ms()
        return self.is_turn(request)

    def is_turn(self, request: CallRequest) -> bool:
        rank = 0 if self.line is None else self._looks.rank(self.line, request, self._most)
        self.rank = rank or 0
        return rank is not None

    def look_ms(self, slot_us: int) -> int:
        """When to look whether it is its turn; steady. slot_us: how far apart slots are."""
        now_ms = self._looks.world.steady_ms()
        least_ms = max(0, self._ahead - self._most) * slot_us // 1000
        return now_ms + look_again_ms(now_ms - self._since_ms, least_ms)

    def busy(self) -> None:
        """It is the call's turn, and there is no slot for it."""
        if self.line is not None:
            self._looks.busy(self.line)

    def leave(self, request: CallRequest, *, served: bool) -> None:
        if self.line is not None:
            line, self.line = self.line, None
            if self._dropped is not None:
                self._dropped.detach()
            try:
                persist(lambda: self._looks.limiter.lines.leave(line, request, served=served))
            except StoreUnavailable:
                self._looks.owe(line, request, served)
            self._looks.forget(line, request.owner)


def most_of(scope: Scope) -> int:
    """How many may ask at once: by the slowest of the rates."""
    return min((at_once(gauge.rate.amount, gauge.rate.per_ms) for gauge in scope.rates), default=MOST)
