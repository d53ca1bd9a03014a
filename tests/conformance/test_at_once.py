"""What the server decides by itself is what the policy decides: the same calls, one by one, on both; and faults planted in
the server's statements are found by it."""

import random
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from engines import Dropped, in_memory

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.admission.postgres import PostgresLimiter
from longwatch.db import statements
from longwatch.db.connection import Database
from longwatch.db.postgres import dialect
from longwatch.errors import LongwatchError
from longwatch.policy.aside import Want
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.store.moves import NewTask
from longwatch.store.tasks import Tasks
from longwatch.testing.play import HandClock
from longwatch.testing.postgres import shared

ADMIT, SETTLE = "call.admit_at_once", "call.settle_at_once"
RATES = {"requests": Rate(7, 3_000, 7), "input_tokens": Rate(1_100, 3_000, 3_000)}
LIMITS = Limits(
    fleet_money=(Cap(30_000, "hour"),),
    services={"api": Service("api", rates=RATES, concurrency=4, quota=Cap(60, "hour"))},
    budgets={"growth": Budget("growth", {"money": (Cap(14_000, "day"),)}, (0.5, 1.0))},
    agents={"seo": Budget("seo", {"tokens": (Cap(20_000, "hour"),)}, (0.9,))},
)
FAULTS = [
    ("what is held is forgotten", ADMIT, "'budget:' || budget)", "'budgets:' || budget)"),
    ("one call too many", ADMIT, ">= cast(:most as bigint)", "> cast(:most as bigint)"),
    ("a reservation is rounded down", ADMIT, "* per_us + amount - 1", "* per_us"),
    ("no horizon", ADMIT, ":now_ms * 1000 + :horizon_us", ":now_ms * 1000 + 1000 * :horizon_us"),
    ("a call gets a slot it cannot use", ADMIT, "at_us > greatest(:until_us", "at_us < greatest(:until_us"),
    ("calls of a burst leave at one instant", ADMIT, "max(last_us + apart_us)", "max(0 * last_us)"),
    (
        "whoever cannot wait is kept apart too",
        ADMIT,
        "later_us <= greatest(:until_us,",
        "later_us > least(0, :until_us,",
    ),
    ("a slower meter's slot is kept apart from", ADMIT, "20 * (last_us - :now_ms * 1000) <=", "0 * last_us <="),
    ("another limit is in the way", ADMIT, "where at_us = coalesce", "where at_us >= coalesce"),
    ("a repetition waits for its own slot", ADMIT, "from call where id = :id)", "from call where 1 = 0)"),
    ("the burst is no burst", ADMIT, "greatest(0, burst - weight)", "greatest(0, 0 * burst - weight)"),
    ("what was not used is not given back", SETTLE, "free_us - cast(div", "free_us - 0 * cast(div"),
    ("more is given back than is there", SETTLE, "cast(total - total_then as numeric)", "cast(0 * total as numeric)"),
    ("what was used beyond is not counted", SETTLE, "total + greatest(0, used - reserved)", "total + 0 * used"),
    ("what was used beyond is no debt", SETTLE, "cast(used - reserved as numeric)", "cast(0 * used as numeric)"),
    ("what is set aside is anybody's", ADMIT, "from aside where ended_ms is null", "from aside where 1 = 0"),
    ("more is drawn than is left", ADMIT, "least(given.need,", "least(given.need, 1000000 *"),
    ("a call draws nothing", ADMIT, "used_money = used_money + :money", "used_money = used_money + 0 * :money"),
    ("a call draws on another account", ADMIT, "agent = :agent and", "cast(:agent as text) is not null and"),
    ("what is left over never comes back", SETTLE, "+ it.money - it.held_money", "+ 0 * it.money"),
    ("nobody is warned", SETTLE, "charged.settled >= mark.amount", "charged.settled < 0"),
    ("another one settles it", SETTLE, "owner = :owner and", "cast(:owner as text) is not null and"),
    (
        "a settled call is charged elsewhere",
        SETTLE,
        "ends_ms > it.calendar_ms",
        "ends_ms > it.calendar_ms + 1e14",
    ),
]


class Side:
    """One of the two: a fleet of its own, under the same clock."""

    def __init__(self, database: Database, clock: HandClock, make: "type[Limiter] | type[PostgresLimiter]") -> None:
        fleet.enter(database, clock, name="shop", redaction_key="00")
        self.database, self.journal = database, Journal(database, Redactor(b"key"))
        self.limiter = make(database, self.journal, LIMITS)  # type: ignore[arg-type]
        self._told = 0
        earmark = self.limiter.asides.earmark([Want("api", None, "growth", "seo", 4_000, 20, 2_000)])
        item = NewTask("task_1", "none", "{}", "seo")
        Tasks(database, self.journal).submit([item], batch=("batch_1", "batch_1", ""), earmark=earmark)

    def answer(self, act: str, **given: object) -> object:
        try:
            return getattr(self.limiter, act)(*given.pop("with", ()), **given)  # type: ignore[misc]
        except LongwatchError as error:
            return type(error), str(error)

    def seen(self) -> object:
        """Everything that there is to see, and what was recorded since it was last asked, in no order."""
        with self.database.read() as tx:
            meters = [tuple(row) for row in tx.all("meter.every")]
        entries = self.journal.after(self._told)
        self._told = max((entry.seq for entry in entries), default=self._told)
        records = sorted(
            f"{entry.kind} {entry.subject} {entry.agent} {sorted(entry.data.items())}" for entry in entries
        )
        return self.limiter.peek(), meters, self.limiter.open_calls(), self.limiter.asides.all(), records


def asked(draw: random.Random, number: int, now_ms: int) -> CallRequest:
    weights = {"requests": draw.choice((1, 1, 2)), "input_tokens": draw.choice((1, 90, 300, 2_500))}
    money, tokens, wait = draw.choice((0, 300, 2_100)), draw.choice((0, 400)), draw.choice((None, None, 0, 900))
    until_ms = None if wait is None else now_ms + wait
    return CallRequest(
        id=f"call_{number}",
        key=f"call_{number}",
        service="api",
        agent=draw.choice(("seo", "main")),
        owner=draw.choice(("ann", "bob")),
        budget=draw.choice((None, "growth")),
        batch=draw.choice((None, "batch_1")),
        weights=weights,
        money=money,
        tokens=tokens,
        until_ms=until_ms,
    )


def first_difference(seed: int, acts: int) -> str:
    """Of the two sides in one history; empty, there is none."""
    draw, clock, server = random.Random(seed), HandClock(), shared()
    on_server = Dropped(server.new_database(), Machine(), clock=clock)
    local, remote = Side(in_memory(clock), clock, Limiter), Side(on_server, clock, PostgresLimiter)
    open_calls: list[CallRequest] = []
    try:
        for number in range(acts):
            step_ms = draw.choice((0, 0, 1, 40, 700, 2_500, 9_000))
            clock.steady, clock.wall = clock.steady + step_ms, clock.wall + step_ms
            if open_calls and draw.random() < 0.5:
                call = draw.choice(open_calls)
                owner = draw.choice((call.owner, call.owner, call.owner, "eve"))
                open_calls = [each for each in open_calls if each != call or owner == "eve"]
                used = {"input_tokens": draw.choice((1, 50, 90, 800, 4_000)), "requests": draw.choice((1, 2))}
                given = {
                    "with": (call.id,),
                    "owner": owner,
                    "money": draw.choice((None, 0, 250, 2_600)),
                    "tokens": draw.choice((None, 10, 900)),
                    "used": draw.choice((None, {}, used)),
                }
                told = f"settle {given}"
                here, there = local.answer("settle", **dict(given)), remote.answer("settle", **dict(given))
            else:
                again = open_calls and draw.random() < 0.2
                call = draw.choice(open_calls) if again else asked(draw, number, clock.steady)
                told = f"admit {call}"
                here, there = local.answer("admit", **{"with": (call,)}), remote.answer("admit", **{"with": (call,)})
                if isinstance(here, Admitted) and call not in open_calls:
                    open_calls.append(call)
            if here != there:
                return f"act {number}, {told}: {here} and {there}"
            if local.seen() != remote.seen():
                return f"act {number}, {told}: afterwards {local.seen()} and {remote.seen()}"
        return ""
    finally:
        local.database.close()
        on_server.close()


@contextmanager
def planted(statement: str, right: str, wrong: str) -> Generator[None]:
    texts = statements.load("postgres")
    before = texts[statement]
    assert right in before, f"{statement} does not say {right!r}"
    texts[statement] = before.replace(right, wrong)
    dialect.load.cache_clear()
    try:
        yield
    finally:
        texts[statement] = before
        dialect.load.cache_clear()


@pytest.mark.parametrize("seed", range(8))
def test_the_server_decides_as_the_policy_does(seed: int) -> None:
    assert first_difference(seed, acts=120) == ""


@pytest.mark.parametrize(("statement", "right", "wrong"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_in_a_decision_of_the_server_is_found(statement: str, right: str, wrong: str) -> None:
    with planted(statement, right, wrong):
        assert any(first_difference(seed, acts=120) for seed in range(12))
