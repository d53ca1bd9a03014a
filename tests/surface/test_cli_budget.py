"""`longwatch budget set`: a cap for a while, shown wherever the budget is, and the file as it was."""

from pathlib import Path
from typing import Any

import pytest
from shell import Shell

import longwatch

TOML = """\
[fleet]
currency = "GBP"
exchange = { USD = "0.80 GBP" }
timezone = "Europe/London"
state = "shop.db"

[budget.growth]
money = ["50 GBP/month", "5 GBP/day"]
calls = "1000/day"
"""
UNTIL = ("--until", "2100-12-01")
FOR_EVER = "2100-12-01T00:00:00.000Z"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "longwatch.toml").write_text(TOML, "utf-8")
    with longwatch.open(config=tmp_path / "longwatch.toml"):
        pass
    return Shell(tmp_path)


def caps(shell: Shell) -> dict[tuple[str, str], tuple[int, Any]]:
    rows = shell("budget", "list", "--json").json["budgets"]
    return {
        (row["purse"], row["window"]): (row["cap_micros"], row["set"]) for row in rows if row["dimension"] == "money"
    }


def test_it_stands_in_for_the_cap_of_its_window_and_is_shown_with_its_end(shell: Shell) -> None:
    said = shell("budget", "set", "growth", "60 GBP/month", *UNTIL, "--json")
    assert (said.status, said.json) == (
        0,
        {
            "set": [
                {
                    "budget": "growth",
                    "window": "month",
                    "cap_micros": 60_000_000,
                    "instead_of_micros": 50_000_000,
                    "currency": "GBP",
                    "until_at": FOR_EVER,
                }
            ]
        },
    )
    assert caps(shell) == {
        ("budget:growth", "month"): (60_000_000, {"until_at": FOR_EVER, "configured_micros": 50_000_000}),
        ("budget:growth", "day"): (5_000_000, None),
    }
    assert "60.00 GBP/month, until" in (words := shell("budget", "list").out)
    assert "(set until 1 Dec 00:00 Europe/London; configured: 50.00 GBP)" in words
    (row,) = [row for row in shell("config", "show", "--json").json["values"] if row["key"] == "budget.growth.money"]
    assert row == {
        "key": "budget.growth.money",
        "value": '["60 GBP/month", "5 GBP/day"]',
        "from": "longwatch budget set, until 1 Dec 00:00 Europe/London",
        "instead_of": {"value": '["50 GBP/month", "5 GBP/day"]', "from": "longwatch.toml:8"},
    }
    assert (shell.folder / "longwatch.toml").read_text("utf-8") == TOML
    (entry,) = shell("journal", "--kind", "budget.set", "--json").json["entries"]
    assert (entry["subject"], entry["data"]["money"], entry["data"]["before"]) == (
        "budget:growth",
        60_000_000,
        50_000_000,
    )


def test_several_windows_another_currency_and_a_new_window(shell: Shell) -> None:
    said = shell("budget", "set", "growth", "100 USD/month", "1 GBP/hour")
    assert said.status == 0, said
    assert "growth: 50.00 GBP/month -> 80.00 GBP/month, until it is cleared" in said.out
    assert "growth: no cap -> 1.00 GBP/hour, until it is cleared" in said.out
    assert caps(shell)["budget:growth", "hour"] == (1_000_000, {"until_at": None, "configured_micros": None})
    again = shell("budget", "set", "growth", "70 GBP/month", "--json")
    assert again.json["set"][0]["instead_of_micros"] == 80_000_000
    assert len(shell("budget", "set", "growth", "--clear", "--json").json["cleared"]) == 2
    assert caps(shell) == {
        ("budget:growth", "month"): (50_000_000, None),
        ("budget:growth", "day"): (5_000_000, None),
    }
    said = shell("budget", "set", "growth", "--clear")
    assert (said.status, said.out.strip()) == (0, "growth: nothing was set, the config counts")


def test_doctor_and_a_program_that_opens_the_fleet_take_it_for_no_change(shell: Shell) -> None:
    assert shell("budget", "set", "growth", "60 GBP/month").status == 0
    assert "budget.growth" not in shell("doctor").out
    with longwatch.open(config=shell.folder / "longwatch.toml"):
        pass
    assert caps(shell)["budget:growth", "month"][0] == 60_000_000
    assert shell("journal", "--kind", "config.changed", "--json").json["entries"][1:] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("grwoth", "60 GBP/month"), 2, "unknown budget grwoth: did you mean growth?"),
        (("grwoth", "--clear"), 2, "unknown budget grwoth: did you mean growth?"),
        (("growth", "-60 GBP/month"), 2, "No such option"),
        (("--", "growth", "-60 GBP/month"), 2, "is below zero"),
        (("growth", "60/month"), 2, "is not an amount of money"),
        (("growth", "60 EUR/month"), 2, "EUR has no exchange rate to the fleet's GBP"),
        (("growth", "60 GBP/fortnight"), 2, "is not a calendar window"),
        (("growth", "60 GBP"), 2, "is not an amount per calendar window"),
        (("growth", "999999999999 GBP/month"), 2, "is above a billion"),
        (("growth", "6 GBP/month", "7 GBP/month"), 2, "two caps for one window"),
        (("growth",), 2, "give an amount, or --clear"),
        (("growth", "6 GBP/month", "--clear"), 2, "give an amount, or --clear"),
        (("growth", "--clear", *UNTIL), 2, "give an amount, or --clear"),
        (("growth", "6 GBP/month", "--until", "2020-01-01"), 2, "--until 2020-01-01 has passed: it is"),
        (("growth", "6 GBP/month", "--until", "tomorrow"), 2, "'tomorrow' is not a date"),
        (("growth", "6 GBP/month", "--until", "2100-13-01"), 2, "'2100-13-01' is not a date"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    shell: Shell, words: tuple[str, ...], status: int, said: str
) -> None:
    ended = shell("budget", "set", *words)
    assert (ended.status, ended.out) == (status, "")
    assert said in " ".join(ended.err.split()), ended.err
    assert caps(shell)["budget:growth", "month"] == (50_000_000, None)


def test_an_agent_may_not_raise_what_it_may_spend(shell: Shell) -> None:
    governed = Shell(shell.folder, {"LONGWATCH_RUN": "run_1"})
    for words in (("growth", "500 GBP/month"), ("growth", "--clear")):
        ended = governed("budget", "set", *words, "--json")
        assert (ended.status, ended.json["error"]["code"]) == (1, "refused")
    assert caps(shell)["budget:growth", "month"] == (50_000_000, None)


def test_nothing_may_be_spent_when_it_is_set_to_nothing(shell: Shell) -> None:
    assert shell("budget", "set", "growth", "0 GBP/month").status == 0
    with (
        longwatch.open(config=shell.folder / "longwatch.toml") as lw,
        pytest.raises(longwatch.BudgetExceeded),
        lw.call("stripe", budget="growth", money="0.01 GBP"),
    ):
        raise AssertionError("it was let through")
