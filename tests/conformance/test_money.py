"""What calls cost and tasks brought in, added up by the engine: the same to the micro-unit as one by one, by local days."""

import random
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
from engines import ENGINES

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.policy.limits import Cap, Limits, Service
from longwatch.policy.money import Money
from longwatch.policy.window import DAY_MS, HOUR_MS, LAST_MS, Span, local, spans, window_of, zone_of
from longwatch.store.money import BY, Earnings
from longwatch.store.moves import NewTask
from longwatch.surface.statement import Figures, added, drawn
from longwatch.testing.play import Play

MINUTE_MS = 60_000
LORD_HOWE = "Australia/Lord_Howe"  # half an hour on 4 October 2026, at 02:00 local
STARTS_MS = round(datetime(2026, 10, 2, 11, 7, 23, 500_000, tzinfo=UTC).timestamp() * 1000)
ALL = [Span(0, LAST_MS, 0)]
LIMITS = Limits(
    currency="GBP",
    exchange={"USD": 799_999},
    timezone=LORD_HOWE,
    fleet_money=(Cap(10**12, "day"), Cap(10**13, "total")),
    services={"bank": Service("bank", key_memory_ms=DAY_MS), "api": Service("api")},
)


@dataclass
class Books:
    """A fleet, and beside it a list of everything that took place: (names by BY, figures)."""

    play: Play
    seen: list[tuple[dict[str, str | None], Figures]] = field(
        default_factory=list[tuple[dict[str, str | None], Figures]]
    )

    def __post_init__(self) -> None:
        self.earnings = Earnings(self.play.database, self.play.journal)
        self.kinds: dict[str | None, str | None] = {None: None}
        for number, kind in enumerate(("pay", "mail", "pay")):
            task = NewTask(f"task_{number}", kind, "{}", agent="main")
            self.play.engine.tasks.submit([task])
            self.kinds[task.id] = kind

    @property
    def limiter(self) -> Limiter:
        found = self.play.engine.limiter
        assert isinstance(found, Limiter)
        return found

    def day(self) -> str:
        minute_ms = self.play.clock.wall // MINUTE_MS * MINUTE_MS
        return local(minute_ms, zone_of(LORD_HOWE)).date().isoformat()

    def call(self, numbers: random.Random, number: int) -> None:
        limiter, money = self.limiter, numbers.randrange(10**9)
        task = numbers.choice([*self.kinds])
        request = CallRequest(
            f"call_{number}",
            f"call_{number}",
            numbers.choice(("bank", "api")),
            numbers.choice(("seo", "biller")),
            "owner",
            model=numbers.choice((None, "m1")),
            budget=numbers.choice((None, "growth", "billing")),
            task=task,
            money=money,
            tokens=11,
        )
        assert isinstance(limiter.admit(request), Admitted)
        names = {"budget": request.budget, "agent": request.agent, "service": request.service, "model": request.model}
        figures = Figures(calls=1)
        match numbers.choice(("settle", "settle", "lose", "release", "open")):
            case "settle":
                limiter.settle(request.id, owner="owner", money=money // 3, tokens=5)
                figures = figures._replace(settled=money // 3, tokens=5)
            case "lose":
                limiter.unknown(request.id, owner="owner")
                figures = figures._replace(unknown=money, doubts=1, tokens=11)
            case "release":
                limiter.release(request.id, owner="owner")
                return
            case _:
                figures = figures._replace(held=money)
        self.seen.append((names | {"kind": self.kinds[task], "day": self.day()}, figures))

    def earn(self, numbers: random.Random, number: int) -> None:
        task, agent, budget = f"task_{number % 3}", numbers.choice(("seo", "biller")), numbers.choice((None, "growth"))
        amount = Money(numbers.randrange(-(10**6), 10**9), numbers.choice(("GBP", "USD", "USD")))
        earned = amount.micros if amount.currency == "GBP" else amount.micros * 799_999 // 10**6
        self.earnings.earn(f"{task}::{number}", amount, "", task=task, agent=agent, budget=budget)
        names: dict[str, str | None] = {"budget": budget, "agent": agent, "service": None, "model": None}
        day = local(self.play.clock.wall, zone_of(LORD_HOWE)).date().isoformat()
        self.seen.append((names | {"kind": self.kinds[task], "day": day}, Figures(earned=earned)))

    def expected(self, by: tuple[str, ...]) -> dict[tuple[str | None, ...], Figures]:
        found: dict[tuple[str | None, ...], list[Figures]] = defaultdict(list)
        for names, figures in self.seen:
            found[tuple(names[name] for name in by)].append(figures)
        return {place: added(figures) for place, figures in found.items()}

    def trade(self, seed: int, count: int) -> None:
        """Over four days, in which the clocks change."""
        numbers = random.Random(seed)
        for number in range(count):
            self.call(numbers, number)
            if number % 3 == 0:
                self.earn(numbers, number)
            step_ms = numbers.randrange(2 * 4 * DAY_MS // count)
            self.play.clock.wall += step_ms
            self.play.clock.steady += step_ms


@pytest.fixture(params=ENGINES)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Books]:
    play = Play(ENGINES[request.param](tmp_path), LIMITS)
    play.clock.wall = STARTS_MS
    play.clock.steady += STARTS_MS - play.now_ms()
    yield Books(play)
    play.close()


def test_by_whatever_is_asked_for_it_is_the_sum_of_what_took_place(books: Books) -> None:
    books.trade(seed=7, count=90)
    books.limiter.peek()
    zone = zone_of(LORD_HOWE)
    spread = spans(0, LAST_MS, zone, known_ms=books.play.clock.wall)
    whole = added(figures for _, figures in books.seen)
    assert whole.doubts, "seed 7 loses none"
    for size in range(1, len(BY) + 1):
        for by in combinations(BY, size):
            statement = drawn(books.earnings, by, spread, LIMITS)
            assert {row.names: row.figures for row in statement.rows} == books.expected(by), by
            assert statement.total == whole
            assert statement.apart == []
    days = {row.names[0] for row in drawn(books.earnings, ("day",), spread, LIMITS).rows}
    assert {"2026-10-03", "2026-10-04", "2026-10-05"} <= days


def test_the_total_is_what_the_purses_have_spent_and_hold(books: Books) -> None:
    books.trade(seed=8, count=60)
    caps = books.limiter.peek().caps
    windows = {cap.window: (cap.spent, cap.held) for cap in caps if cap.purse == "fleet"}
    whole = drawn(books.earnings, ("agent",), ALL, LIMITS).total
    assert (whole.spent, whole.held) == windows["total"]
    starts_ms, ends_ms = window_of(books.play.clock.wall, "day", zone_of(LORD_HOWE))
    today = drawn(books.earnings, ("day",), [Span(starts_ms, ends_ms, 11 * HOUR_MS)], LIMITS)
    assert (today.total.spent, today.total.held) == windows["day"]
    assert [row.names for row in today.rows] == [(books.day(),)]


def test_a_time_that_begins_within_a_quarter_of_an_hour_cuts_where_it_says(books: Books) -> None:
    books.trade(seed=9, count=12)
    books.limiter.peek()
    by_minute = {names["day"] for names, _ in books.seen}
    since_ms = STARTS_MS // MINUTE_MS * MINUTE_MS + MINUTE_MS  # after the first call, and after the first earning
    first = [figures for _, figures in books.seen[:2]]
    spread = spans(since_ms, LAST_MS, zone_of(LORD_HOWE), known_ms=books.play.clock.wall)
    statement = drawn(books.earnings, ("day",), spread, LIMITS)
    whole = added(figures for _, figures in books.seen)
    assert statement.total.calls == whole.calls - first[0].calls
    assert statement.total.earned == whole.earned - first[1].earned
    assert {row.names[0] for row in statement.rows} <= by_minute


def test_a_retry_that_earns_the_same_again_earns_it_once(books: Books) -> None:
    for amount, note in (
        ("12 GBP", "invoice"),
        ("12 GBP", "invoice"),
        ("11.50 GBP", "invoice"),
        ("11.50 GBP", "invoice"),
    ):
        books.earnings.earn("task_1::1", Money.parse(amount), note, task="task_1", agent="seo", budget=None)
    assert drawn(books.earnings, ("agent",), ALL, LIMITS).total.earned == 11_500_000
    assert [entry.data["micros"] for entry in books.play.journal.latest(kind="money.earned")] == [
        12_000_000,
        11_500_000,
    ]


def test_what_has_no_rate_is_shown_apart_and_never_dropped(books: Books) -> None:
    for number, amount in enumerate(("7 EUR", "0.000001 EUR", "5 GBP", "3 JPY")):
        books.earnings.earn(f"{number}", Money.parse(amount), "", task="task_1", agent="seo", budget=None)
    statement = drawn(books.earnings, ("agent",), ALL, LIMITS)
    assert statement.total.earned == 5_000_000
    apart = {(each.names, each.amount) for each in statement.apart}
    assert apart == {(("seo",), Money(7_000_001, "EUR")), (("seo",), Money(3_000_000, "JPY"))}


def test_earnings_of_a_foreign_currency_come_to_the_same_however_they_are_put_together(books: Books) -> None:
    for number in range(7):
        agent = ("seo", "biller")[number % 2]
        books.earnings.earn(f"{number}", Money(1, "USD"), "", task="task_1", agent=agent, budget=None)
        books.earnings.earn(f"x{number}", Money(3, "USD"), "", task="task_2", agent=agent, budget="growth")
    totals = {drawn(books.earnings, (name,), ALL, LIMITS).total.earned for name in BY}
    assert totals == {7 * (799_999 // 10**6) + 7 * (3 * 799_999 // 10**6)}


def test_an_open_call_that_is_lost_moves_from_held_to_unknown(books: Books) -> None:
    books.limiter.admit(CallRequest("call_1", "call_1", "api", "seo", "owner", money=5))
    books.limiter.peek()
    before = drawn(books.earnings, ("agent",), ALL, LIMITS).total
    books.play.clock.steady += HOLD_MS
    books.limiter.expire()
    after = drawn(books.earnings, ("agent",), ALL, LIMITS).total
    assert (before.held, before.unknown, after.held, after.unknown) == (5, 0, 0, 5)
