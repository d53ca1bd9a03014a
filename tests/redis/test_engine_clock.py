"""What the engine's clock needs added to read as the fleet's, of answers that are heard at any time after they were given."""

import random

import pytest

from longwatch.admission.redis.engine_clock import LASTS_MS, EngineClock

SHIFT_US = 1_700_000_000_123_456


def asked(clock: EngineClock, at_us: int, *, there_us: int, back_us: int, shift_us: int = SHIFT_US) -> int:
    """How far from the truth it is, after a question of at_us of the fleet's clock."""
    given_us = at_us + there_us
    heard_us = given_us + back_us
    found = clock.shift_us(given_us - shift_us, asked_ms=at_us // 1000, heard_ms=heard_us // 1000)
    return found - shift_us


@pytest.mark.parametrize("seed", range(20))
def test_it_is_never_less_than_it_is_and_hardly_more_than_the_soonest_heard_has_shown(seed: int) -> None:
    dice, clock, at_us = random.Random(seed), EngineClock(), 5_000_000_000
    backs: list[tuple[int, int]] = []
    for _ in range(500):
        back_us = int(dice.expovariate(1 / 50_000))
        at_us += dice.randrange(200_000)
        backs.append((at_us, back_us))
        wrong_us = asked(clock, at_us, there_us=dice.randrange(20_000), back_us=back_us)
        soonest_us = min(back for when, back in backs if at_us - when < LASTS_MS * 900)
        assert 0 <= wrong_us <= soonest_us + 1_000


@pytest.mark.parametrize("by_us", [-40_000_000, -300_000, 300_000, 40_000_000])
def test_a_clock_that_was_set_is_believed_at_once(by_us: int) -> None:
    clock, at_us = EngineClock(), 5_000_000_000
    for number in range(50):
        asked(clock, at_us + number * 1_000, there_us=200, back_us=200)
    wrong_us = asked(clock, at_us + 60_000, there_us=200, back_us=5_000, shift_us=SHIFT_US + by_us)
    assert 0 <= wrong_us <= 6_000


def test_clocks_that_drift_apart_are_followed() -> None:
    clock, drift = EngineClock(), 0
    for number in range(2_000):
        drift = number * 5  # 50 parts in a million, at ten questions a second
        wrong_us = asked(clock, 5_000_000_000 + number * 100_000, there_us=300, back_us=300, shift_us=SHIFT_US + drift)
        assert -2 * LASTS_MS * 1000 * 50e-6 - 1 <= wrong_us <= 1_300
    assert drift > 9_000
