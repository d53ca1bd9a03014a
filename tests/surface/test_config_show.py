"""`longwatch config show`: every value that counts, and where it is from; never a secret, and never a new state."""

from pathlib import Path
from typing import Any

import pytest
from shell import Shell

import longwatch
from longwatch.config import in_force, load

TOML = """\
[fleet]
state = "shop.db"
currency = "GBP"
money = "200 GBP/month"
exchange = { USD = "0.80 GBP" }

[defaults.agent]
env = { SITE = "staging", DB_PASSWORD = "hunter2" }

[agent.seo]
money = "5 GBP/day"

[service.stripe]
key = { env = "STRIPE_API_KEY" }
rate = "25/s"
burst = 5
concurrency = 20
quota = "5000/month"
price = "0.20 GBP"

[service.anthropic]
rate = { requests = "50/min", input_tokens = "40000/min" }
[service.anthropic.model."claude-haiku-*"]
rate = { requests = "200/min" }

[budget.growth]
money = ["50 GBP/month", "5 GBP/day"]
calls = "1000/day"
warn = [0.5, 0.9]
"""
CHANGED = """\
[fleet]
state = "shop.db"
currency = "GBP"

[agent.seo]
money = "50 GBP/day"

[service.stripe]
rate = "50/s"
quota = "5000/month"

[service.github]
quota = "4000/hour"

[budget.growth]
money = "50 GBP/month"
calls = "1000/day"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "longwatch.toml").write_text(TOML, "utf-8")
    return Shell(tmp_path, {"STRIPE_API_KEY": "sk_live_4eC39HqLyjWDarjtT1zdp7dc"})


def found(folder: Path) -> None:
    """Open the fleet as a program does: its config comes into force."""
    with longwatch.open(config=folder / "longwatch.toml"):
        pass


def rows(shell: Shell, *words: str) -> dict[str, dict[str, Any]]:
    said = shell("config", "show", "--json", *words)
    assert said.status == 0, said
    return {row["key"]: row for row in said.json["values"]}


def line(start: str, text: str = TOML) -> str:
    return f"longwatch.toml:{next(n for n, each in enumerate(text.splitlines(), 1) if each.startswith(start))}"


def test_every_sort_of_origin_is_named(shell: Shell) -> None:
    shell = Shell(shell.folder, {"LONGWATCH_BUDGET": "growth"})
    shown = rows(shell, "--state", "other.db")
    assert shown["fleet.currency"]["from"] == line("currency")
    assert shown["fleet.lease"]["from"] == "default"
    assert (shown["fleet.state"]["value"], shown["fleet.state"]["from"]) == (str(shell.folder / "other.db"), "argument")
    assert (shown["budget"]["value"], shown["budget"]["from"]) == ("growth", "environment LONGWATCH_BUDGET")
    assert all(row["from"] and row["instead_of"] is None for row in shown.values())


def test_looking_makes_no_state(shell: Shell) -> None:
    rows(shell)
    assert [path.name for path in shell.folder.iterdir()] == ["longwatch.toml"]


def test_no_secret_is_shown(shell: Shell) -> None:
    for words in ((), ("--json",)):
        said = shell("config", "show", *words)
        assert "hunter2" not in said.out + said.err
        assert "4eC39" not in said.out + said.err
    shown = rows(shell)
    assert shown["agent.seo.env"]["value"] == '{ SITE = "staging", DB_PASSWORD = "***" }'
    assert shown["service.stripe.key"]["value"] == '{ env = "STRIPE_API_KEY" }'


def test_what_is_in_force_is_not_told_apart_from_what_is_written_while_they_are_the_same(shell: Shell) -> None:
    before = rows(shell)
    found(shell.folder)
    assert rows(shell) == before


def test_where_the_file_has_changed_the_state_counts_and_both_are_shown(shell: Shell) -> None:
    found(shell.folder)
    (shell.folder / "longwatch.toml").write_text(CHANGED, "utf-8")
    shown = rows(shell)
    other = {key: (row["value"], row["instead_of"]) for key, row in shown.items() if row["from"] == "state"}
    assert other == {
        "fleet.money": ("200 GBP/month", {"value": "[]", "from": "default"}),
        "fleet.exchange": ('{ USD = "0.80 GBP" }', {"value": "{}", "from": "default"}),
        "agent.seo.money": ("5 GBP/day", {"value": "50 GBP/day", "from": "longwatch.toml:6"}),
        "service.stripe.rate": ("25/s", {"value": "50/s", "from": "longwatch.toml:9"}),
        "service.stripe.burst": ("{ requests = 5 }", {"value": "{ requests = 50 }", "from": "default"}),
        "service.stripe.concurrency": ("20", {"value": "", "from": "default"}),
        "service.stripe.price": ("0.20 GBP", {"value": "", "from": "default"}),
        "service.github.quota": ("5000/hour", {"value": "4000/hour", "from": "longwatch.toml:13"}),
        "service.anthropic.rate": ('{ requests = "50/min", input_tokens = "40000/min" }', None),
        "service.anthropic.burst": ("{ requests = 1, input_tokens = 40000 }", None),
        'service.anthropic.model."claude-haiku-*".rate': ("200/min", None),
        'service.anthropic.model."claude-haiku-*".burst': ("{ requests = 3 }", None),
        "budget.growth.money": (
            '["50 GBP/month", "5 GBP/day"]',
            {"value": "50 GBP/month", "from": "longwatch.toml:16"},
        ),
        "budget.growth.warn": ("[0.5, 0.9]", {"value": "[0.5, 0.8, 1.0]", "from": "default"}),
    }
    text = shell("config", "show").out
    assert "state (longwatch.toml:9: 50/s)" in text
    assert "state (longwatch.toml:13: 4000/hour)" in text


def test_a_program_that_opens_the_fleet_alone_brings_the_file_into_force(shell: Shell) -> None:
    found(shell.folder)
    (shell.folder / "longwatch.toml").write_text(CHANGED, "utf-8")
    found(shell.folder)
    assert "state" not in {row["from"] for row in rows(shell).values()}


def test_a_state_that_cannot_be_asked_is_told_and_the_rest_is_shown(shell: Shell) -> None:
    (shell.folder / "shop.db").write_bytes(b"no database at all, but long enough to be taken for one" * 40)
    said = shell("config", "show", "--json")
    assert said.status == 0, said
    assert "shop.db" in said.json["state_unread"]
    assert {row["key"] for row in said.json["values"]} >= {"fleet.state", "service.stripe.rate"}
    assert "could not be asked" in shell("config", "show").out


def test_what_a_budget_falls_back_on_is_shown_as_it_is_in_force(tmp_path: Path) -> None:
    told = {"then": "cheaper", "models": ["claude-sonnet-5-5", "claude-haiku-5-5"]}
    stops, falls = (load({"budget": {"b": budget}}, environ={}, cwd=tmp_path) for budget in ({}, told))
    shown = {row.key: row.value for row in in_force(stops, falls.limits) if row.origin == "state"}
    assert shown == {"budget.b.then": "cheaper", "budget.b.models": '["claude-sonnet-5-5", "claude-haiku-5-5"]'}
    shown = {row.key: row.value for row in in_force(falls, stops.limits) if row.origin == "state"}
    assert shown == {"budget.b.then": "stop", "budget.b.models": ""}


def test_without_a_state_nothing_is_said_to_be_from_it(tmp_path: Path) -> None:
    settings = load({}, environ={}, cwd=tmp_path)
    assert not [row for row in in_force(settings, None) if row.origin == "state"]
    assert not [row for row in in_force(settings, settings.limits) if row.origin == "state"]
