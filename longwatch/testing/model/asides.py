"""What batches set aside, as dictionaries: what is left is the amount less the sum over the calls that drew on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longwatch.admission.calls import CallRequest
from longwatch.admission.refusals import overruled
from longwatch.policy import override
from longwatch.policy.admission import Spent
from longwatch.policy.aside import TURNS, Missing, Want, name_of
from longwatch.policy.budget import Standing
from longwatch.policy.scope import PurseCap, Scope, purses_of, scope_of
from longwatch.testing.model.refusals import refusal

if TYPE_CHECKING:
    from longwatch.testing.model.limiter import Limiter


@dataclass(frozen=True)
class Apart:
    """Of one batch at one service, in the windows that hold the instant."""

    batch: str
    want: Want
    calendar_ms: int

    @property
    def purses(self) -> tuple[str, ...]:
        return purses_of(service=self.want.service, budget=self.want.budget, agent=self.want.agent)


@dataclass
class Asides:
    limiter: "Limiter"
    open: dict[str, Apart] = field(default_factory=dict[str, Apart])  # by batch and service, while the batch goes on
    unended: Callable[[str], bool] = lambda batch: False  # whether the batch has a task without an outcome

    # -- drawing on it ---------------------------------------------------------------------------------------------------

    def of(self, request: CallRequest) -> str | None:
        own = self.open.get(request.aside or "")
        if own is None or self.limiter.calendar_ms < own.calendar_ms:
            return None
        return request.aside if (own.want.budget, own.want.agent) == (request.budget, request.agent) else None

    def drawn(self, request: CallRequest, standing: Standing, need: int) -> int:
        own = self.of(request)
        if own is None or not standing.starts_ms <= self.open[own].calendar_ms < standing.ends_ms:
            return 0
        return min(need, self.left(own, standing.dimension))

    def left(self, aside: str, dimension: str) -> int:
        """What is set aside, less what every call that drew on it is charged."""
        limiter = self.limiter
        drawn: list[int] = [
            getattr(limiter.charge(kept), dimension) for kept in limiter.calls.values() if kept.aside == aside
        ]
        return max(0, self.open[aside].want.of(dimension) - sum(drawn))

    def held(self, cap: PurseCap, starts_ms: int, ends_ms: int) -> int:
        return sum(
            self.left(name, cap.dimension)
            for name, apart in self.open.items()
            if cap.purse in apart.purses and starts_ms <= apart.calendar_ms < ends_ms
        )

    # -- setting aside ---------------------------------------------------------------------------------------------------

    def earmark(self, wants: Sequence[Want], *, later: bool) -> Callable[[object, str], int | None]:
        for want in wants:
            self._scope(want, self.limiter.calendar_ms)
        self.give_back()
        return lambda _, batch: self._set_aside(batch, wants, later=later)

    def _set_aside(self, batch: str, wants: Sequence[Want], *, later: bool) -> int | None:
        before_ms = self.limiter.calendar_ms
        self.limiter.turn()
        try:
            at_ms = self._room_at(wants, later=later)
            if self.limiter.rules != 0:
                raise overruled()
        except BaseException:
            self.limiter.calendar_ms = before_ms
            raise
        self.open |= {name_of(batch, want.service): Apart(batch, want, at_ms) for want in wants}
        return None if at_ms == self.limiter.calendar_ms else self.limiter.now_ms() + at_ms - self.limiter.wall_ms()

    def _room_at(self, wants: Sequence[Want], *, later: bool) -> int:
        at_ms, worst = self.limiter.calendar_ms, self._missing(wants, self.limiter.calendar_ms)
        for _ in range(TURNS):
            if worst is None or worst.never or not later:
                break
            at_ms = worst.standing.ends_ms
            worst = self._missing(wants, at_ms)
        if worst is None:
            return at_ms
        raise refusal(Spent(worst.standing, worst.need))

    def _missing(self, wants: Sequence[Want], at_ms: int) -> Missing | None:
        needs: dict[PurseCap, int] = {}
        for want in wants:
            for cap in self._scope(want, at_ms).caps:
                if want.of(cap.dimension):
                    needs[cap] = needs.get(cap, 0) + want.of(cap.dimension)
        found = [Missing(self.limiter.standing(cap, at_ms), need) for cap, need in needs.items()]
        full = [each for each in found if taken(each.standing) + each.need > each.standing.cap.amount]
        return max(full, key=lambda each: (each.never, each.standing.ends_ms), default=None)

    def _scope(self, want: Want, at_ms: int) -> Scope:
        limits = override.at(self.limiter.limits, at_ms)
        return scope_of(limits, service=want.service, model=want.model, budget=want.budget, agent=want.agent)

    def give_back(self) -> int:
        over = {apart.batch for apart in self.open.values() if not self.unended(apart.batch)}
        self.open = {name: apart for name, apart in self.open.items() if apart.batch not in over}
        return len(over)


def taken(standing: Standing) -> int:
    return standing.spent + standing.held + standing.aside
