"""What answers of the providers mean, by their documents; and whether there is another try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.answer import DAY_MS, SECONDARY_MS, Verdict, judge
from longwatch.policy.retry import LONGEST_MS, Try, again_ms

NOW_MS = 1_800_000_000_000
SECOND = Try(tries=1, most=2, left_ms=None, repeatable=False)


def judged(service: str, status: int, code: str = "", **headers: str) -> Verdict:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(service, status, told, code=code, wall_ms=NOW_MS)


@pytest.mark.parametrize(
    ("verdict", "wanted"),
    [
        (judged("anthropic", 200), Verdict("ok")),
        (judged("anthropic", 429, retry_after="3"), Verdict("limited", 3_000)),
        (judged("anthropic", 429), Verdict("spent")),
        (judged("anthropic", 529), Verdict("overloaded")),
        (judged("anthropic", 504), Verdict("overloaded", None, certain=False)),
        (judged("anthropic", 529, x_should_retry="false"), Verdict("refused")),
        (judged("anthropic", 400), Verdict("refused")),
        (judged("openai", 429, code="insufficient_quota", retry_after="1"), Verdict("spent")),
        (judged("openai", 429, retry_after_ms="250", retry_after="9"), Verdict("limited", 250)),
        (judged("openai", 429), Verdict("limited")),
        (judged("stripe", 429, Stripe_Rate_Limited_Reason="global-rate"), Verdict("limited")),
        (judged("stripe", 429, code="lock_timeout"), Verdict("busy")),
        (judged("stripe", 409), Verdict("busy")),
        (judged("stripe", 402), Verdict("refused")),
        (judged("github", 403), Verdict("refused")),
        (judged("github", 403, code="You have exceeded a secondary rate limit"), Verdict("limited", SECONDARY_MS)),
        (judged("github", 429, retry_after="30"), Verdict("limited", 30_000)),
        (
            judged("github", 403, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW_MS // 1000 + 60)),
            Verdict("limited", 60_000),
        ),
        (judged("any", 429, retry_after="Fri, 15 Jan 2027 08:00:05 GMT"), Verdict("limited", 5_000)),
        (judged("any", 503, retry_after="0"), Verdict("overloaded", 0)),
    ],
)
def test_what_is_documented_is_understood(verdict: Verdict, wanted: Verdict) -> None:
    assert verdict == wanted


@given(
    st.sampled_from(("anthropic", "openai", "stripe", "github", "any")),
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(
            ("retry-after", "Retry-After-Ms", "x-ratelimit-reset", "x-ratelimit-remaining", "x-should-retry")
        ),
        st.one_of(st.text(max_size=12), st.floats().map(str), st.integers().map(str)),
    ),
    st.text(max_size=20),
)
def test_nonsense_is_not_believed(service: str, status: int, headers: dict[str, str], code: str) -> None:
    verdict = judge(service, status, headers, code=code, wall_ms=NOW_MS)
    assert verdict.again_ms is None or 0 <= verdict.again_ms <= DAY_MS
    assert (verdict.kind == "ok") == (status < 400)


def test_no_number_is_too_large_to_be_disbelieved() -> None:
    for status in (200, 429, 529):
        assert judged("stripe", status, retry_after="1e308").again_ms is None
    assert judged("github", 403, x_ratelimit_remaining="0", x_ratelimit_reset="1e306").again_ms is None


def test_who_is_asked_to_wait_waits_that_long_and_nobody_waits_for_ever() -> None:
    assert again_ms(SECOND, Verdict("limited", 3_000), unsent=False, fraction=0.9) == 3_000
    assert again_ms(SECOND, Verdict("limited", LONGEST_MS + 1), unsent=False, fraction=0.0) is None
    assert again_ms(SECOND._replace(left_ms=2_999), Verdict("limited", 3_000), unsent=False, fraction=0.0) is None


def test_pauses_grow_where_nothing_is_asked_for() -> None:
    waits = [
        again_ms(SECOND._replace(tries=tries, most=9), Verdict("overloaded"), unsent=False, fraction=0.5)
        for tries in range(1, 8)
    ]
    assert waits == [375, 750, 1_500, 3_000, 6_000, 6_000, 6_000]


@pytest.mark.parametrize("kind", ["spent", "refused", "ok"])
def test_what_will_not_change_is_not_tried_again(kind: str) -> None:
    assert again_ms(SECOND, Verdict(kind), unsent=False, fraction=0.0) is None  # type: ignore[arg-type]


def test_what_may_have_been_done_is_tried_again_only_where_that_does_no_harm() -> None:
    doubtful = Verdict("overloaded", None, certain=False)
    for verdict in (doubtful, None):
        assert again_ms(SECOND, verdict, unsent=False, fraction=0.0) is None
        assert again_ms(SECOND._replace(repeatable=True), verdict, unsent=False, fraction=0.0) is not None
    assert again_ms(SECOND, None, unsent=True, fraction=0.0) is not None


def test_there_are_as_many_tries_as_were_asked_for() -> None:
    made = [
        again_ms(SECOND._replace(tries=tries), Verdict("limited"), unsent=False, fraction=0.0) for tries in (1, 2, 3)
    ]
    assert [wait is None for wait in made] == [False, False, True]
