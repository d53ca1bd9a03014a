"""What only Redis can do to a fleet: be unfit, go away, forget, and be looked after by somebody else than who called."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.redis.book import Book
from longwatch.admission.redis.memory import GRACE_MS
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import BudgetExceeded, ConfigError, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.calls import Caller, Calls
from longwatch.runtime.loop import Threads
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing.play import HandClock
from longwatch.testing.redis import Server

NUMBERS = count()
LATE_S = 0.3
TOLD_S = 5.0  # until somebody is told what is wrong with the engine
LIMITS = Limits(
    services={
        "api": Service("api", rates={"requests": Rate(10, 1_000, 10)}, concurrency=3),
        "brisk": Service("brisk", rates={"requests": Rate(10, 1_000, 10)}),
        "fast": Service("fast", rates={"requests": Rate(1_000, 1_000, 1_000)}),
        "free": Service("free", key_memory_ms=86_400_000),
    },
    budgets={"small": Budget("small", {"money": (Cap(1_000, "total"),)}, (0.5,))},
)


@dataclass
class Opened:
    clock: HandClock
    server: Server
    database: SqliteDatabase
    tag: str

    def limiter(self) -> RedisLimiter:
        """As another process of the fleet has it."""
        return RedisLimiter(
            self.database,
            Journal(self.database, Redactor(b"key")),
            LIMITS,
            link=Link(self.server.url, self.tag, timeout_s=1.0),
            clock=self.clock,
            new_token=lambda: f"generation-{next(NUMBERS)}",
            given=True,
        )

    def advance(self, ms: int) -> None:
        self.clock.steady += ms
        self.clock.wall += ms

    def spent(self) -> int:
        return self.limiter().peek().caps[0].spent


def opened(server: Server, path: Path) -> Opened:
    clock = HandClock()
    database = SqliteDatabase(str(path / "s.db"), clock)
    migrate(database)
    fleet.enter(database, clock, name="shop", redaction_key="00")
    return Opened(clock, server, database, f"test-{next(NUMBERS)}")


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[Opened]:
    made = opened(server, tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def frail(own_server: Server, tmp_path: Path) -> Iterator[Opened]:
    """On a server that the test may kill."""
    made = opened(own_server, tmp_path)
    yield made
    made.database.close()


def request(service: str = "free", *, money: int = 0, owner: str = "me", key: str | None = None) -> CallRequest:
    call = f"call_{next(NUMBERS):06}"
    return CallRequest(call, key or call, service, "agent", owner, budget="small", money=money)


# -- unfit and away --------------------------------------------------------------------------------------------------------


def told(url: str) -> Exception:
    begun = time.monotonic()
    with pytest.raises((StoreUnavailable, ConfigError)) as caught:
        Link(url, "t").renew()
    assert time.monotonic() - begun < TOLD_S
    return caught.value


def test_a_server_that_evicts_keys_is_refused() -> None:
    evicting = Server.start("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in str(told(evicting.url))
    finally:
        evicting.stop()


def test_a_replica_is_refused_and_its_primary_named() -> None:
    replica = Server.start("--replicaof", "127.0.0.1", "1")
    try:
        assert "127.0.0.1:1" in str(told(replica.url))
    finally:
        replica.stop()


def test_a_wrong_password_is_told_as_one() -> None:
    locked = Server.start("--requirepass", "right")
    try:
        for url in (locked.url, locked.url.replace("redis://", "redis://:wrong@")):
            error = told(url)
            assert "password" in str(error)
            assert "wrong" not in str(error).replace("invalid username-password pair or user is disabled", "")
            assert not getattr(error, "waits", True)
        Link(locked.url.replace("redis://", "redis://:right@"), "t").renew()
    finally:
        locked.stop()


@pytest.mark.parametrize(
    "url",
    ["redis://localhost:notaport", "redis://localhost/one", "redis://127.0.0.1:1", "redis://no.such.host.invalid"],
)
def test_an_address_with_nobody_behind_it_is_told_soon(url: str) -> None:
    assert str(told(url))


def test_a_server_that_does_not_answer_is_told_soon() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = told(f"redis://127.0.0.1:{silent.getsockname()[1]}")
    assert isinstance(error, StoreUnavailable)
    assert error.waits


@pytest.fixture
def calling(own_server: Server, tmp_path: Path) -> Iterator[tuple[RedisLimiter, Calls]]:
    """By the machine's own clock, and the server's."""
    world = Machine()
    database = SqliteDatabase(str(tmp_path / "s.db"), world)
    migrate(database)
    fleet.enter(database, world, name="shop", redaction_key="00")
    journal = Journal(database, Redactor(b"key"))
    link = Link(own_server.url, "calling", timeout_s=1.0)
    limiter = RedisLimiter(database, journal, LIMITS, link=link, clock=world, new_token=lambda: world.new_id("engine"))
    yield limiter, Calls(world, Threads(world.steady_ms), limiter)
    database.close()


ME = Caller("agent", "me", "small")


def test_a_call_waits_for_an_engine_that_is_away_as_long_as_it_may(
    own_server: Server, calling: tuple[RedisLimiter, Calls]
) -> None:
    _, calls = calling
    own_server.kill()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="away"), calls.call("free", caller=ME, wait_ms=300):
        pass
    assert 0.3 <= time.monotonic() - begun < 0.3 + TOLD_S


def test_an_answer_that_is_heard_late_makes_no_later_slot(
    calling: tuple[RedisLimiter, Calls], monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter, _ = calling
    for _ in range(5):
        assert isinstance(limiter.admit(uncapped()), Admitted)
    for way, asked in (("numbers", uncapped()), ("run", request("fast"))):
        monkeypatch.setattr(limiter.link, way, heard_late(getattr(limiter.link, way)))
        before_ms = Machine().steady_ms()
        found = limiter.admit(asked)
        now_ms = Machine().steady_ms()
        assert isinstance(found, Admitted)
        assert now_ms - before_ms >= LATE_S * 1000
        assert found.slot_ms <= now_ms + limiter.database.offset_ms - 0.8 * LATE_S * 1000


def uncapped() -> CallRequest:
    return msgspec.structs.replace(request("fast"), budget=None)


def heard_late(ask: Callable[..., Any]) -> Callable[..., Any]:
    def asked(*said: Any, **also: Any) -> Any:
        answer = ask(*said, **also)
        time.sleep(LATE_S)
        return answer

    return asked


def test_another_slot_does_not_wait_for_what_is_being_written(calling: tuple[RedisLimiter, Calls]) -> None:
    limiter, _ = calling
    asked = request("fast")
    limiter.admit(asked)
    found: list[Admitted] = []
    late = threading.Thread(target=lambda: found.append(limiter.reslot(asked.id, owner=asked.owner)))
    with limiter._records.writing:
        late.start()
        late.join(10)
        assert [one.id for one in found] == [asked.id]
        assert limiter.unwritten == 1
    limiter.flush()
    assert limiter.find(asked.id).slot_ms == found[0].slot_ms
    assert [entry.subject for entry in Journal(limiter.database, Redactor(b"key")).latest(kind="call.late")] == [
        asked.id
    ]


def test_a_call_goes_on_when_the_engine_is_back_and_settles_what_ended_meanwhile(
    own_server: Server, calling: tuple[RedisLimiter, Calls]
) -> None:
    limiter, calls = calling
    with calls.call("free", caller=ME, money="0.0001 USD") as first:
        limiter.flush()
        own_server.kill()  # and the block is left while nobody is there
    entered = threading.Thread(target=lambda: calls.call("free", caller=ME, wait_ms=30_000).__enter__())
    entered.start()
    own_server.launch()
    entered.join(30)
    assert not entered.is_alive()
    calls.owed.pay()
    assert limiter.find(first.id).phase == "settled"


# -- forgetting ----------------------------------------------------------------------------------------------------------


def restarted_empty(frail: Opened) -> None:
    frail.server.kill()
    frail.server.launch()


def test_meters_begin_spent_after_a_loss_of_memory(frail: Opened) -> None:
    limiter, latest_ms = frail.limiter(), 0
    while isinstance(answer := limiter.admit(request("brisk")), Admitted):
        latest_ms = answer.slot_ms
    restarted_empty(frail)
    assert isinstance(limiter.admit(request("brisk")), Later)
    frail.advance(GRACE_MS)
    answers = [limiter.admit(request("brisk")) for _ in range(20)]
    now_ms = frail.clock.steady + frail.database.offset_ms
    at_once = [answer for answer in answers if isinstance(answer, Admitted) and answer.slot_ms <= now_ms]
    assert 0 < len(at_once) <= (now_ms - latest_ms) * 10 // 1_000, "more than has refilled since the last slot given"


def test_open_calls_keep_their_places_over_a_loss_of_memory(frail: Opened) -> None:
    limiter = frail.limiter()
    kept = [request("api") for _ in range(3)]
    for each in kept:
        assert isinstance(limiter.admit(each), Admitted)
    limiter.flush()
    restarted_empty(frail)
    limiter.admit(request("api"))
    frail.advance(GRACE_MS + 10_000)
    answer = limiter.admit(request("api"))
    assert isinstance(answer, Later)
    assert answer.reason == "concurrency"
    limiter.settle(kept[0].id, owner="me")
    assert isinstance(limiter.admit(request("api")), Admitted)


def test_money_of_calls_that_nobody_wrote_down_counts_as_spent(frail: Opened) -> None:
    lost = frail.limiter()
    for _ in range(3):
        assert isinstance(lost.admit(request(money=300)), Admitted)
    restarted_empty(frail)  # and the process that knew of them is gone as well
    other = frail.limiter()
    other.admit(request(money=300))
    frail.advance(GRACE_MS)
    with pytest.raises(BudgetExceeded):
        other.admit(request(money=300))
    assert 900 <= frail.spent() <= 1_000
    assert other.journal.latest(kind="engine.forgot")
    assert other.journal.latest(kind="budget.parked")


# -- a task's own caps ---------------------------------------------------------------------------------------------------


def of_task(made: Opened, amount: int) -> str:
    task = f"task_{next(NUMBERS):06}"
    with made.database.transaction() as tx:
        tx.count("task_cap.keep", task=task, dimension="money", amount=amount)
    return task


def capped(task: str, money: int) -> CallRequest:
    call = f"call_{next(NUMBERS):06}"
    return CallRequest(call, call, "free", "agent", "me", task=task, money=money, capped=True)


def test_what_a_task_had_and_nobody_wrote_down_counts_as_spent_and_stays_so(frail: Opened) -> None:
    task, lost = of_task(frail, 1_000), frail.limiter()
    for _ in range(3):
        assert isinstance(lost.admit(capped(task, 300)), Admitted)
    restarted_empty(frail)
    other = frail.limiter()
    other.admit(capped(task, 300))
    frail.advance(GRACE_MS)
    with pytest.raises(BudgetExceeded):
        other.admit(capped(task, 300))
    other.task_caps.close_over()  # the task is known to nobody any more, but its purse is not in its calls
    (standing,) = other.task_caps.all(task)
    assert 900 <= standing.spent <= 1_000


def test_a_cap_that_another_process_lowers_or_raises_counts_here_at_once(shop: Opened) -> None:
    here, there, task = shop.limiter(), shop.limiter(), of_task(shop, 5_000)
    assert isinstance(here.admit(capped(task, 100)), Admitted)
    there.task_caps.move(task, {"money": 250}, by="ada")
    assert isinstance(here.admit(capped(task, 100)), Admitted)
    held_up = here.admit(capped(task, 100))
    assert isinstance(held_up, Later), "what others hold may come back"
    with pytest.raises(BudgetExceeded) as refused:
        here.admit(capped(task, 300))
    assert refused.value.cap == 250
    there.task_caps.move(task, {"money": 600}, by="ada")
    assert isinstance(here.admit(capped(task, 300)), Admitted)
    assert isinstance(here.admit(capped(task, 200)), Later)


def test_a_purse_that_is_closed_while_calls_of_it_go_on_is_opened_as_it_was(shop: Opened) -> None:
    here, there, task = shop.limiter(), shop.limiter(), of_task(shop, 500)
    kept, open_one = capped(task, 200), capped(task, 200)
    assert isinstance(here.admit(kept), Admitted)
    here.settle(kept.id, owner="me", money=150)  # not written down yet
    assert isinstance(here.admit(open_one), Admitted)
    assert there.task_caps.close_over() in (0, 1)
    assert isinstance(there.admit(capped(task, 200)), Later)
    assert isinstance(there.admit(capped(task, 150)), Admitted)
    here.settle(open_one.id, owner="me", money=200)
    here.flush()
    there.flush()
    (standing,) = here.task_caps.all(task)
    assert (standing.spent, standing.held) == (350, 150)


def test_what_every_process_wrote_down_is_not_parked_beyond_its_allotment(frail: Opened) -> None:
    limiter = frail.limiter()
    each = request(money=10)
    limiter.admit(each)
    limiter.settle(each.id, owner="me", money=10)
    limiter.flush()
    restarted_empty(frail)
    limiter.admit(request())
    frail.advance(GRACE_MS)
    limiter.admit(request())
    assert 10 <= frail.spent() <= 10 + 5 * 10


def test_what_is_written_down_late_is_not_spent_twice(frail: Opened) -> None:
    late, other = frail.limiter(), frail.limiter()
    ended, still_open = request(money=300), request(money=200)
    for each in (ended, still_open):
        assert isinstance(late.admit(each), Admitted)
    late.settle(ended.id, owner="me", money=300)
    restarted_empty(frail)
    other.admit(request())
    frail.advance(GRACE_MS)
    other.admit(request())
    before = frail.spent()
    assert before >= 500
    late.flush()  # it stood still for longer than the others waited
    cap = other.peek().caps[0]
    assert cap.spent + cap.held == before
    frail.advance(HOLD_MS)
    assert other.expire() >= 1
    assert other.find(still_open.id).phase == "unknown"
    assert other.peek().caps[0].spent == before


# -- somebody else's calls -----------------------------------------------------------------------------------------------


def test_calls_of_a_dead_process_are_found_in_redis_and_written_down(shop: Opened) -> None:
    dead, heir = shop.limiter(), shop.limiter()
    open_call, ended = request("api", money=100, owner="dead"), request(money=50, owner="dead")
    dead.admit(open_call)
    dead.admit(ended)
    dead.settle(ended.id, owner="dead", money=40)  # nothing of it is in the ledger
    assert heir.bury("dead") == 1
    assert (heir.find(open_call.id).phase, heir.find(ended.id).phase) == ("unknown", "settled")
    assert shop.spent() == 140


@pytest.mark.parametrize("written", [False, True], ids=["not a word of it", "its beginning"])
def test_what_a_call_cost_is_known_although_its_process_died_before_it_could_write_that_down(
    shop: Opened, written: bool
) -> None:
    dead, heir = shop.limiter(), shop.limiter()
    ended = request(money=50, owner="dead")
    dead.admit(ended)
    if written:
        dead.flush()
    dead.settle(ended.id, owner="dead", money=40)
    heir.bury("dead")
    found = heir.find(ended.id)
    assert (found.phase, found.money) == ("settled", 40)
    assert shop.spent() == 40
    with shop.database.read() as tx:
        told = [row.kind for row in tx.all("journal.latest", kind=None, agent=None, since_ms=None, limit=10)]
    assert sorted(told) == ["call.admitted", "call.settled"]


def test_whoever_writes_calls_down_waits_for_what_another_thread_is_writing(
    shop: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker that ends takes its last calls along: its writing thread dies with it, in the middle."""
    limiter, begun, go_on = shop.limiter(), threading.Event(), threading.Event()
    real = Book.write

    def slowly(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return real(*arguments)

    monkeypatch.setattr(Book, "write", slowly)
    asked = request(money=10)
    limiter.admit(asked)
    writer = threading.Thread(target=limiter.flush)
    writer.start()
    assert begun.wait(10)
    ended = threading.Thread(target=limiter.flush)
    ended.start()
    ended.join(0.1)
    assert ended.is_alive(), "it did not wait"
    go_on.set()
    ended.join(10)
    with shop.database.read() as tx:
        assert tx.one("call.by_id", id=asked.id) is not None
    writer.join(10)


def test_calls_of_a_silent_process_are_unknown_in_the_end(shop: Opened) -> None:
    silent, other = shop.limiter(), shop.limiter()
    each = request(money=100, owner="silent")
    silent.admit(each)
    shop.advance(HOLD_MS)
    assert other.expire() == 1
    assert other.find(each.id).phase == "unknown"
    silent.settle(each.id, owner="silent", money=30)  # it was only slow
    assert silent.find(each.id).money == 30
    assert shop.spent() == 30


def test_two_processes_together_never_pass_a_cap(shop: Opened) -> None:
    limiters, admitted = [shop.limiter(), shop.limiter()], 0
    with contextlib.suppress(BudgetExceeded):
        for limiter in limiters * 20:
            each = request(money=70)
            limiter.admit(each)
            limiter.settle(each.id, owner="me")
            admitted += 1
    for limiter in limiters:
        limiter.flush()
    assert admitted == 14
    assert shop.spent() == 980


def test_a_call_with_a_key_is_charged_once_over_two_processes(shop: Opened) -> None:
    one, other = shop.limiter(), shop.limiter()
    first, again = request(money=200, key="k"), request(money=200, key="k", owner="you")
    one.admit(first)
    one.settle(first.id, owner="me", money=200)
    other.admit(again)
    other.settle(again.id, owner="you", money=200)
    assert shop.spent() == 200
    assert isinstance(other.admit(request(money=800)), Admitted), "Redis has charged it twice"


def test_a_repeated_admission_changes_nothing(shop: Opened) -> None:
    limiter, each = shop.limiter(), request("api", money=100)
    first = limiter.admit(each)
    assert limiter.admit(each) == first
    assert limiter.peek().caps[0].held == 100


def test_a_call_whose_end_is_written_down_after_a_loss_of_memory_gives_its_place_back(frail: Opened) -> None:
    one, other = frail.limiter(), frail.limiter()
    calls = [request("api", money=100) for _ in range(3)]  # as many as may be open
    for each in calls:
        assert isinstance(one.admit(each), Admitted)
    one.flush()
    for each in calls:
        one.settle(each.id, owner="me", money=60)  # Redis knows it, and this process; nobody has written it down
    frail.server.kill()
    frail.server.launch()
    asked = request("api", owner="you")
    for _ in range(3):  # notices, waits until everybody could write down what he has, and fills it from the ledger
        assert isinstance(other.admit(asked), Later), "the ledger knows them as open"
        frail.advance(GRACE_MS + 100)
    one.flush()
    frail.advance(GRACE_MS)
    assert isinstance(other.admit(asked), Admitted)
    spent = frail.spent()
    assert spent >= 180, "the rest is parked: allotted, and written down by nobody"
    assert isinstance(other.admit(request(money=1_000 - spent, owner="you")), Admitted)
    assert isinstance(other.admit(request(money=1, owner="you")), Later), "the budget is used up"
