"""One use of a service: admitted and held when the block is entered, settled when it is left.

    with calls.call("stripe", caller=caller, money="0.20 GBP") as call:
        ...                                     # may leave now; call.key is the same on every attempt
        call.settle(money="0.18 GBP")           # without it the estimate stands

Left by an exception the call's outcome is unknown and it is charged at its estimate, unless the error proves that
nothing was sent or `release` was called. A process that dies inside leaves its hold to `Limiter.expire` or `bury`.

A call that wakes later than its meters allow for would arrive among those behind it; it takes another slot instead.

A call is entered once. Whatever breaks its entering off (an interrupt, a store that goes away) gives back what it may have
taken; an end that could not be written is written later (owed.py).
"""

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.refusals import KeyForgotten as KeyForgotten
from longwatch.errors import (
    ConfigError,
    LongwatchError,
    NotFound,
    StoreUnavailable,
    WaitTimeout,
)
from longwatch.policy.admission import Later
from longwatch.policy.answer import Verdict
from longwatch.policy.backoff import Backoff
from longwatch.policy.breaker import is_open
from longwatch.policy.degrade import Way
from longwatch.policy.estimate import micros_of, spent_micros
from longwatch.policy.fair import PATIENT_MS
from longwatch.policy.limits import DIMENSIONS
from longwatch.policy.meter import JITTER_MS
from longwatch.policy.money import Money
from longwatch.policy.scope import GATE
from longwatch.policy.unsent import proves_unsent
from longwatch.policy.usage import metered, model_of, usage_from, usage_of
from longwatch.runtime.asking import Asking
from longwatch.runtime.loop import FOREVER_MS, Retry, wait_for
from longwatch.runtime.obstacle import obstacle, timed_out
from longwatch.runtime.persist import persist

if TYPE_CHECKING:
    from longwatch.runtime.calls import Calls

logger = logging.getLogger("longwatch")

TELL_MS = 5_000  # a call that waits longer than this says once what it waits for
LOOK_MS = 10_000  # no ordinary slot is further away
LATE_MS = JITTER_MS // 2  # after its slot; the other half of what the meters allow for is the network's
RESLOTS = 3  # a machine that is late every time shall not wait for ever
POLL = Backoff(first_ms=10, most_ms=250)  # while what is waited for has no known instant


class Call:
    """One use of a service. `.id`, `.key` to send as the idempotency key, `.start_at`, `.waited_ms`."""

    def __init__(self, calls: "Calls", request: CallRequest, wait_ms: int | None, ways: tuple[Way, ...] = ()) -> None:
        """ways: cheaper models to fall back on, the dearest first."""
        self._calls, self._wait_ms = calls, wait_ms
        self._asking = Asking(calls, request, ways)
        self.id, self.key, self.owner = request.id, request.key, request.owner
        self._begun_ms: int | None = None  # steady, of this process
        self._left_ms: int | None = None
        self._admitted: Admitted | None = None
        self._asked = self._over = self._told = self._ended = False  # may be admitted; may not be entered any more
        self._guard = threading.Lock()
        self._dropped: weakref.finalize[[str, Callable[[], None]], Call] | None = None
        self._attempts = self._reslots = self._start_ms = 0  # it started at: by the calendar
        self._slept = False  # for its slot
        self._passage = self._asking.passage

    def again(self) -> "Call":
        """The same call once more, after an attempt that came to nothing: with its key, and a turn of its own."""
        return Call(self._calls, self._asking.again(), self._wait_ms, self._asking.ways)

    # -- waiting for its turn ------------------------------------------------------------------------------------------

    def attempt(self) -> Admitted | Retry:
        """Without sleeping: the call may leave now, or ask again at the instant told (in line, or until its slot).

        Errors: Refused and its kinds, KeyForgotten; nothing was sent and nothing is held then.
        """
        with self._guard:
            if self._over:
                raise self._entered_before()
            try:
                return self._attempt()
            except BaseException as error:
                away = isinstance(error, StoreUnavailable) and error.waits
                if away and self._calls.world.steady_ms() < self._until_ms():
                    return self._soon()
                self.abandon()
                raise

    def _attempt(self) -> Admitted | Retry:
        self._attempts += 1
        if self._begun_ms is None:
            self._begun_ms = self._calls.world.steady_ms()
        if self._admitted is None:
            left_ms = self._until_ms() - self._calls.world.steady_ms()
            if left_ms > 0 and (look_ms := self._asking.not_yet(patient=left_ms >= PATIENT_MS)) is not None:
                return Retry(min(look_ms, self._until_ms()))
            answer = self._ask()
            if isinstance(answer, Later):
                return self._in_line(answer)
            self._take(answer)
        return self._until_slot()

    def _ask(self) -> Admitted | Later:
        self._asked = True
        try:
            self._calls.owed.pay_first()
            answer = self._asking.ask(None if self._wait_ms is None else self._until_ms() + self._offset_ms())
            self._asked = isinstance(answer, Admitted)
        except LongwatchError as error:
            self._asked = isinstance(error, StoreUnavailable)
            raise
        return answer

    def _soon(self) -> Retry:
        """The engine is away and may be back: ask again."""
        delay_ms = POLL.delay_ms(self._attempts, fraction=self._calls.world.fraction())
        return Retry(min(self._calls.world.steady_ms() + delay_ms, self._until_ms()))

    def _take(self, admitted: Admitted) -> None:
        self._admitted = admitted
        self._asking.admitted(admitted.slot_ms - self._offset_ms())
        self._calls.beats.opened(self.id, self.owner)
        self._dropped = weakref.finalize(
            self, self._calls.owed.later, self.id, partial(self._calls.drop, self.id, self.owner)
        )
        self._dropped.atexit = False
        self._calls.world.reach("call.admitted")

    def _until_slot(self) -> Admitted | Retry:
        assert self._admitted is not None
        slot_ms = self._admitted.slot_ms - self._offset_ms()
        never = is_open(self._admitted.slot_ms * 1000)  # it took another slot when its service had just pushed back
        if self._slept and (never or self._calls.world.steady_ms() >= slot_ms):
            held = self._passage.held_back()
            if held is not None:
                return self._held_back(held)
        while never or self._is_late(slot_ms):  # again, where taking one took longer than it is away
            slot_ms, never = self._take_another_slot(), False
        now_ms = self._calls.world.steady_ms()
        self._start_ms = self._calls.world.wall_ms() + slot_ms - now_ms
        if self._calls.world.steady_ms() < slot_ms:
            self._slept = True
            return Retry(min(slot_ms, now_ms + LOOK_MS))
        self._left_ms, self._over = self._calls.world.steady_ms(), True
        self._calls.world.reach("call.leaving")
        return self._admitted

    def _is_late(self, slot_ms: int) -> bool:
        if self._calls.world.steady_ms() - slot_ms <= LATE_MS:
            return False
        again = self._reslots < RESLOTS and self._passage.probe is None
        return again and bool(self._calls.scope(self._asking.request).rates)

    def _held_back(self, held: Retry) -> Retry:
        """Its slot has come, and its service takes nothing: it keeps what it holds, up to its time to wait."""
        if self._calls.world.steady_ms() >= self._until_ms():
            raise self._timeout(Later(None, "rate", f"{self._asking.request.service}/{GATE}"))
        self._reslots = 0
        return Retry(min(held.at_ms, self._until_ms()))

    def _take_another_slot(self) -> int:
        self._calls.world.reach("call.late")
        self._admitted = persist(lambda: self._calls.limiter.reslot(self.id, owner=self.owner))
        self._reslots += 1
        return self._admitted.slot_ms - self._offset_ms()

    def _in_line(self, later: Later) -> Retry:
        """When to ask again. Errors: WaitTimeout once the time to wait has run out."""
        assert self._begun_ms is not None
        now_ms = self._calls.world.steady_ms()
        if now_ms >= self._until_ms():
            raise self._timeout(later)
        if not self._told and now_ms >= self._begun_ms + TELL_MS:
            self._told = True
            logger.warning("%s has waited %d s for %s", self.id, TELL_MS // 1000, self._waits_for(later))
        at_ms = self._asking.again_ms(later, self._soon().at_ms)
        return Retry(min(at_ms, self._until_ms(), FOREVER_MS if self._told else self._begun_ms + TELL_MS))

    def _until_ms(self) -> int:
        assert self._begun_ms is not None
        return FOREVER_MS if self._wait_ms is None else self._begun_ms + self._wait_ms

    def _offset_ms(self) -> int:
        return self._calls.limiter.database.offset_ms

    def _timeout(self, later: Later) -> WaitTimeout:
        return timed_out(
            self._asking.request.service, later, self._waits_for(later), self._wait_ms, now_ms=self._now_fleet_ms()
        )

    def _now_fleet_ms(self) -> int:
        return self._calls.world.steady_ms() + self._offset_ms()

    def _waits_for(self, later: Later) -> str:
        return obstacle(self._calls.limiter, self._asking.request.service, later, now_ms=self._now_fleet_ms())

    # -- the block -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._begun_ms is not None:
            raise self._entered_before()
        try:
            wait_for(self.attempt, sleeper=self._calls.sleeper, until_ms=FOREVER_MS)
        except BaseException:
            self.abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    def _entered_before(self) -> ConfigError:
        return ConfigError(f"{self.id} was entered before", hint="Make a new call for every use of a service.")

    def abandon(self) -> None:
        """The wait was broken off before the call could leave: give back what it holds, if it holds anything."""
        if self._left_ms is not None:
            return
        self._over = True
        self._asking.give_up()
        if self._asked:
            self._asked = False
            with contextlib.suppress(NotFound, StoreUnavailable):  # it had not landed; or its end is owed
                self._close(lambda: self._calls.limiter.release(self.id, owner=self.owner))

    def leave(self, error: BaseException | None) -> None:
        """The block has ended. A call that was settled or released stays so."""
        self._calls.world.reach("call.returned")
        limiter = self._calls.limiter
        if self._ended:
            self._closed()
        elif error is None:
            self._close(lambda: limiter.settle(self.id, owner=self.owner))
        elif proves_unsent(error):
            self._close(lambda: limiter.release(self.id, owner=self.owner))
        else:
            self._close(lambda: limiter.unknown(self.id, owner=self.owner))
        waited = self._slept or self._attempts > 1 + self._asking.has_let
        self._passage.ended(error, left_ms=self._left_ms or 0, waited=waited)

    def answered(self, status: int, headers: Mapping[str, str] | None = None, *, code: str = "") -> Verdict:
        """The provider's answer, for the fleet to heed: what it says of its limits, or that it cannot answer anybody.

        status: of HTTP. code: the provider's own name of an error. An SDK's error that leaves the block is read by itself.
        """
        verdict = self._passage.judge(status, headers or {}, code)
        self.hear(headers or {})
        self.judged(verdict, f"{status} {code}".strip())
        return verdict

    def hear(self, headers: Mapping[str, str], profile: str | None = None) -> bool:
        """What the headers of its answer say of limits is kept; whether the fleet has to be told, by `tell`.

        profile: of whom they are, where the service has a name of its own.
        """
        return self._passage.hear(headers, profile)

    def tell(self) -> None:
        """What was heard, as far as the fleet does not know it."""
        self._passage.tell()

    def judged(self, verdict: Verdict | None, reason: str) -> None:
        """verdict: None, the service could not be reached, or did not answer."""
        if self._left_ms is None:
            raise ConfigError(f"{self.id} has not left yet", hint="Nothing can have answered it.")
        if verdict is None:
            self._passage.failed(left_ms=self._left_ms, reason=reason)
        else:
            self._passage.answered(verdict, left_ms=self._left_ms, reason=reason)

    @property
    def probe(self) -> bool:
        """Whether it was let through while all others wait, to find out whether its service answers again."""
        return self._passage.probe is not None

    def _close(self, write: Callable[[], None]) -> None:
        self._over = True
        try:
            self._end(write)
        finally:
            self._closed()

    def _end(self, write: Callable[[], None]) -> None:
        try:
            self._calls.owed.end(self.id, write)
        except StoreUnavailable:
            self._ended = True  # it is owed: what comes after it, an estimate or a doubt, may not replace it
            raise
        self._ended = True

    def _closed(self) -> None:
        self._calls.beats.closed(self.id)
        if self._dropped is not None:
            self._dropped.detach()

    def settle(
        self,
        answer: object = None,
        *,
        money: str | Money | None = None,
        usage: object = None,
        **tokens: int,
    ) -> None:
        """What the call really cost: from the provider's answer, a usage, counts of tokens, or an amount of money.

        tokens: input_tokens, output_tokens, cache_read, cache_write_5m, cache_write_1h. What is not told stands at the
        estimate. Twice replaces; the last counts. Errors: ConfigError, NotFound.
        """
        if self._left_ms is None:
            raise ConfigError(f"{self.id} has not left yet", hint="Settle a call inside its block, or after it.")
        found = usage_from(tokens) if tokens else usage_of(answer if usage is None else usage)
        limits, service = self._calls.limiter.limits, self._asking.request.service
        micros = None if money is None else micros_of(money, limits)
        if micros is None and found is not None:
            model, at_ms = model_of(answer) or self._asking.request.model, self._calls.world.wall_ms()
            micros = spent_micros(service, model, found, limits, at_ms=at_ms)
        self._end(
            lambda: self._calls.limiter.settle(
                self.id,
                owner=self.owner,
                money=micros,
                tokens=None if found is None else found.total,
                used=None if found is None else metered(found, service),
            )
        )

    def decline(self) -> None:
        """The provider has answered that it did nothing: that costs nothing, but it was a request. Errors: NotFound."""
        limiter, used = self._calls.limiter, {dimension: 0 for dimension in DIMENSIONS if dimension != "requests"}
        self._end(lambda: limiter.settle(self.id, owner=self.owner, money=0, tokens=0, used=used))

    def release(self) -> None:
        """The call was certainly not sent: it costs nothing. Errors: ConfigError once it is settled."""
        if self._admitted is None:
            raise ConfigError(f"{self.id} was never admitted", hint="Release a call inside its block.")
        self._close(lambda: self._calls.limiter.release(self.id, owner=self.owner))

    # -- what there is to know -----------------------------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        """The model to use, once the block is entered: a cheaper one where the budget had no room for the one asked for."""
        return self._asking.request.model

    @property
    def instead_of(self) -> str | None:
        """The model that was asked for, where `model` takes its place; else None."""
        return self._asking.request.instead_of

    @property
    def eta(self) -> datetime | None:
        """When it will probably leave: its slot, or from its place in line. None: it waits for no rate."""
        if self._start_ms:
            return self.start_at
        at_ms = self._asking.expected_ms()
        return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, tz=UTC)

    @property
    def start_at(self) -> datetime:
        """The instant the call may leave, or left."""
        return datetime.fromtimestamp(self._start_ms / 1000, tz=UTC)

    @property
    def waited_ms(self) -> int:
        """How long the call was in line and waited for its slot."""
        return 0 if self._begun_ms is None or self._left_ms is None else self._left_ms - self._begun_ms
