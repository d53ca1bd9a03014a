"""Faults that somebody could make in the share: each of them has to break a limit, or the record, in a random program."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from test_away_programs import Shop, expires_what_nobody_ends, keeps_every_limit, opened

from longwatch.admission import share
from longwatch.admission.redis import memory
from longwatch.admission.redis.away import GoingOn
from longwatch.policy import away
from longwatch.policy.away import Parts, parts_of, places_of
from longwatch.policy.limits import Rate
from longwatch.testing.mutants import replaced, reworded
from longwatch.testing.redis import Server

SEEDS = range(1_000, 1_012)


def _nothing_untold(*_: object, **__: object) -> tuple[int, int]:
    return 0, 0


def _as_it_is(purse: object, *_: object) -> object:
    return purse


def _nobodys(*_: object) -> bool:
    return False


def _all_places(most: int, percent: int) -> tuple[int, int]:
    return most, places_of(most, percent)[1]


def _whole_rate(rate: Rate, percent: int) -> Parts:
    return Parts(rate, parts_of(rate, percent).share)


Plant = Callable[[], contextlib.AbstractContextManager[None]]
FAULTS: dict[str, Plant] = {
    "calls of the share have no mark": lambda: reworded("away.mark", "away = 1", "away = 0"),
    "Redis is never told what the share spent": lambda: reworded("away.standing", "away from", "0 as away from"),
    "what the share spends is not counted apart": lambda: reworded(
        "away.charge", "set away = away +", "set away = away + 0 *"
    ),
    "what the share holds is not seen by Redis": lambda: replaced(memory, "untold", _nothing_untold),
    "places of the share are not counted": lambda: reworded("away.groups", "count(*) as places", "0 as places"),
    "what Redis was allotted is free": lambda: replaced(share, "_beside", _as_it_is),
    "Redis decides by the whole rate": lambda: replaced(away, "parts_of", _whole_rate),
    "Redis gives all places": lambda: replaced(away, "places_of", _all_places),
    "Redis is asked about everybody's call": lambda: replaced(GoingOn, "_is_own", _nobodys),
    "silent calls of the share stay open": lambda: reworded(
        "away.overdue", "until_ms <= :now_ms", "until_ms < 0 * :now_ms"
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_of_the_share_is_found(name: str, own_server: Server, tmp_path: Path) -> None:
    with FAULTS[name]():
        programs: list[Callable[[Shop], None]] = [expires_what_nobody_ends]
        programs += [partial(keeps_every_limit, seed=seed) for seed in SEEDS]
        found = any(fails(own_server, tmp_path / str(number), each) for number, each in enumerate(programs))
    assert found, f"not found in {len(SEEDS)} programs"


def fails(server: Server, folder: Path, program: Callable[[Shop], None]) -> bool:
    folder.mkdir()
    with opened(server, folder) as made:
        try:
            program(made)
        except Exception:  # noqa: BLE001  (any end but a good one is what was looked for)
            return True
    return False
