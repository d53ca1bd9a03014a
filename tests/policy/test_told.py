"""Headers of limits: what each provider documents is read, and what cannot be is not believed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.limits import Rate
from longwatch.policy.meter import NEW, earliest_us, free_units
from longwatch.policy.told import DAY_MS, MOST, PROFILES, QUOTA, Told, floor_us, of_a_rate, told_by

WALL = 1_800_000_000_000
HOUR = Rate(5_000, 3_600_000, 5_000)

ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:01Z",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "39000",
    "anthropic-ratelimit-tokens-limit": "48000",
}
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}
DAILY = {
    "x-ratelimit-limit-requests": "200",
    "x-ratelimit-remaining-requests": "199",
    "x-ratelimit-reset-requests": "7m12s",
}
GITHUB = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "17", "X-RateLimit-Reset": str(WALL // 1000 + 600)}


@pytest.mark.parametrize(
    ("profile", "headers", "found"),
    [
        (
            "anthropic",
            ANTHROPIC,
            (Told("requests", Rate(50, 60_000, 1), 49), Told("input_tokens", Rate(40_000, 60_000, 40_000), 39_000)),
        ),
        (
            "openai",
            OPENAI,
            (Told("requests", Rate(60, 60_000, 1), 59), Told("input_tokens", Rate(150_000, 60_000, 150_000), 149_984)),
        ),
        ("openai", DAILY, (Told(QUOTA, Rate(200, DAY_MS, 200), 199),)),
        ("github", GITHUB, (Told(QUOTA, HOUR, 17, 600_000, whole=True),)),
        ("github", {**GITHUB, "x-ratelimit-resource": "search"}, ()),
        ("stripe", GITHUB, ()),
        (
            "other",
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "7", "ratelimit-reset": "30"},
            (Told("requests", Rate(100, 60_000, 1), 7, 30_000, whole=True),),
        ),
        (
            "other",
            {"ratelimit-policy": '"default";q=100;w=3600', "ratelimit": '"default";r=3;t=50'},
            (Told(QUOTA, Rate(100, 3_600_000, 100), 3, 50_000, whole=True),),
        ),
        (
            "other",
            {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"},
            (Told("requests", None, 0, 30_000, whole=True),),
        ),
        ("other", {"content-type": "text/html"}, ()),
    ],
)
def test_what_a_provider_documents_is_read(profile: str, headers: dict[str, str], found: tuple[Told, ...]) -> None:
    assert told_by(profile if profile != "other" else "weather", headers, wall_ms=WALL) == found


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-ratelimit-limit", "-5000"),
        ("x-ratelimit-limit", "0"),
        ("x-ratelimit-limit", "9" * 15),
        ("x-ratelimit-limit", "many"),
        ("x-ratelimit-remaining", "5001"),
        ("x-ratelimit-remaining", "-1"),
        ("x-ratelimit-remaining", "1e3"),
    ],
)
def test_a_count_that_cannot_be_is_not_believed(header: str, value: str) -> None:
    said = {name.lower(): text for name, text in GITHUB.items()} | {header: value}
    assert told_by("github", said, wall_ms=WALL) == ()


@pytest.mark.parametrize("reset_s", [WALL // 1000 - 1, WALL // 1000, WALL // 1000 + 86_401])
def test_nothing_is_held_back_until_an_instant_that_cannot_be(reset_s: int) -> None:
    (told,) = told_by("github", {**GITHUB, "X-RateLimit-Reset": str(reset_s)}, wall_ms=WALL)
    assert (told.rate, told.remaining, told.resets_ms) == (HOUR, None, None)
    assert floor_us(told, HOUR, now_us=0) is None


VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(-10, 10**20).map(str),
    st.floats().map(str),
    st.integers(0, 4 * 10**12).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat()),
    st.sampled_from(["6m0s", "1s", "120ms", "1h", "100;w=60", '"d";q=5;w=0', '"d";r=9;t=9']),
)
NAMES = sorted({*ANTHROPIC, *OPENAI, *map(str.lower, GITHUB), "ratelimit", "ratelimit-policy", "ratelimit-limit"})


@given(st.sampled_from([*PROFILES, "stripe", "weather"]), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_whatever_is_said_what_is_believed_can_be(profile: str, headers: dict[str, str]) -> None:
    for told in told_by(profile, headers, wall_ms=WALL):
        if told.rate is not None:
            assert 1 <= told.rate.amount <= MOST
            assert 0 < told.rate.per_ms <= DAY_MS
            assert told.rate.burst >= 1
            assert told.remaining is None or 0 <= told.remaining <= told.rate.amount
        assert told.resets_ms is None or 0 < told.resets_ms <= DAY_MS
        floor = floor_us(told, told.rate or HOUR, now_us=0)
        assert floor is None or floor >= 0


@given(remaining=st.integers(0, 5_000), resets_ms=st.integers(1, 3_600_000))
def test_no_more_leaves_than_remains_and_nothing_before_the_reset_of_what_is_used_up(
    remaining: int, resets_ms: int
) -> None:
    floor = floor_us(Told(QUOTA, HOUR, remaining, resets_ms, whole=True), HOUR, now_us=0)
    if floor is not None:
        meter = NEW._replace(free_us=floor)
        assert free_units(meter, HOUR, now_us=0) <= remaining
        assert remaining or earliest_us(meter, HOUR, weight=1, now_us=0) >= resets_ms * 1000


@given(remaining=st.integers(0, 40_000))
def test_a_bucket_gives_at_once_what_remains_in_it(remaining: int) -> None:
    rate = Rate(40_000, 60_000, 40_000)
    floor = floor_us(Told("input_tokens", rate, remaining), rate, now_us=7_000_000)
    if floor is not None:
        assert abs(free_units(NEW._replace(free_us=floor), rate, now_us=7_000_000) - remaining) <= 1


@pytest.mark.parametrize(
    ("reason", "paced"), [("global-rate", True), ("endpoint-rate", True), ("global-concurrency", False), ("", True)]
)
def test_what_is_not_about_a_rate_teaches_none(reason: str, paced: bool) -> None:
    assert of_a_rate({"Stripe-Rate-Limited-Reason": reason}) is paced
