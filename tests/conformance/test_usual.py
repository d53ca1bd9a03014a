"""Calls that nothing but rates limits are decided by Redis in few words, and as they are by the state: the same calls, one by
one, on both, while limits come and go, clocks move on and processes die; and faults planted in the script are found by it."""

import random
from collections.abc import Sequence
from itertools import count

import pytest
from engines import in_memory

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.redis.link import SCRIPT
from longwatch.errors import LongwatchError
from longwatch.policy.limits import Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing import redis
from longwatch.testing.play import HandClock

NUMBERS = count()
RATES = {"requests": Rate(7, 3_000, 9), "input_tokens": Rate(1_100, 3_000, 3_000)}
FREE = Service("api", rates=RATES)
SERVICES = (  # what the limits of the service are, one after the other; usual is only the first, and the last
    FREE,
    Service("api", rates=RATES, quota=Cap(40, "hour")),
    Service("api", rates=RATES, concurrency=3),
    Service("api", rates={"requests": Rate(11, 2_000, 8)}),
)
ACTS, HISTORIES = 120, 12
STEPS_MS = (0, 0, 1, 40, 700, 2_500, 9_000, 61_000)

FAULTS = {
    "a meter forgets the slot": ("max(found[place + 1], slot) + a", "found[place + 1] + a"),
    "the burst is no burst": ("slot, free - a[figures])", "slot, free)"),
    "a caller's patience is left out": ("if slot > now + patience then return 0 end", ""),
    "a weight is not counted": ("a[figures + 2] + a[figures + 3]", "a[figures + 2]"),
    "windows and places are passed over": ("do if purse then return 0 end end", "do end"),
    "a purse is not counted": ("all_purses = all_purses + more", ""),
    "a repeated call gets another slot": (
        "if call('HSETNX', KEYS[2], id, begins .. kept .. ends) == 0 then return 0 end",
        "call('HSET', KEYS[2], id, begins .. kept .. ends)",
    ),
    "a call is never due": ("first > 0 and first or due", "0"),
    "places begin at none": ("if c.s == 'open' and c.ps[#c.ps] == name then", "if false then"),
}


def limits(service: Service) -> Limits:
    return Limits(services={"api": service})


class Side:
    """A fleet of its own. limiters: of its processes, all of which know of the same calls."""

    def __init__(self, clock: HandClock, *, script: bytes | None) -> None:
        self.database = in_memory(clock)
        fleet.enter(self.database, clock, name="shop", redaction_key="00")
        self.journal, self._told = Journal(self.database, Redactor(b"key")), 0
        tag = f"usual-{next(NUMBERS)}"
        self.usual = 0  # calls that were decided in few words
        self.limiters: list[Limiter] = []
        for _ in range(2):
            if script is None:
                self.limiters.append(Limiter(self.database, self.journal, limits(FREE)))
                continue
            link = Link(redis.shared().url, tag, script=script)
            self._count(link)
            self.limiters.append(
                RedisLimiter(
                    self.database,
                    self.journal,
                    limits(FREE),
                    link=link,
                    clock=clock,
                    new_token=lambda: f"generation-{tag}",
                    given=True,
                )
            )

    def _count(self, link: Link) -> None:
        ask = link.numbers

        def counted(said: bytes, *, aside: bool) -> Sequence[float] | None:
            answer = ask(said, aside=aside)
            self.usual += answer is not None and len(answer) > 1
            return answer

        link.numbers = counted  # type: ignore[method-assign]

    def answer(self, process: int, act: str, *with_: object, **given: object) -> object:
        try:
            return getattr(self.limiters[process], act)(*with_, **given)
        except LongwatchError as error:
            return type(error), str(error)

    def adopt(self, service: Service) -> None:
        for limiter in self.limiters:
            limiter.adopt(limits(service), 0)

    def seen(self) -> object:
        """Everything that there is to see, and what was recorded since it was last asked, in no order."""
        for limiter in self.limiters:
            limiter.flush()
        standing, calls = self.limiters[0].peek(), self.limiters[0].open_calls()
        entries = self.journal.after(self._told, limit=1_000)
        self._told = max((entry.seq for entry in entries), default=self._told)
        records = [f"{entry.kind} {entry.subject} {entry.agent} {sorted(entry.data.items())}" for entry in entries]
        return standing, sorted(calls, key=lambda call: call.id), sorted(records)

    def close(self) -> None:
        for limiter in self.limiters:
            limiter.close()
        self.database.close()


def asked(draw: random.Random, number: int, now_ms: int) -> CallRequest:
    weights = draw.choice(
        ({"requests": 1}, {"requests": 1}, {"requests": 2, "input_tokens": 300}, {"input_tokens": 90})
    )
    wait = draw.choice((None, None, 0, 900))
    return CallRequest(
        id=f"call_{number}",
        key=f"call_{number}",
        service="api",
        agent=draw.choice(("seo", "main")),
        owner=draw.choice(("ann", "bob")),
        weights=weights,
        money=draw.choice((0, 0, 70)),
        until_ms=None if wait is None else now_ms + wait,
    )


def ended(side: Side) -> set[str]:
    """Calls of which only the process that made them knows."""
    side.limiters[0].flush()
    side.limiters[1].flush()
    return {
        entry.subject
        for entry in side.journal.after(0, limit=10_000)
        if entry.kind not in ("call.admitted", "call.late")
    }


def first_difference(seed: int, script: bytes = SCRIPT) -> tuple[str, int]:
    """Of the two sides in one history, empty when there is none; and how many calls were decided in few words."""
    draw, clock = random.Random(seed), HandClock()
    state, engine = Side(clock, script=None), Side(clock, script=script)
    calls: list[CallRequest] = []
    homes: dict[str, int] = {}  # where each was asked for first: once it has ended, no other process knows of it
    try:
        for number in range(ACTS):
            step_ms = draw.choice((*STEPS_MS, HOLD_MS + 1) if draw.random() < 0.1 else STEPS_MS)
            clock.steady, clock.wall = clock.steady + step_ms, clock.wall + step_ms
            process, chance = draw.choice((0, 0, 0, 1)), draw.random()
            call = draw.choice(calls) if calls else asked(draw, number, clock.steady)
            act: tuple[object, ...] = "admit", call
            given: dict[str, object] = {}
            if chance < 0.05:
                service = draw.choice(SERVICES)
                state.adopt(service)
                engine.adopt(service)
                continue
            if chance < 0.1:
                act = (draw.choice(("expire",)),)
            elif chance < 0.15:
                act = draw.choice(("beat", "bury")), draw.choice(("ann", "bob"))
            elif chance < 0.35:
                act, given = (draw.choice(("settle", "release", "unknown")), call.id), {"owner": call.owner}
            elif chance < 0.9:
                act = "admit", (call := asked(draw, number, clock.steady))
            if act[0] == "admit":
                process = homes.setdefault(call.id, process)
            told = f"seed {seed}, act {number} of process {process}: {act}"
            here = state.answer(process, str(act[0]), *act[1:], **given)
            there = engine.answer(process, str(act[0]), *act[1:], **given)
            if isinstance(here, Admitted) and act[0] == "admit":
                calls.append(call)
                again = engine.answer(1 - process, "admit", call) if call.id not in ended(engine) else here
                if again != here:
                    return f"{told}: {again} when another process repeated it", engine.usual
            if here != there:
                return f"{told}: {here} and {there}", engine.usual
            if (seen := state.seen()) != (other := engine.seen()):
                return f"{told}: afterwards {seen} and {other}", engine.usual
        return "", engine.usual
    finally:
        state.close()
        engine.close()


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_what_is_decided_in_few_words_is_decided_as_by_the_state(seed: int) -> None:
    assert first_difference(seed)[0] == ""


def test_calls_that_only_rates_limit_are_decided_in_few_words() -> None:
    assert sum(first_difference(seed)[1] for seed in range(3)) > 3 * ACTS // 8


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_decision_in_few_words_is_found(name: str) -> None:
    right, wrong = FAULTS[name]
    text = SCRIPT.decode()
    assert text.count(right) == 1, name
    script = text.replace(right, wrong).encode()
    assert any(first_difference(seed, script)[0] for seed in range(2 * HISTORIES)), f"{name}: not found"
