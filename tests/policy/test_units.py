"""Durations, money, sizes, rates and caps: what people write, exactly as it is meant, or refused with a hint."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import ConfigError, UnknownPrice
from longwatch.policy.duration import LONGEST_MS, format_ms, parse_ms, parse_text_ms
from longwatch.policy.limits import Cap, Rate
from longwatch.policy.money import MICRO, Money, convert
from longwatch.policy.rate import format_rate, parse_cap, parse_money_cap, parse_rate
from longwatch.policy.size import LARGEST, format_bytes, parse_bytes

EXCHANGE = {"USD": 800_000}  # 0.80 GBP


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("90s", 90_000), ("10m", 600_000), ("2 h", 7_200_000), ("1d", 86_400_000), ("1w", 604_800_000), ("1.5s", 1500)],
)
def test_a_duration_is_whole_milliseconds(text: str, milliseconds: int) -> None:
    assert parse_ms(text) == parse_text_ms(text) == milliseconds


def test_in_python_a_duration_may_be_seconds_or_a_timedelta() -> None:
    assert parse_ms(0.5) == 500
    assert parse_ms(timedelta(minutes=10)) == 600_000


@pytest.mark.parametrize(
    "value", ["", "10", "-1s", "1e3s", "1 fortnight", "٣s", "9999999999w", None, True, -1, float("nan")]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        parse_ms(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [600, 0.5, timedelta(seconds=1)])
def test_outside_python_a_duration_needs_a_unit(value: object) -> None:
    with pytest.raises(ConfigError):
        parse_text_ms(value)  # type: ignore[arg-type]


@given(st.integers(0, LONGEST_MS))
def test_a_formatted_duration_reads_back_as_itself(milliseconds: int) -> None:
    assert parse_ms(format_ms(milliseconds)) == milliseconds


@given(st.integers(-(10**18) + 1, 10**18 - 1), st.sampled_from(["GBP", "USD"]))
def test_formatted_money_reads_back_as_itself(micros: int, currency: str) -> None:
    assert Money.parse(str(Money(micros, currency))) == Money(micros, currency)


@pytest.mark.parametrize(
    "text", [0.2, "0.20", "GBP 0.20", "0.20 gbp", "0.1234567 GBP", "1,000 GBP", "٣ GBP", "1e3 GBP", ""]
)
def test_what_is_no_money_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="is not an amount of money"):
        Money.parse(text)  # type: ignore[arg-type]


def test_small_negative_money_keeps_its_sign() -> None:
    assert Money.parse("-0.20 GBP").micros == -200_000


@given(st.integers(0, 10**15), st.integers(1, 10**9))
def test_a_converted_cost_is_never_understated(micros: int, rate: int) -> None:
    converted = convert(Money(micros, "USD"), "GBP", {"USD": rate}).micros
    assert converted * MICRO >= micros * rate > (converted - 1) * MICRO


def test_a_cost_without_an_exchange_rate_is_an_unknown_price() -> None:
    with pytest.raises(UnknownPrice, match="no exchange rate from USD to GBP"):
        convert(Money(1, "USD"), "GBP", {})


@pytest.mark.parametrize(
    ("text", "size"),
    [("1500 MiB", 1500 << 20), ("1 MiB", 1 << 20), ("1.5 GiB", 3 << 29), ("64kB", 64_000), ("0 B", 0), ("1.5 B", 1)],
)
def test_a_size_is_whole_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1500", "1500 mib", "1500M", "-1 B", "1 PiB", "9999 TiB", 1500, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_bytes(text)  # type: ignore[arg-type]


@given(st.integers(0, LARGEST))
def test_a_formatted_size_reads_back_as_itself(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("text", "dimension", "rate"),
    [
        ("25/s", "requests", Rate(25, 1000, burst=25)),
        ("50/min", "requests", Rate(50, 60_000, burst=1)),
        ("90/min", "requests", Rate(90, 60_000, burst=1)),
        ("7200/h", "requests", Rate(7200, 3_600_000, burst=2)),
        ("1000/day", "requests", Rate(1000, 86_400_000, burst=1)),
        ("40000/min", "input_tokens", Rate(40_000, 60_000, burst=40_000)),
        ("500/s", "output_tokens", Rate(500, 1000, burst=500)),
        ("1000000/day", "input_tokens", Rate(1_000_000, 86_400_000, burst=11)),
        (" 25 / second ", "requests", Rate(25, 1000, burst=25)),
    ],
)
def test_a_rate_has_the_burst_that_its_provider_enforces(text: str, dimension: str, rate: Rate) -> None:
    assert parse_rate(text, dimension=dimension) == rate


def test_a_named_burst_replaces_the_default() -> None:
    assert parse_rate("25/s", burst=5).burst == 5


@given(st.integers(1, 10**9), st.sampled_from(["s", "min", "h", "day"]))
def test_a_formatted_rate_reads_back_as_itself(amount: int, unit: str) -> None:
    rate = parse_rate(f"{amount}/{unit}")
    assert parse_rate(format_rate(rate)) == rate
    assert rate.burst >= 1


@given(st.integers(1, 10**6), st.sampled_from(["s", "min", "h", "day"]))
def test_the_default_burst_of_requests_is_never_more_than_a_second_brings_except_for_one(
    amount: int, unit: str
) -> None:
    rate = parse_rate(f"{amount}/{unit}")
    assert rate.burst == 1 or rate.burst * rate.per_ms <= rate.amount * 1000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("25 per s", "is not a rate"),
        ("0/s", "0 is not between 1"),
        ("-1/s", "is not a rate"),
        ("0.5/s", "is not a rate"),
        ("1000000000000/s", "is not between"),
        ("25/m", "a minute or a month"),
        ("25/minuet", "did you mean minute"),
        ("5000/month", "a calendar window is a quota"),
        (25, "is not a rate"),
        (None, "is not a rate"),
    ],
)
def test_what_is_no_rate_is_refused_with_its_reason(text: object, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_rate(text)  # type: ignore[arg-type]
    assert "Write" in caught.value.hint


def test_a_cap_names_its_calendar_window() -> None:
    assert parse_cap("5000/month") == Cap(5000, "month")
    assert parse_cap("1000 / day") == Cap(1000, "day")
    assert parse_cap("1000 total") == Cap(1000, "total")
    assert parse_cap("0/day") == Cap(0, "day")


@pytest.mark.parametrize(
    "text", ["5000", "5000/mouth", "5000/year", "-5/day", "1.5/day", "9" * 18 + "/day", "", 5000, None]
)
def test_what_is_no_cap_is_refused(text: object) -> None:
    with pytest.raises(ConfigError):
        parse_cap(text)  # type: ignore[arg-type]


def test_a_misspelt_window_is_told_its_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean month"):
        parse_cap("5000/mouth")


def test_a_money_cap_is_in_the_fleets_currency_and_rounded_down() -> None:
    assert parse_money_cap("50 GBP/month", currency="GBP", exchange={}) == Cap(50 * MICRO, "month")
    assert parse_money_cap("5 GBP total", currency="GBP", exchange={}) == Cap(5 * MICRO, "total")
    assert parse_money_cap("50 USD/day", currency="GBP", exchange=EXCHANGE) == Cap(40 * MICRO, "day")
    assert parse_money_cap("0.000001 USD/day", currency="GBP", exchange=EXCHANGE) == Cap(0, "day")


@pytest.mark.parametrize(
    "text", ["50 EUR/month", "50/month", "50.0", 50.0, "-1 GBP/day", "50 GBP", "50 GBP/mnth", "GBP total"]
)
def test_what_is_no_money_cap_is_refused(text: object) -> None:
    with pytest.raises(ConfigError):
        parse_money_cap(text, currency="GBP", exchange=EXCHANGE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (Rate(22, 978, 1), "22.49/s"),
        (Rate(2, 800, 1), "2.5/s"),
        (Rate(1, 8_000, 1), "7.5/min"),
        (Rate(3, 10**8, 1), "2.592/day"),
    ],
)
def test_a_rate_of_another_period_is_told_by_what_it_comes_to(rate: Rate, words: str) -> None:
    assert format_rate(rate) == words
