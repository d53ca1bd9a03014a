"""Nothing is unlimited by a typo, and a change of limits is told in words."""

from dataclasses import replace
from typing import Any

import pytest

from longwatch.errors import ConfigError
from longwatch.policy.difference import difference, limits_from_json, limits_to_json
from longwatch.policy.limits import KNOWN_SERVICES, Budget, Cap, Limits, ModelPrice, Rate, Service
from longwatch.policy.naming import resolve_budget, resolve_lane, resolve_service
from longwatch.policy.price import PerToken
from longwatch.policy.profiles import complete

MICRO = 1_000_000
STRIPE = Service(
    "stripe", {"requests": Rate(25, 1000, 5)}, concurrency=20, quota=Cap(5000, "month"), price_micros=200_000
)
GROWTH = Budget("growth", {"money": (Cap(50 * MICRO, "month"),)}, warn=(0.5, 1.0))
LIMITS = Limits(
    currency="GBP",
    exchange={"USD": 800_000},
    fleet_money=(Cap(200 * MICRO, "month"),),
    services={"stripe": STRIPE, "mail": Service("mail", models={"big-*": {"requests": Rate(1, 1000, 1)}})},
    budgets={"growth": GROWTH},
    agents={"seo": Budget("seo", {"money": (Cap(5 * MICRO, "day"),)})},
)


def limits(**changed: Any) -> Limits:
    return replace(LIMITS, **changed)


def test_a_named_service_is_resolved_to_its_limits() -> None:
    assert resolve_service(LIMITS, "stripe") is STRIPE


def test_an_unknown_service_is_refused_as_soon_as_one_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown service sripe: did you mean stripe") as caught:
        resolve_service(LIMITS, "sripe")
    assert "[service.sripe]" in caught.value.hint
    assert resolve_service(Limits(), "sripe") == Service("sripe")


@pytest.mark.parametrize("name", KNOWN_SERVICES)
def test_the_well_known_services_are_always_known(name: str) -> None:
    assert resolve_service(LIMITS, name).name == resolve_service(Limits(), name).name == name


def test_a_well_known_service_comes_with_what_is_documented_of_it() -> None:
    assert resolve_service(Limits(), "stripe").key_memory_ms == 24 * 3_600_000
    assert resolve_service(Limits(), "openai").key_memory_ms is None
    assert resolve_service(Limits(), "github").quota == Cap(5000, "hour")
    assert complete(Service("github", concurrency=3)).concurrency == 3


def test_an_unknown_budget_is_refused_as_soon_as_one_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown budget grwoth: did you mean growth"):
        resolve_budget(LIMITS, "grwoth")
    assert resolve_budget(LIMITS, "growth") is GROWTH
    assert resolve_budget(Limits(), "grwoth") == Budget("grwoth")


def test_the_budget_that_nobody_has_to_name_is_always_known() -> None:
    assert resolve_budget(LIMITS, "main") == Budget("main")


def test_an_unknown_lane_is_always_refused() -> None:
    assert resolve_lane("urgent") == "urgent"
    with pytest.raises(ConfigError, match="unknown lane urgnt: did you mean urgent"):
        resolve_lane("urgnt")


def test_limits_come_back_from_json_as_they_were() -> None:
    assert limits_from_json(limits_to_json(LIMITS)) == LIMITS


def test_equal_limits_are_the_same_json_in_whichever_order_they_were_written() -> None:
    turned = limits(services=dict(reversed(LIMITS.services.items())))
    assert limits_to_json(turned) == limits_to_json(LIMITS)
    assert difference(LIMITS, turned) == []


@pytest.mark.parametrize("text", ["", "[]", '{"services": 3}'])
def test_limits_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        limits_from_json(text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"budgets": {"growth": Budget("growth", {"money": (Cap(5000 * MICRO, "month"),)}, warn=(0.5, 1.0))}},
            ["budget.growth money 50 -> 5000 GBP/month (wider)"],
        ),
        (
            {"budgets": {"growth": Budget("growth", {"calls": (Cap(9, "total"),)}, warn=())}},
            [
                "budget.growth money 50 GBP -> none/month (wider)",
                "budget.growth calls none -> 9 total (narrower)",
                "budget.growth warn 0.5, 1.0 -> none",
            ],
        ),
        (
            {"budgets": {"growth": replace(LIMITS.budgets["growth"], models=("dear", "cheap"))}},
            ["budget.growth then stop -> cheaper: dear, cheap"],
        ),
        ({"budgets": {**LIMITS.budgets, "x": Budget("x")}}, ["budget.x is new, it was refused before (wider)"]),
        (
            {"budgets": {}},
            [
                "a budget that is not named: refused -> allowed (wider)",
                "budget.growth money 50 GBP -> none/month (wider)",
                "budget.growth warn 0.5, 1.0 -> none",
            ],
        ),
        ({"fleet_money": (Cap(0, "month"),)}, ["fleet money 200 -> 0 GBP/month (narrower)"]),
        ({"agents": {}}, ["agent.seo money 5 GBP -> none/day (wider)"]),
        ({"exchange": {"USD": 500_000}}, ["fleet exchange USD 0.80 GBP -> 0.50 GBP (wider)"]),
        ({"timezone": "Europe/London"}, ["fleet timezone UTC -> Europe/London"]),
        (
            {"services": {"stripe": LIMITS.services["stripe"]}},
            ["service.mail is gone, it is refused now (narrower)"],
        ),
        (
            {"services": {**LIMITS.services, "stripe": Service("stripe", {"requests": Rate(3000, 60_000, 9)})}},
            [
                "service.stripe rate requests 25/s -> 3000/min (wider)",
                "service.stripe burst requests 5 -> 9 (wider)",
                "service.stripe concurrency 20 -> none (wider)",
                "service.stripe quota 5000 -> none/month (wider)",
                "service.stripe price 0.20 GBP -> none (wider)",
            ],
        ),
        (
            {"services": {"stripe": STRIPE, "mail": Service("mail")}},
            ['service.mail.model."big-*" rate requests 1/s -> none (wider)'],
        ),
    ],
)
def test_every_change_of_limits_is_told_in_words(changed: dict[str, object], said: list[str]) -> None:
    assert difference(LIMITS, limits(**changed)) == said


def test_a_price_of_a_model_is_told_and_a_lower_one_lets_more_through() -> None:
    dear, cheap = ModelPrice(PerToken(3_000, 15_000, 300)), ModelPrice(PerToken(1_000, 5_000, 100))
    before, after = (limits(services={"mail": Service("mail", prices={"x-*": price})}) for price in (dear, cheap))
    assert limits_from_json(limits_to_json(before)) == before
    was, became = "input 3 GBP, output 15 GBP, cache_read 0.30 GBP", "input 1 GBP, output 5 GBP, cache_read 0.10 GBP"
    assert difference(before, after) == [f'service.mail.model."x-*" price {was} -> {became} (wider)']
    assert difference(after, before) == [f'service.mail.model."x-*" price {became} -> {was}']
    assert difference(before, limits(services={"mail": Service("mail")})) == [
        f'service.mail.model."x-*" price {was} -> by the list'
    ]


def test_another_currency_is_told_with_every_amount() -> None:
    assert difference(LIMITS, limits(currency="EUR", exchange={})) == [
        "fleet currency GBP -> EUR",
        "fleet exchange USD 0.80 GBP -> none",
        "fleet money 200 GBP -> 200 EUR/month",
        "budget.growth money 50 GBP -> 50 EUR/month",
        "agent.seo money 5 GBP -> 5 EUR/day",
    ]
