"""When segments are closed, and which of them go."""

import pytest

from longwatch.policy.retention import Close, Drop, Facts, Kept, Rules, closing, dropping

WEEK, HOUR = 604_800_000, 3_600_000
RULES = Rules(every_ms=WEEK, keep_ms=26 * WEEK, room=1_000)


@pytest.mark.parametrize(
    ("facts", "due"),
    [
        (Facts(10 * WEEK, 0, 10 * WEEK), None),
        (Facts(10 * WEEK, 0, 9 * WEEK + 1), None),
        (Facts(10 * WEEK, 0, 9 * WEEK), Close(WEEK)),
        (Facts(10 * WEEK, 0, 10 * WEEK - 1, begun=True), Close(WEEK)),
        (Facts(10 * WEEK, 0, 10 * WEEK - HOUR, free=999), Close(HOUR, early=True)),
        (Facts(10 * WEEK, 0, 10 * WEEK - HOUR + 1, free=999), None),
        (Facts(10 * WEEK, 0, 10 * WEEK - HOUR, free=1_000), None),
    ],
)
def test_a_round_is_due_when_its_time_has_come_or_room_is_short(facts: Facts, due: Close | None) -> None:
    assert closing(RULES, facts) == due


def test_segments_go_with_their_age_unless_they_are_pinned() -> None:
    segments = [Kept("c", 27 * WEEK, 10), Kept("a", WEEK, 10), Kept("b", 0, 10, pinned=True)]
    assert dropping(RULES, segments, wall_ms=27 * WEEK) == [Drop("a", "older than 26w")]
    assert dropping(RULES, segments, wall_ms=27 * WEEK - 1) == []


def test_the_oldest_go_until_the_rest_has_room() -> None:
    segments = [Kept("c", 3, 10), Kept("a", 1, 10), Kept("b", 2, 10)]
    assert [drop.name for drop in dropping(RULES._replace(size=15), segments, wall_ms=4)] == ["a", "b"]


def test_nothing_is_shed_unless_the_config_says_so() -> None:
    segments = [Kept("a", 1, 100), Kept("b", 2, 100)]
    assert dropping(RULES, segments, wall_ms=4, free=0) == []
    shed = RULES._replace(shed="archive")
    assert [drop.name for drop in dropping(shed, segments, wall_ms=4, free=200)] == ["a"]
    assert dropping(shed, segments, wall_ms=4, free=250) == []
