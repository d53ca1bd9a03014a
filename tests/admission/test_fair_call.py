"""A call of a process that has had more than its share of a burst lets others go first, where that does it no harm."""

from collections.abc import Generator
from pathlib import Path

import pytest
from call_fleet import ME, OTHER, Opened, open_fleet

from longwatch.admission.calls import Admitted
from longwatch.policy.limits import Rate
from longwatch.policy.meter import usable_burst
from longwatch.runtime.call import Call
from longwatch.runtime.loop import Retry

BURST = usable_burst(Rate(50, 1_000, 50))  # of "api"
APART = 3  # ms
REFILLED = APART * (BURST - 1) // 20  # while the burst left
WAITING = 10  # calls of others
WAITED = 20 * (REFILLED + WAITING + 1) - APART * (BURST - 1)


@pytest.fixture
def fleet(tmp_path: Path) -> Generator[Opened]:
    """This process has had all of the burst and waits for one more slot, behind ten calls of others."""
    opened = open_fleet(tmp_path / "s.db")
    for _ in range(BURST):
        with opened.calls.call("api", caller=ME) as call:
            assert call.waited_ms <= APART
    others(opened, REFILLED + WAITING)
    with opened.calls.call("api", caller=ME) as call:
        assert call.waited_ms == WAITED
    yield opened
    opened.database.close()


def others(fleet: Opened, number: int) -> list[int]:
    """The slots of as many calls of another process."""
    found: list[Admitted] = []
    for _ in range(number):
        found.append(fleet.admit(fleet.request("api", owner=OTHER.owner)))
        fleet.limiter.settle(found[-1].id, owner=OTHER.owner)
    return [one.slot_ms for one in found]


def asked(fleet: Opened, **given: object) -> Call:
    call = fleet.calls.call("api", caller=ME, **given)  # type: ignore[arg-type]
    fleet.kept.append(call)
    return call


def test_it_asks_for_no_slot_and_others_have_theirs_first(fleet: Opened) -> None:
    call, begun_ms = asked(fleet), fleet.hand.steady
    answer = call.attempt()
    assert isinstance(answer, Retry)
    assert answer.at_ms - begun_ms == 1_500
    assert [one.id for one in fleet.limiter.open_calls() if one.owner == ME.owner] == []
    assert max(others(fleet, 5)) - fleet.database.offset_ms < answer.at_ms
    fleet.hand.advance(1_500)
    assert isinstance(call.attempt(), Admitted)
    assert call.waited_ms == 1_500


def test_a_call_of_a_run_that_has_long_to_go_lets_others_go_first_too(fleet: Opened) -> None:
    with asked(fleet, wait_ms=600_000) as call:
        assert call.waited_ms == 1_500


def test_it_tells_when_it_will_leave(fleet: Opened) -> None:
    call = asked(fleet)
    call.attempt()
    assert call.eta is not None
    assert call.eta.timestamp() * 1000 == fleet.hand.wall + 1_500 + WAITED


def test_once_it_has_let_them_go_it_does_so_no_more(fleet: Opened) -> None:
    with asked(fleet) as first:
        assert first.waited_ms == 1_500
    others(fleet, BURST + WAITING)
    with asked(fleet) as second:
        assert 0 < second.waited_ms < 1_500


@pytest.mark.parametrize("given", [{"lane": "urgent"}, {"wait_ms": 29_000}])
def test_who_is_in_a_hurry_asks_at_once(fleet: Opened, given: dict[str, object]) -> None:
    with asked(fleet, **given) as call:
        assert call.waited_ms == 20


def test_other_services_are_not_its_concern(fleet: Opened) -> None:
    assert isinstance(fleet.calls.call("brisk", caller=ME).attempt(), Admitted)
