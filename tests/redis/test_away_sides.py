"""What goes on by the share while Redis is away: what is refused, what both sides know of each other, who is told."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

import longwatch
from longwatch.admission.calls import Admitted, CallRequest, Word
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.share import cut_off
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import BudgetExceeded, ConfigError, ServicePaused, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.difference import difference
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.doctor import examine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing.play import HandClock
from longwatch.testing.redis import Server

NUMBERS = count()
LIMITS = Limits(
    services={
        "api": Service("api", concurrency=10),
        "brisk": Service("brisk", rates={"requests": Rate(100, 1_000, 40)}),
        "single": Service("single", concurrency=1),
        "slow": Service("slow", rates={"requests": Rate(1, 1_000, 1)}),
        "free": Service("free", key_memory_ms=86_400_000),
    },
    budgets={"small": Budget("small", {"money": (Cap(1_000, "total"),)})},
    admission="redis",
    away=20,
)


class Shop:
    """near sees Redis; far sees it by a socket of its own, which can be taken away."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.clock, self.way = server, HandClock(), folder / "way.sock"
        self.database = SqliteDatabase(str(folder / "s.db"), self.clock)
        migrate(self.database)
        fleet.enter(self.database, self.clock, name="shop", redaction_key="00")
        self.tag = f"shop-{next(NUMBERS)}"
        self.near = self.limiter(server.url)
        self.mend()
        self.far = self.limiter(f"redis://{self.way}")
        self.ask(self.near)  # Redis is known from here on

    def limiter(self, url: str) -> RedisLimiter:
        journal = Journal(self.database, Redactor(b"key"))
        link, token = Link(url, self.tag, timeout_s=0.3), f"token-{next(NUMBERS)}"
        tokens = (f"{token}-{number}" for number in count())
        return RedisLimiter(
            self.database, journal, LIMITS, link=link, clock=self.clock, new_token=lambda: next(tokens), given=True
        )

    def cut(self) -> None:
        self.way.unlink()
        self.far.link.close()

    def mend(self) -> None:
        self.way.symlink_to(self.server.socket)

    def advance(self, ms: int) -> None:
        self.clock.steady += ms
        self.clock.wall += ms
        self.near.flush()
        self.far.flush()
        self.near.ask_again()
        self.far.ask_again()

    def ask(
        self, limiter: RedisLimiter, service: str = "free", *, money: int = 0, key: str | None = None, weight: int = 1
    ) -> Admitted | Later:
        call = f"call_{next(NUMBERS):06}"
        who = "near" if limiter is getattr(self, "near", limiter) else "far"
        request = CallRequest(call, key or call, service, "ann", who, budget="small", money=money)
        return limiter.admit(request if weight == 1 else with_weight(request, weight))

    def admitted(self, limiter: RedisLimiter, service: str = "free", **how: int) -> str:
        answer = self.ask(limiter, service, money=how.get("money", 0))
        assert isinstance(answer, Admitted)
        return answer.id

    def kinds(self) -> list[str]:
        entries = Journal(self.database, Redactor(b"key")).after(0, limit=999)
        return [entry.kind for entry in entries if entry.kind.startswith("engine.")]

    def spent(self) -> int:
        return self.near.peek().caps[0].spent


def with_weight(request: CallRequest, weight: int) -> CallRequest:
    return CallRequest(
        request.id, request.key, request.service, "ann", request.owner, budget="small", weights={"requests": weight}
    )


@pytest.fixture
def shop(own_server: Server, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(own_server, tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize(
    ("service", "limit"), [("single", "the concurrency of single, 1"), ("slow", "slow/requests, 1")]
)
def test_a_limit_that_is_too_small_waits_for_redis_and_says_so(shop: Shop, service: str, limit: str) -> None:
    shop.cut()
    with pytest.raises(StoreUnavailable, match="too small to be split") as caught:
        shop.ask(shop.far, service)
    assert limit in str(caught.value)
    assert caught.value.waits
    assert isinstance(shop.ask(shop.near, service), Admitted)


def test_a_call_of_a_task_with_caps_of_its_own_waits_for_redis(shop: Shop) -> None:
    shop.cut()
    request = CallRequest("call_t", "call_t", "free", "ann", "far", task="task_1", capped=True)
    with pytest.raises(StoreUnavailable, match="its task has caps of its own") as caught:
        shop.far.admit(request)
    assert caught.value.waits
    assert isinstance(shop.far.admit(replace(request, id="call_u", key="call_u", capped=False)), Admitted)


def test_a_call_heavier_than_the_share_waits_for_redis(shop: Shop) -> None:
    shop.cut()
    with pytest.raises(StoreUnavailable, match="share takes 20 at most"):
        shop.ask(shop.far, "brisk", weight=21)
    assert isinstance(shop.ask(shop.near, "brisk", weight=21), Admitted)


def test_what_redis_was_allotted_is_not_there_for_others(shop: Shop) -> None:
    shop.admitted(shop.near, money=100)
    shop.cut()
    with pytest.raises(StoreUnavailable, match="allotted to the engine"):
        shop.ask(shop.far, money=950)  # four times the need was allotted, and nobody has spent it
    assert isinstance(shop.ask(shop.far, money=450), Admitted)
    for _ in range(4):
        shop.admitted(shop.near, money=100)
    assert isinstance(shop.ask(shop.near, money=100), Later)  # what the far side holds may be given back
    with pytest.raises(BudgetExceeded):
        shop.ask(shop.near, money=1_100)


def test_what_the_far_side_gives_back_redis_may_have(shop: Shop) -> None:
    shop.cut()
    far = shop.admitted(shop.far, money=900)
    assert isinstance(shop.ask(shop.near, money=200), Later)
    shop.far.settle(far, owner="far", money=700)
    assert isinstance(shop.ask(shop.near, money=200), Admitted)
    with pytest.raises(BudgetExceeded) as caught:
        shop.ask(shop.near, money=301)
    assert (caught.value.spent, caught.value.held) == (700, 200)


def test_the_far_side_goes_back_and_both_are_told_of(shop: Shop) -> None:
    shop.cut()
    call = shop.admitted(shop.far, "api")
    assert shop.far.away
    assert [each.agent for each in cut_off(shop.database)] == ["ann"]
    shop.advance(2_000)
    assert shop.far.away
    shop.mend()
    shop.advance(600)
    assert not shop.far.away
    assert not cut_off(shop.database)
    assert shop.kinds() == ["engine.away", "engine.back"]
    with shop.database.read() as tx:
        assert tx.all("away.owned", owner="far", limit=9)[0].id == call
    shop.far.settle(call, owner="far")
    assert shop.near.find(call).phase == "settled"


def test_a_process_that_ends_meanwhile_goes_by_nothing_any_more(shop: Shop) -> None:
    shop.cut()
    shop.admitted(shop.far, "api")
    assert [each.owner for each in cut_off(shop.database)] == ["far"]
    shop.far.close()
    assert not cut_off(shop.database)
    assert shop.kinds() == ["engine.away"], "it never saw it again"


def test_places_are_split_and_a_redis_filled_again_counts_its_own(shop: Shop) -> None:
    shop.cut()
    for _ in range(2):
        shop.admitted(shop.far, "api")
    assert isinstance(shop.ask(shop.far, "api"), Later)
    shop.server.kill()
    shop.server.launch()
    shop.mend()
    for _ in range(4):
        shop.advance(1_000)
    assert (shop.far.away, shop.near.away) == (False, False)
    for _ in range(8):
        shop.admitted(shop.near, "api")
    assert isinstance(shop.ask(shop.near, "api"), Later)
    assert isinstance(shop.ask(shop.far, "api"), Later)


def test_a_call_that_redis_admitted_unheard_is_the_states_alone(shop: Shop) -> None:
    shop.ask(shop.far)
    os.kill(shop.server.process.pid, signal.SIGSTOP)
    call = shop.admitted(shop.far, "api", money=300)
    os.kill(shop.server.process.pid, signal.SIGCONT)
    shop.advance(1_000)
    assert not shop.far.away
    _, said, _ = shop.near._run("look", {"ids": True})
    assert call not in {id.decode() if isinstance(id, bytes) else id for id in said["ids"] or ()}
    for _ in range(8):
        shop.admitted(shop.near, "api")
    shop.far.settle(call, owner="far", money=200)
    assert shop.spent() == 200


def test_the_dead_are_buried_on_the_side_that_is_cut_off(shop: Shop) -> None:
    shop.cut()
    call = shop.admitted(shop.far, "api", money=300)
    shop.advance(10)
    assert shop.near.bury("far") == 1
    assert shop.near.find(call).phase == "unknown"
    assert not cut_off(shop.database)
    assert shop.near.reconcile(call, Word(120, "ann")) == "reconcile"
    assert shop.spent() == 120


def test_one_key_is_one_charge_on_both_sides(shop: Shop) -> None:
    first = shop.ask(shop.near, money=100, key="order-1")
    assert isinstance(first, Admitted)
    shop.near.settle(first.id, owner="near")
    shop.near.flush()
    shop.cut()
    again = shop.ask(shop.far, money=100, key="order-1")
    assert isinstance(again, Admitted)
    shop.far.settle(again.id, owner="far")
    assert shop.spent() == 100
    shop.mend()
    shop.advance(1_000)
    third = shop.ask(shop.near, money=100, key="order-1")
    assert isinstance(third, Admitted)
    shop.near.settle(third.id, owner="near")
    shop.near.flush()
    assert shop.spent() == 100


def test_a_gate_that_moves_on_one_side_holds_on_the_other(shop: Shop) -> None:
    shop.cut()
    shop.admitted(shop.far, "brisk")
    shop.far.gates.pause("brisk", "a person said so")
    shop.advance(1_100)
    for limiter in (shop.far, shop.near):
        with pytest.raises(ServicePaused, match="a person said so"):
            shop.ask(limiter, "brisk")
    shop.near.gates.resume("brisk")
    shop.advance(1_100)
    for limiter in (shop.far, shop.near):
        assert isinstance(shop.ask(limiter, "brisk"), Admitted | Later)


def test_what_remains_at_a_provider_holds_both_sides_back(shop: Shop) -> None:
    shop.admitted(shop.near, "brisk")
    shop.cut()
    shop.admitted(shop.far, "brisk")
    shop.near.hold_back({"brisk/requests": (shop.clock.steady + 5_000) * 1_000})
    assert isinstance(shop.ask(shop.near, "brisk"), Later)
    assert isinstance(shop.ask(shop.far, "brisk"), Later)


# -- a whole fleet -----------------------------------------------------------------------------------------------------------


def config(folder: Path, server: Server, away: str) -> dict[str, object]:
    shop = {"name": "shop", "state": str(folder / "s.db"), "admission": server.url} | ({"away": away} if away else {})
    return {"fleet": shop, "service": {"api": {"rate": "50/s", "burst": 20}}}


def test_a_fleet_is_opened_without_redis_and_says_what_it_goes_by(own_server: Server, tmp_path: Path) -> None:
    own_server.kill()
    with pytest.raises(StoreUnavailable):
        longwatch.open(config=config(tmp_path, own_server, ""))
    with longwatch.open(config=config(tmp_path, own_server, "10%"), agent="ann") as lw:
        with lw.call("api", wait="2s"):
            pass
        parts = lw.opened.parts
        assert [each.state for each in parts.calls.limiter.doubts(state="settled")] == ["settled"]
        found = {each.check: each for each in examine(parts, tmp_path / "s.db", lw.opened.settings.limits)}
        assert found["admission"].level == "notice"
        assert "10% of every limit" in found["admission"].message
        assert [each.agent for each in cut_off(parts.database)] == ["ann"]
        stand = parts.calls.limiter.peek()
        assert [(rate.meter, rate.amount, rate.per_ms, rate.burst) for rate in stand.rates + stand.shares] == [
            ("api/requests", 45, 1_000, 19),
            ("api/requests@away", 5, 1_000, 1),
        ]
        own_server.launch()


def test_another_share_is_refused_while_others_work(own_server: Server, tmp_path: Path) -> None:
    with longwatch.open(config=config(tmp_path, own_server, "10%")) as lw:
        mine = lw.opened.settings.limits
        lw.opened.parts.enrol("worker_1", "main")
        with pytest.raises(ConfigError, match="fleet away 10% -> 20%"):
            longwatch.open(config=config(tmp_path, own_server, "20%"))
        lw.opened.parts.dismiss("worker_1")
    with longwatch.open(config=config(tmp_path, own_server, "")) as lw:
        assert difference(mine, lw.opened.settings.limits) == ["fleet away 10% -> none"]
