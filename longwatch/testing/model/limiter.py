"""Admission as dictionaries: what a purse has spent and holds is the sum over its calls, every time anew."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from longwatch.admission.calls import (
    HOLD_MS,
    Admitted,
    Call,
    CallRequest,
    Word,
    check,
    check_amount,
    check_told,
    whole_ms,
)
from longwatch.admission.keys import Charge
from longwatch.admission.ledger import NOTHING
from longwatch.admission.limiter import lacks_money
from longwatch.admission.refusals import KeyForgotten, overruled
from longwatch.errors import ConfigError, NotFound
from longwatch.policy import admission, meter, override
from longwatch.policy.admission import Ask, Later, Metered, Places, Purse, Slot, Spent
from longwatch.policy.budget import Standing
from longwatch.policy.call import MOST_SHARING, Reconciling, State, Told, borne, burial, forgotten, phase, reconciling
from longwatch.policy.learning import Rates
from longwatch.policy.limits import DIMENSIONS, Limits, Service
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.scope import PurseCap, Scope, purses_of, scope_of
from longwatch.policy.window import calendar_at, window_of, zone_of
from longwatch.testing.model.asides import Asides
from longwatch.testing.model.gates import Gates
from longwatch.testing.model.learned import LearnedLimits, held_back
from longwatch.testing.model.lines import Lines
from longwatch.testing.model.refusals import refusal
from longwatch.testing.model.task_caps import TaskCaps


@dataclass(frozen=True)
class Kept:
    """A call. weights: by meter, units and the meter's total behind them. told: what it costs by itself, its hold if open.
    remembered: its service remembers its key, so that calls with that key are billed once."""

    asked: CallRequest
    state: State
    slot_us: int
    admitted_ms: int
    calendar_ms: int
    until_ms: int
    ended_ms: int | None
    weights: Mapping[str, tuple[int, int]]
    told: Charge
    remembered: bool
    aside: str | None = None  # what it drew on

    @property
    def hold(self) -> Charge:
        return Charge(self.asked.money, self.asked.calls, self.asked.tokens)

    @property
    def purses(self) -> tuple[str, ...]:
        asked = self.asked
        return purses_of(service=asked.service, budget=asked.budget, agent=asked.agent, task=asked.task)


@dataclass
class Limiter:
    now_ms: Callable[[], int]
    wall_ms: Callable[[], int]
    limits: Limits
    rules: int = 0  # those in force are 0
    calls: dict[str, Kept] = field(default_factory=dict[str, Kept])  # in the order admitted
    meters: dict[str, Meter] = field(default_factory=dict[str, Meter])
    calendar_ms: int = 0

    def __post_init__(self) -> None:
        self.gates = Gates(self.now_ms, self.meters)
        self.lines = Lines(self.now_ms, self.meters)
        self.learned = LearnedLimits(self.now_ms, self._left)
        self.heeded: Rates = {}
        self.asides = Asides(self)
        self.task_caps = TaskCaps(self)

    def adopt(self, limits: Limits, rules: int) -> None:
        self.limits, self.rules = limits, rules

    def heed(self, learned: Rates) -> None:
        self.heeded = learned

    def hold_back(self, floors: Mapping[str, int]) -> None:
        held_back(self.meters, floors)

    def _left(self, service: str, model: str, since_ms: int) -> int:
        mine = [kept for kept in self.charged(f"service:{service}", 0, 1 << 62) if model in ("", kept.asked.model)]
        return sum(kept.state != "released" and since_ms * 1000 < kept.slot_us <= self.now_ms() * 1000 for kept in mine)

    # -- in ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: CallRequest) -> Admitted | Later:
        check(request)
        scope = self._scope(request)
        answer = self._key_forgotten(scope, request) or self._decide(request)
        if isinstance(answer, Later | Spent) and self._freed(answer):
            answer = self._decide(request)
        if request.id in self.calls:
            return admitted(self.calls[request.id])
        if isinstance(answer, Slot) and self.rules != 0:
            raise overruled()
        if isinstance(answer, Slot):
            return self._add(scope, request, answer)
        if isinstance(answer, Later):
            return answer
        raise refusal(answer)

    def _freed(self, answer: Later | Spent) -> bool:
        expired = self.expire() if isinstance(answer, Later) and answer.reason != "rate" else 0
        return bool(expired + (self.asides.give_back() if lacks_money(answer) else 0))

    def _scope(self, asked: CallRequest) -> Scope:
        return scope_of(
            override.at(self.limits, self.calendar_ms),
            service=asked.service,
            model=asked.model,
            budget=asked.budget,
            agent=asked.agent,
            past=asked.past,
            turn=asked.turn,
            learned=self.heeded,
        )

    def _scope_or_none(self, kept: Kept) -> Scope:
        try:
            return self._scope(msgspec.structs.replace(kept.asked, past=None, turn=True))
        except ConfigError:
            return Scope(Service(kept.asked.service), (), (), kept.purses)

    def _key_forgotten(self, scope: Scope, request: CallRequest) -> KeyForgotten | None:
        uses = [kept for kept in self._uses(request) if kept.state != "released"]
        if not self._remembers(scope, request) or not uses:
            return None
        memory_ms, age_ms = scope.service.key_memory_ms or 0, self.now_ms() - uses[0].admitted_ms
        return KeyForgotten(request.key) if forgotten(age_ms=age_ms, memory_ms=memory_ms) else None

    def _remembers(self, scope: Scope, request: CallRequest) -> bool:
        return scope.service.key_memory_ms is not None and request.key != request.id

    def _uses(self, request: CallRequest) -> list[Kept]:
        """Other calls with the key, the earliest first."""
        return [
            kept
            for kept in self.calls.values()
            if (kept.asked.key, kept.asked.service) == (request.key, request.service) and kept.asked.id != request.id
        ][:MOST_SHARING]

    def charge(self, kept: Kept) -> Charge:
        """What the call is charged, its hold if it is open: of calls with one key that is remembered, one bears it all."""
        if not kept.remembered:
            return kept.told
        place = (kept.asked.key, kept.asked.service)
        alike = [
            other
            for other in self.calls.values()
            if other.remembered and (other.asked.key, other.asked.service) == place
        ]
        money = borne([Told(other.state, other.told.money) for other in alike])
        tokens = borne([Told(other.state, other.told.tokens) for other in alike])
        at = alike.index(kept)
        return Charge(money[at], kept.told.calls, tokens[at])

    def _decide(self, request: CallRequest) -> admission.Decision:
        self.turn()
        scope = self._scope(request)  # the calendar may have turned, and an override ended
        most = scope.service.concurrency
        here = [kept for kept in self.open() if kept.asked.service == request.service]
        needs = {"money": request.money, "calls": request.calls, "tokens": request.tokens}
        return admission.decide(
            Ask(
                self.now_ms() * 1000,
                None if request.until_ms is None else request.until_ms * 1000,
                self._metered(scope, request.weights),
                None if most is None else Places(len(here), most),
                tuple(self._purse(request, cap, needs[cap.dimension]) for cap in scope.caps)
                + self.task_caps.purses(request, needs),
                admission.HORIZONS_US[request.lane],
            )
        )

    def turn(self) -> None:
        self.calendar_ms = calendar_at(self.calendar_ms, wall_ms=self.wall_ms(), steady_ms=self.now_ms())

    def _purse(self, request: CallRequest, cap: PurseCap, need: int) -> Purse:
        standing = self.standing(cap, self.calendar_ms)
        return Purse(standing, need - self.asides.drawn(request, standing, need))

    def _metered(self, scope: Scope, weights: Mapping[str, int]) -> tuple[Metered, ...]:
        return tuple(
            Metered(gauge.meter, gauge.rate, self.meters.get(gauge.meter, NEW), weights.get(gauge.dimension, 0))
            for gauge in scope.gauges
        )

    def standing(self, cap: PurseCap, at_ms: int) -> Standing:
        window = window_of(at_ms, cap.cap.window, zone_of(self.limits.timezone))
        held = [kept for kept in self.charged(cap.purse, *window) if kept.state == "open"]
        return Standing(
            cap.purse,
            cap.dimension,
            cap.cap,
            window.starts_ms,
            window.ends_ms,
            self.spent(cap.purse, cap.dimension, *window),
            sum(getattr(self.charge(kept), cap.dimension) for kept in held),
            len(held),
            self.asides.held(cap, *window),
        )

    def charged(self, purse: str, starts_ms: int, ends_ms: int) -> list[Kept]:
        """Every call that was made in the window and is paid by the purse."""
        return [
            kept for kept in self.calls.values() if purse in kept.purses and starts_ms <= kept.calendar_ms < ends_ms
        ]

    def spent(self, purse: str, dimension: str, starts_ms: int, ends_ms: int) -> int:
        ended = [kept for kept in self.charged(purse, starts_ms, ends_ms) if kept.state in ("settled", "unknown")]
        return sum(getattr(self.charge(kept), dimension) for kept in ended)

    def _add(self, scope: Scope, request: CallRequest, slot: Slot) -> Admitted:
        self.meters.update(slot.meters)
        weights = {
            gauge.meter: (request.weights[gauge.dimension], slot.meters[gauge.meter].total)
            for gauge in scope.gauges
            if request.weights.get(gauge.dimension, 0)
        }
        now_ms = self.now_ms()
        hold = Charge(request.money, request.calls, request.tokens)
        until_ms, few = now_ms + HOLD_MS, len(self._uses(request)) < MOST_SHARING
        remembered = self._remembers(scope, request) and few
        own = self.asides.of(request)
        self.calls[request.id] = Kept(
            request, "open", slot.at_us, now_ms, self.calendar_ms, until_ms, None, weights, hold, remembered, own
        )
        return admitted(self.calls[request.id])

    def reslot(self, call: str, *, owner: str) -> Admitted:
        kept = self._own(call, owner)
        units = {name: units for name, (units, _) in kept.weights.items()}
        metered = tuple(
            Metered(gauge.meter, gauge.rate, self.meters.get(gauge.meter, NEW), units.get(gauge.meter, 0))
            for gauge in self._scope_or_none(kept).gauges
        )
        slot = admission.next_slot(Ask(self.now_ms() * 1000, None, metered, None, ()))
        self.meters.update(slot.meters)
        weights = {**kept.weights, **{name: (units[name], found.total) for name, found in slot.meters.items()}}
        self.calls[call] = replace(kept, slot_us=slot.at_us, weights=weights)
        return admitted(self.calls[call])

    # -- out ---------------------------------------------------------------------------------------------------------------

    def settle(
        self,
        call: str,
        *,
        owner: str,
        money: int | None = None,
        tokens: int | None = None,
        used: Mapping[str, int] | None = None,
    ) -> None:
        check_told(money, tokens, used)
        kept = self._own(call, owner)
        hold = kept.hold
        charge = Charge(hold.money if money is None else money, hold.calls, hold.tokens if tokens is None else tokens)
        self._close(call, "settled", charge, used or {})

    def release(self, call: str, *, owner: str) -> None:
        kept = self._own(call, owner)
        if kept.state == "settled":
            raise ConfigError(f"{call} is settled")
        self._release(call)

    def unknown(self, call: str, *, owner: str) -> None:
        if self._own(call, owner).state in ("open", "released"):
            self._lose(call)

    def reconcile(self, call: str, word: Word) -> Reconciling:
        check_amount("money", word.money or 0)
        if call not in self.calls:
            raise NotFound(call)
        kept = self.calls[call]
        come = reconciling(kept.state, kept.told.money, word.money, correct=word.correct)
        if come == "reconcile_unsent":
            self._release(call)
        elif come in ("reconcile", "correct"):
            tokens = kept.hold.tokens if kept.state == "released" else kept.told.tokens
            self._close(call, "settled", Charge(word.money or 0, kept.hold.calls, tokens), {})
        return come

    def beat(self, owner: str) -> int:
        mine = [kept for kept in self.open() if kept.asked.owner == owner]
        for kept in mine:
            until_ms = max(kept.until_ms, self.now_ms() + HOLD_MS)
            self.calls[kept.asked.id] = replace(kept, until_ms=until_ms)
        return len(mine)

    def expire(self, *, limit: int = 500) -> int:
        over = [kept for kept in self.open() if kept.until_ms <= self.now_ms()]
        due = sorted(over, key=lambda kept: kept.until_ms)[:limit]
        for kept in due:
            self._lose(kept.asked.id)
        return len(due)

    def bury(self, owner: str) -> int:
        mine = [kept for kept in self.open() if kept.asked.owner == owner]
        for kept in mine:
            waiting = burial(slot_us=kept.slot_us, now_us=self.now_ms() * 1000) == "bury_waiting"
            (self._release if waiting else self._lose)(kept.asked.id)
        return len(mine)

    def _lose(self, call: str) -> None:
        self._close(call, "unknown", self.calls[call].hold, {})

    def _release(self, call: str) -> None:
        if self.calls[call].state != "released":
            self._close(call, "released", NOTHING, dict.fromkeys(DIMENSIONS, 0))

    def _close(self, call: str, state: State, charge: Charge, used: Mapping[str, int]) -> None:
        kept = self.calls[call]
        weights = dict(kept.weights)
        for gauge in self._scope_or_none(kept).gauges:
            before = self.meters.get(gauge.meter, NEW)
            reserved, total_then = weights.get(gauge.meter, (0, before.total))
            units = used.get(gauge.dimension, reserved)
            if units != reserved:
                after = meter.correct(
                    before, gauge.rate, reserved=reserved, used=units, slot_us=kept.slot_us, total_then=total_then
                )
                self.meters[gauge.meter] = after
                weights[gauge.meter] = (units, total_then if gauge.meter in kept.weights else after.total)
        self.calls[call] = replace(kept, state=state, told=charge, weights=weights, ended_ms=self.now_ms())

    def close(self) -> None:
        pass

    def doubt_calls(self) -> None:
        """The state was restored: nobody knows what became of the calls that were open."""
        for kept in self.open():
            self.calls[kept.asked.id] = replace(kept, until_ms=0)

    # -- looking -----------------------------------------------------------------------------------------------------------

    def open(self) -> list[Kept]:
        return [kept for kept in self.calls.values() if kept.state == "open"]

    def find(self, call: str) -> Call:
        if call not in self.calls:
            raise NotFound(call)
        return self._call(self.calls[call])

    def open_calls(self, *, service: str | None = None, limit: int = 500) -> list[Call]:
        return [self._call(kept) for kept in self.open() if service in (None, kept.asked.service)][:limit]

    def of_task(self, task: str, *, limit: int = 500) -> Sequence[Call]:
        return [self._call(kept) for kept in self.calls.values() if kept.asked.task == task][:limit]

    def _own(self, call: str, owner: str) -> Kept:
        if call not in self.calls or self.calls[call].asked.owner != owner:
            raise NotFound(call)
        return self.calls[call]

    def _call(self, kept: Kept) -> Call:
        asked, charge = kept.asked, self.charge(kept)
        return Call(
            id=asked.id,
            key=asked.key,
            phase=phase(kept.state, slot_us=kept.slot_us, now_us=self.now_ms() * 1000),
            service=asked.service,
            model=asked.model,
            agent=asked.agent,
            budget=asked.budget,
            owner=asked.owner,
            task=asked.task,
            run=asked.run,
            step=asked.step,
            lane=asked.lane,
            slot_ms=whole_ms(kept.slot_us),
            admitted_ms=kept.admitted_ms,
            calendar_ms=kept.calendar_ms,
            until_ms=kept.until_ms,
            ended_ms=kept.ended_ms,
            money=charge.money,
            calls=charge.calls,
            tokens=charge.tokens,
            held_money=asked.money,
        )


def admitted(kept: Kept) -> Admitted:
    return Admitted(kept.asked.id, kept.asked.key, whole_ms(kept.slot_us), kept.asked.money, kept.asked.tokens)
