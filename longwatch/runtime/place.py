"""The places of this process's calls in the lines in front of services.

All calls of a process that wait in one line look together: one small transaction every quarter of a second, or when one of them
has left.
"""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from longwatch.admission.calls import CallRequest
from longwatch.policy.lane import LOOK_MS, MOST, at_once
from longwatch.policy.scope import Scope
from longwatch.runtime.persist import persist

if TYPE_CHECKING:
    from longwatch.admission.limiter import Limiter
    from longwatch.runtime.world import World


class Looks:
    """Who may ask, as this process saw it last, by owner and line. Safe in threads."""

    def __init__(self, world: "World", limiter: "Limiter") -> None:
        self.world, self.limiter = world, limiter
        self._guard = threading.Lock()
        self._turns: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}

    def may(self, line: str, request: CallRequest, most: int) -> bool:
        """Whether it is the call's turn."""
        key = (request.owner, line)
        with self._guard:
            seen_ms, turns = self._turns.get(key, (-LOOK_MS, frozenset()))
            if self.world.steady_ms() - seen_ms >= LOOK_MS:
                turns = self._keep(key, persist(lambda: self.limiter.lines.look(line, request.owner, most=most)))
        return request.id in turns

    def told(self, line: str, owner: str, turns: Iterable[str]) -> None:
        with self._guard:
            self._keep((owner, line), turns)

    def forget(self, line: str, owner: str) -> None:
        """Somebody has left: look again."""
        with self._guard:
            self._turns.pop((owner, line), None)

    def _keep(self, key: tuple[str, str], turns: Iterable[str]) -> frozenset[str]:
        found = frozenset(turns)
        self._turns[key] = self.world.steady_ms(), found
        return found


class Place:
    """Of one call. taken: it stands in line."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self.line: str | None = None

    @property
    def taken(self) -> bool:
        return self.line is not None

    def take(self, scope: Scope, request: CallRequest) -> bool:
        """Stand in line; whether it is the call's turn already."""
        assert scope.line is not None
        self.line, self._most = scope.line, most_of(scope)
        lines = self._looks.limiter.lines
        turns = persist(lambda: lines.stand(scope.line or "", request, most=self._most))
        self._looks.told(self.line, request.owner, turns)
        return request.id in turns

    def is_turn(self, request: CallRequest) -> bool:
        return self.line is None or self._looks.may(self.line, request, self._most)

    def busy(self) -> None:
        """It is the call's turn, and there is no slot for it."""
        if self.line is not None:
            line = self.line
            persist(lambda: self._looks.limiter.lines.busy(line))

    def leave(self, request: CallRequest, *, served: bool) -> None:
        if self.line is not None:
            line, self.line = self.line, None
            persist(lambda: self._looks.limiter.lines.leave(line, request, served=served))
            self._looks.forget(line, request.owner)


def most_of(scope: Scope) -> int:
    """How many of one lane may ask at once: by the slowest of the rates."""
    return min((at_once(gauge.rate.amount, gauge.rate.per_ms) for gauge in scope.rates), default=MOST)
