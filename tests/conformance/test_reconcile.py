"""A person says what calls cost whose outcome nobody knows: the same on every engine, once and for all, and told."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engines import ENGINES

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest, Word
from longwatch.admission.limiter import Limiter
from longwatch.errors import ConfigError, NotFound
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.runtime.reconcile import Finding, Line, reconcile
from longwatch.store.journal import Entry
from longwatch.testing.play import Play

LIMITS = Limits(
    services={"bank": Service("bank", key_memory_ms=24 * 3_600_000), "free": Service("free")},
    budgets={"small": Budget("small", {"money": (Cap(1_000_000, "month"),)})},
)


@dataclass
class Shop:
    play: Play

    @property
    def limiter(self) -> Limiter:
        found = self.play.engine.limiter
        assert isinstance(found, Limiter)
        return found

    def call(self, name: str, *, key: str | None = None, service: str = "free", money: int = 200) -> str:
        request = CallRequest(
            f"call_{name}", key or f"call_{name}", service, "seo", "owner", budget="small", task="task_1", money=money
        )
        assert isinstance(self.limiter.admit(request), Admitted)
        return request.id

    def lost(self, name: str, *, key: str | None = None, service: str = "free", money: int = 200) -> str:
        """A call whose process was killed between hold and settle."""
        call = self.call(name, key=key, service=service, money=money)
        self.play.clock.steady += HOLD_MS
        self.play.clock.wall += HOLD_MS
        assert self.limiter.expire() == 1
        return call

    def spent(self) -> tuple[int, int]:
        (cap,) = self.limiter.peek().caps
        return cap.spent, cap.held

    def say(self, name: str, money: int | None, *, correct: bool = False, dry: bool = False) -> Finding:
        return reconcile(self.limiter, Line(name, money, "bill.csv:2"), by="ada", correct=correct, dry=dry)

    def told(self) -> list[Entry]:
        self.limiter.flush()
        return self.play.journal.latest(kind="call.reconciled")


@pytest.fixture(params=ENGINES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Shop]:
    play = Play(ENGINES[request.param](tmp_path), LIMITS)
    yield Shop(play)
    play.close()


def test_a_lost_call_is_charged_at_its_hold_until_somebody_says_what_it_cost(shop: Shop) -> None:
    call = shop.lost("a")
    assert shop.spent() == (200, 0)
    assert shop.say(call, 120).outcome == "reconciled"
    assert shop.spent() == (120, 0)
    (entry,) = shop.told()
    assert (entry.subject, entry.agent, entry.task) == (call, "seo", "task_1")
    assert entry.data == {"by": "ada", "note": "bill.csv:2", "before": 200, "state": "unknown", "money": 120}
    assert [doubt.id for doubt in shop.limiter.doubts()] == []


def test_saying_it_twice_does_no_harm_and_is_told_once(shop: Shop) -> None:
    call = shop.lost("a")
    assert [shop.say(call, 120).outcome for _ in range(3)] == ["reconciled", "same", "same"]
    assert shop.spent() == (120, 0)
    assert len(shop.told()) == 1


def test_a_call_that_was_never_sent_costs_nothing(shop: Shop) -> None:
    call = shop.lost("a")
    assert shop.say(call, None).outcome == "reconciled"
    assert shop.spent() == (0, 0)
    assert shop.limiter.find(call).phase == "released"
    assert shop.say(call, None).outcome == "same"
    assert shop.say(call, 50).outcome == "differs"
    assert shop.say(call, 50, correct=True).outcome == "corrected"
    assert shop.spent() == (50, 0)


def test_what_is_settled_stays_unless_it_is_to_be_corrected(shop: Shop) -> None:
    call = shop.call("a")
    shop.limiter.settle(call, owner="owner", money=180, tokens=7)
    shop.limiter.flush()
    found = shop.say(call, 150)
    assert (found.outcome, found.before, found.after) == ("differs", 180, 180)
    assert shop.say(call, None).outcome == "differs"
    assert shop.say(call, 180).outcome == "same"
    assert (shop.spent(), shop.told()) == ((180, 0), [])
    found = shop.say(call, 150, correct=True)
    assert (found.outcome, found.before, found.after) == ("corrected", 180, 150)
    assert (shop.spent(), shop.limiter.find(call).tokens) == ((150, 0), 7)
    assert shop.told()[0].data["before"] == 180


def test_an_open_call_is_its_owners_affair(shop: Shop) -> None:
    call = shop.call("a")
    shop.limiter.flush()
    assert shop.say(call, 120, correct=True).outcome == "open"
    assert shop.say(call, None).outcome == "open"
    assert shop.spent() == (0, 200)
    shop.limiter.settle(call, owner="owner", money=90)
    assert shop.spent() == (90, 0)


def test_a_late_settlement_by_the_owner_still_counts(shop: Shop) -> None:
    call = shop.lost("a")
    shop.say(call, 120)
    shop.limiter.settle(call, owner="owner", money=90)
    assert shop.spent() == (90, 0)


def test_a_dry_run_changes_nothing(shop: Shop) -> None:
    call = shop.lost("a")
    found = shop.say(call, 120, dry=True)
    assert (found.outcome, found.before, found.after) == ("reconciled", 200, 120)
    assert (shop.spent(), shop.told()) == ((200, 0), [])


def test_a_lost_call_and_its_repetition_are_one_effect_with_one_cost(shop: Shop) -> None:
    calls = [shop.lost(name, key="invoice-1", service="bank") for name in ("a", "b", "c")]
    assert shop.spent() == (200, 0)
    found = shop.say("invoice-1", 120)
    assert (found.outcome, set(found.calls), found.before, found.after) == ("reconciled", set(calls), 200, 120)
    assert shop.spent() == (120, 0)
    assert shop.limiter.doubts() == []
    assert shop.say("invoice-1", 120).outcome == "same"
    assert shop.say("invoice-1", 130).outcome == "differs"
    assert shop.say("invoice-1", 130, correct=True).outcome == "corrected"
    assert shop.spent() == (130, 0)
    assert shop.say("invoice-1", 0, correct=True).outcome == "corrected"
    assert shop.spent() == (0, 0)


def test_a_lost_call_whose_repetition_was_settled_costs_nothing_more(shop: Shop) -> None:
    shop.lost("a", key="invoice-1", service="bank")
    again = shop.call("b", key="invoice-1", service="bank")
    shop.limiter.settle(again, owner="owner", money=150)
    assert shop.spent() == (150, 0)
    assert shop.say("invoice-1", 120).outcome == "differs"
    assert shop.say("invoice-1", 150).outcome == "reconciled"
    assert (shop.spent(), shop.limiter.doubts()) == ((150, 0), [])
    assert shop.say("invoice-1", 150).outcome == "same"


def test_calls_with_one_key_that_are_each_billed_have_to_be_named_by_id(shop: Shop) -> None:
    calls = [shop.lost(name, key="invoice-1") for name in ("a", "b")]
    found = shop.say("invoice-1", 120, correct=True)
    assert (found.outcome, found.calls) == ("ambiguous", tuple(calls))
    assert shop.spent() == (400, 0)
    assert [shop.say(call, 120).outcome for call in calls] == ["reconciled", "reconciled"]
    assert shop.spent() == (240, 0)


def test_a_key_that_nobody_knows_is_said_to_be_missing(shop: Shop) -> None:
    assert shop.say("invoice-none", 120).outcome == "missing"
    with pytest.raises(NotFound):
        shop.limiter.reconcile("call_none", Word(1, "ada"))


@pytest.mark.parametrize("money", [-1, 10**16])
def test_an_amount_that_cannot_be_changes_nothing(shop: Shop, money: int) -> None:
    call = shop.lost("a")
    with pytest.raises(ConfigError):
        shop.limiter.reconcile(call, Word(money, "ada"))
    assert (shop.spent(), shop.told()) == ((200, 0), [])


def test_more_than_was_held_is_charged_whole(shop: Shop) -> None:
    call = shop.lost("a", money=900_000)
    assert shop.say(call, 1_500_000).outcome == "reconciled"
    assert shop.spent() == (1_500_000, 0)
    assert [entry.subject for entry in shop.play.journal.latest(kind="budget.broken")] == ["budget:small"]
