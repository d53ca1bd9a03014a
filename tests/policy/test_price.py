"""What calls cost: the price list, usages read from answers, and estimates in the fleet's currency."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import ConfigError, UnknownPrice
from longwatch.policy.estimate import batched_micros, micros_of, most_micros, spent_micros
from longwatch.policy.limits import Limits, ModelPrice, Service
from longwatch.policy.price import (
    BATCHED,
    PRICES,
    PerToken,
    Price,
    Usage,
    cost_micros,
    find,
    has_prices,
    worst_case_micros,
)
from longwatch.policy.usage import Streamed, metered, model_of, usage_from, usage_of

NOW = round(datetime(2026, 11, 24, tzinfo=UTC).timestamp() * 1000)
MILLION = 1_000_000


def price(model: str, service: str = "anthropic") -> Price:
    return find(service, model, at_ms=NOW)


@pytest.mark.parametrize(
    ("model", "usage", "micros"),
    [
        ("claude-opus-5-5", Usage(input=MILLION), 4 * MILLION),
        ("claude-opus-5-5", Usage(output=MILLION), 20 * MILLION),
        ("claude-sonnet-5-5", Usage(cache_read=MILLION), 100_000),
        ("claude-sonnet-5-5", Usage(write_5m=MILLION), 2_500_000),
        ("claude-sonnet-5-5", Usage(write_1h=MILLION), 4_000_000),
        ("claude-haiku-5-5", Usage(input=100_000), 10_000),
        ("claude-haiku-5-5", Usage(input=100_001), 50_001),
        ("claude-haiku-5-5", Usage(input=1, cache_read=100_000, output=10), 5_026),
        ("claude-haiku-4-5", Usage(input=1), 1),
        ("claude-haiku-5-5", Usage(input=1), 1),
    ],
)
def test_a_usage_costs_what_the_provider_bills(model: str, usage: Usage, micros: int) -> None:
    assert cost_micros(price(model), usage) == micros
    assert cost_micros(price(model), usage, percent=BATCHED) in (micros // 2, -(-micros // 2))


def test_in_a_batch_the_half_is_rounded_up_once() -> None:
    haiku, dear = price("claude-haiku-5-5"), price("claude-opus-5-5")
    assert [cost_micros(haiku, Usage(input=count), percent=BATCHED) for count in (1, 20, 21, 40)] == [1, 1, 2, 2]
    assert cost_micros(dear, Usage(input=3), percent=BATCHED) == 6
    limits = Limits(services={"own": Service("own", price_micros=7)})
    most = {"prompt": 27_000, "longest": 4_000, "at_ms": NOW}
    assert batched_micros(Service("anthropic"), "claude-haiku-5-5", limits, **most) == 2_350
    assert batched_micros(Service("own", price_micros=7), "any", limits, **most) == 7
    used = Usage(input=100_001)
    assert spent_micros("anthropic", "claude-haiku-5-5", used, limits, at_ms=NOW, percent=BATCHED) == 25_001


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-4-8-latest", "claude-opus-4-8"),
        ("claude-opus-4-8@20260101", "claude-opus-4-8"),
    ],
)
def test_dated_and_aliased_releases_cost_what_their_model_does(asked: str, found: str) -> None:
    assert price(asked).model == found


def test_openai_names_are_found_by_the_longest_that_fits() -> None:
    assert price("gpt-4o-mini-2024-07-18", "openai").model == "gpt-4o-mini"
    assert price("gpt-4o-2024-08-06", "openai").model == "gpt-4o"


@pytest.mark.parametrize("model", ["gpt-5-pro", "gpt-5.1", "claude-haiku-6", "claude-haiku", "", None])
def test_an_unknown_model_is_refused_and_never_free(model: str | None) -> None:
    for service in ("anthropic", "openai"):
        with pytest.raises(UnknownPrice) as refused:
            find(service, model, at_ms=NOW)
        assert refused.value.hint


def test_a_slip_of_the_pen_is_told_the_nearest_model() -> None:
    with pytest.raises(UnknownPrice, match="did you mean claude-haiku-5-5"):
        price("claude-haiku-55")


def test_the_newest_price_that_has_begun_counts_and_before_the_first_the_first() -> None:
    rows = (
        Price("anthropic", "m", "2026-11-01", PerToken(1_000, 1_000, 1_000)),
        Price("anthropic", "m", "2026-12-01", PerToken(2_000, 2_000, 2_000)),
    )
    december = round(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
    assert find("anthropic", "m", at_ms=december - 1, prices=rows) == rows[0]
    assert find("anthropic", "m", at_ms=december, prices=rows) == rows[1]
    assert find("anthropic", "m", at_ms=0, prices=rows) == rows[0]


@given(
    row=st.sampled_from(PRICES),
    prompt=st.integers(1, 300_000),
    longest=st.integers(1, 64_000),
    read=st.fractions(0, 1),
    answer=st.fractions(0, 1),
)
def test_no_call_costs_more_than_its_worst_case(
    row: Price, prompt: int, longest: int, read: float, answer: float
) -> None:
    cached = int(prompt * read)
    real = Usage(cache_read=cached, input=prompt - cached, output=int(longest * answer))
    assert cost_micros(row, real) <= worst_case_micros(row, input_tokens=prompt, max_tokens=longest)
    written = real._replace(input=0, write_1h=real.input)
    assert cost_micros(row, written) <= worst_case_micros(row, input_tokens=prompt, max_tokens=longest, caching="1h")


def test_only_model_services_have_prices() -> None:
    assert has_prices("anthropic")
    assert not has_prices("stripe")


# -- usages --------------------------------------------------------------------------------------------------------------


def test_an_anthropic_answer_is_read_as_object_and_as_json() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    }
    expected = Usage(input=10, output=20, cache_read=300, write_5m=20, write_1h=30)
    assert usage_of({"usage": usage, "model": "claude-haiku-5-5"}) == expected
    assert usage_of(usage) == expected
    creation = SimpleNamespace(**usage["cache_creation"])  # type: ignore[arg-type]
    answer = SimpleNamespace(usage=SimpleNamespace(**usage | {"cache_creation": creation}), model="m")
    assert usage_of(answer) == expected
    assert model_of(answer) == "m"


def test_openai_counts_cached_tokens_inside_the_prompt() -> None:
    chat = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 40}}
    response = {"input_tokens": 100, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 40}}
    for usage in (chat, response):
        assert usage_of({"usage": usage}) == Usage(input=60, output=7, cache_read=40)


def test_the_end_of_a_stream_does_not_count_again_what_its_start_told() -> None:
    seen = Streamed()
    creation = {"ephemeral_1h_input_tokens": 1_000, "ephemeral_5m_input_tokens": 50}
    start = {"input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 1_050, "cache_creation": creation}
    seen.add({"type": "message_start", "message": {"model": "m", "usage": start}})
    seen.add({"type": "message_delta", "usage": {"output_tokens": 5, "cache_creation_input_tokens": 1_050}})
    assert not seen.ended
    seen.add({"type": "message_stop"})
    assert (seen.usage, seen.model, seen.ended) == (Usage(10, 5, 0, 50, 1_000), "m", True)


@pytest.mark.parametrize("answer", [None, "text", 3, {"id": "pi_1"}, {"usage": None}, {"usage": {"total": 1}}])
def test_an_answer_without_a_usage_tells_none(answer: object) -> None:
    assert usage_of(answer) is None


def test_what_is_read_from_the_cache_does_not_count_to_anthropics_input_rate() -> None:
    usage = Usage(input=10, output=5, cache_read=1_000, write_5m=20)
    assert metered(usage, "anthropic") == {"input_tokens": 30, "output_tokens": 5}
    assert metered(usage, "openai") == {"input_tokens": 1_030, "output_tokens": 5}


def test_tokens_by_name_and_a_slip_in_one() -> None:
    assert usage_from({"input_tokens": 3, "cache_write_1h": 4}) == Usage(input=3, write_1h=4)
    with pytest.raises(ConfigError, match="did you mean input_tokens"):
        usage_from({"input_token": 3})


# -- estimates -----------------------------------------------------------------------------------------------------------

POUNDS = Limits(currency="GBP", exchange={"USD": 800_000})


def most(
    service: Service, model: str | None, *, prompt: int = 1_000, longest: int = 400, limits: Limits = POUNDS
) -> int:
    return most_micros(service, model, limits, prompt=prompt, longest=longest, caching="none", requests=1, at_ms=NOW)


def test_an_estimate_is_in_the_fleets_currency_rounded_up() -> None:
    assert most(Service("anthropic"), "claude-haiku-5-5") == 240
    assert micros_of("0.000001 USD", POUNDS) == 1
    assert spent_micros("anthropic", "claude-haiku-5-5", Usage(input=1_000, output=400), POUNDS, at_ms=NOW) == 240


OWN = {
    "claude-*": ModelPrice(PerToken(9_000, 9_000, 9_000)),
    "claude-next-*": ModelPrice(PerToken(3_000, 15_000, 300), 10_000, PerToken(6_000, 30_000, 600)),
}


def test_the_configs_price_comes_before_the_list_the_narrowest_first_and_knows_models_that_the_list_does_not() -> None:
    service = Service("anthropic", prices=OWN)
    assert most(service, "claude-next-1") == 1_000 * 3 + 400 * 15
    assert most(service, "claude-next-1", prompt=10_001) == 10_001 * 6 + 400 * 30
    assert most(service, "claude-haiku-5-5") == 1_400 * 9
    assert most(Service("anthropic", prices={"claude-next-*": OWN["claude-next-*"]}), "claude-haiku-5-5") == 240


def test_what_was_used_is_priced_by_the_config_too_and_a_service_of_ones_own_can_be() -> None:
    limits = Limits(services={"llama": Service("llama", prices={"*": ModelPrice(PerToken(100, 200, 10))})})
    usage = Usage(input=1_000, output=1_000, cache_read=1_000)
    assert spent_micros("llama", "llama-9", usage, limits, at_ms=NOW) == 100 + 200 + 10
    assert spent_micros("lama", "llama-9", usage, limits, at_ms=NOW) is None
    with pytest.raises(UnknownPrice):
        most(Service("llama", prices={"llama-9": OWN["claude-*"]}), "llama-10")


def test_a_currency_without_a_rate_is_an_unknown_price() -> None:
    with pytest.raises(UnknownPrice):
        most(Service("anthropic"), "claude-haiku-5-5", limits=Limits(currency="GBP"))


def test_the_services_own_price_comes_before_the_list_and_without_any_a_call_is_free() -> None:
    assert most(Service("stripe", price_micros=200_000), None) == 200_000
    assert most(Service("github"), None) == 0


def test_without_tokens_a_model_call_cannot_be_estimated() -> None:
    for prompt, longest in ((0, 400), (1_000, 0)):
        with pytest.raises(ConfigError, match="cannot be told without its tokens"):
            most(Service("anthropic"), "claude-haiku-5-5", prompt=prompt, longest=longest)


def test_an_answer_of_a_model_without_a_price_leaves_the_estimate() -> None:
    assert spent_micros("anthropic", "claude-new-1", Usage(input=1), POUNDS, at_ms=NOW) is None
    assert spent_micros("stripe", None, Usage(input=1), POUNDS, at_ms=NOW) is None
