"""longwatch.toml, a dict and the environment become settings; each value knows where it came from."""

import os
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path

import pytest

from longwatch.config import Config, Restart, Secret, Settings, find, load, show
from longwatch.errors import ConfigError
from longwatch.policy.limits import Budget, Cap, Rate, Service
from longwatch.policy.naming import resolve_service

MICRO = 1_000_000
SHOP = (Path(__file__).parent / "shop.toml").read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Settings:
    (tmp_path / "longwatch.toml").write_text(SHOP)
    return load(environ={}, cwd=tmp_path)


def test_the_example_of_the_manual_loads(shop: Settings, tmp_path: Path) -> None:
    assert (shop.name, shop.root, shop.state) == ("shop", tmp_path, str(tmp_path / ".longwatch/longwatch.db"))
    assert (shop.admission, shop.lease_ms, shop.payload_max) == ("", 60_000, 1 << 20)
    assert shop.durability == "full"
    assert (shop.currency, shop.exchange, shop.timezone) == ("GBP", {"USD": 800_000}, "Europe/London")
    assert shop.money == (Cap(200 * MICRO, "month"),)


def test_the_services_of_the_example_have_their_limits(shop: Settings) -> None:
    assert shop.limits.services["stripe"] == Service(
        "stripe",
        rates={"requests": Rate(25, 1000, burst=5)},
        concurrency=20,
        quota=Cap(5000, "month"),
        price_micros=200_000,
        key_memory_ms=86_400_000,
    )
    assert shop.limits.services["anthropic"].rates == {
        "requests": Rate(50, 60_000, burst=1),
        "input_tokens": Rate(40_000, 60_000, burst=40_000),
        "output_tokens": Rate(8000, 60_000, burst=8000),
    }
    assert shop.limits.services["anthropic"].models == {"claude-haiku-*": {"requests": Rate(200, 60_000, burst=3)}}
    assert shop.services["anthropic"].key == Secret("env", "ANTHROPIC_API_KEY")
    assert shop.services["anthropic"].base_url == "https://api.anthropic.com"


def test_the_agents_of_the_example_start_from_the_defaults(shop: Settings, tmp_path: Path) -> None:
    seo, biller = shop.agents["seo"], shop.agents["biller"]
    assert seo.run == ("claude", "-p", "--output-format", "stream-json", "--verbose")
    assert (seo.stdin, seo.restart, seo.stall_ms, seo.max_rss) == ("brief", Restart(5, 600_000), 600_000, 1500 << 20)
    assert (seo.charter, seo.cwd, seo.every_ms) == (tmp_path / "charters/seo.md", tmp_path / "site", 1_800_000)
    assert (seo.env, seo.pass_env) == ({"SITE": "staging"}, ("SSH_AUTH_SOCK",))
    assert (biller.run, biller.work, biller.processes) == (None, "billing:lw", 15)
    assert shop.limits.agents == {"seo": Budget("seo", {"money": (Cap(5 * MICRO, "day"),)}, warn=(0.5, 0.8, 1.0))}


def test_the_rest_of_the_example_is_typed(shop: Settings, tmp_path: Path) -> None:
    assert shop.limits.budgets["growth"].caps == {"money": (Cap(50 * MICRO, "month"),)}
    assert (shop.budgets["growth"].then, len(shop.budgets["growth"].models)) == ("cheaper", 2)
    assert shop.gateway.listen == ("127.0.0.1", 8317)
    assert shop.alerts.to == (Secret("env", "ALERT_URL"),)
    assert shop.alerts.alive == Secret("env", "HEARTBEAT_URL")
    assert (shop.memory.snapshot_every, shop.memory.brief_tokens) == (1000, 6000)
    assert (shop.archive.every_ms, shop.archive.keep_ms) == (604_800_000, 26 * 604_800_000)
    assert shop.archive.to == str(tmp_path / ".longwatch/archive")


def test_every_value_knows_the_line_it_came_from(shop: Settings) -> None:
    lines = SHOP.splitlines()

    def line(text: str) -> str:
        return f"longwatch.toml:{next(n for n, each in enumerate(lines, 1) if each.startswith(text))}"

    assert shop.origin["fleet.currency"] == line("currency")
    assert shop.origin["agent.seo.every"] == line("every")
    assert shop.origin["agent.seo.stall"] == line("stall")  # inherited: the line in [defaults.agent]
    assert shop.origin['service.anthropic.model."claude-haiku-*".rate'] == line('rate = { requests = "200/min" }')
    assert shop.origin["service.stripe.burst"] == line("burst")
    assert shop.origin["fleet.payload"] == "default"


def test_everything_that_is_shown_has_an_origin_and_nothing_is_left_out(shop: Settings) -> None:
    shown = show(shop)
    assert {key for key, _, _ in shown} == set(shop.origin)
    assert ("service.stripe.key", '{ env = "STRIPE_API_KEY" }', shop.origin["service.stripe.key"]) in shown
    assert ("service.stripe.burst", "{ requests = 5 }", shop.origin["service.stripe.burst"]) in shown
    assert ("service.anthropic.base_url", "https://api.anthropic.com", "default") in shown


def test_settings_cannot_be_changed(shop: Settings) -> None:
    with pytest.raises(FrozenInstanceError):
        shop.name = "other"  # type: ignore[misc]


def test_without_a_file_the_state_is_in_the_current_folder(tmp_path: Path) -> None:
    settings = load(environ={}, cwd=tmp_path)
    assert (settings.file, settings.root) == (None, tmp_path)
    assert settings.state == str(tmp_path / ".longwatch/longwatch.db")
    assert (settings.agent, settings.budget, settings.budget_of("main")) == ("main", None, "main")
    assert set(settings.origin.values()) == {"default"}


def test_the_nearest_file_upwards_is_taken(tmp_path: Path) -> None:
    deep = tmp_path / "one" / "two"
    deep.mkdir(parents=True)
    (tmp_path / "longwatch.toml").write_text('[fleet]\nname = "far"\n')
    assert find(deep) == tmp_path / "longwatch.toml"
    assert load(environ={}, cwd=deep).origin["fleet.name"] == "../../longwatch.toml:2"
    (tmp_path / "one" / "longwatch.toml").write_text('[fleet]\nname = "near"\nroot = "two"\n')
    near = load(environ={}, cwd=deep)
    assert (near.name, near.root) == ("near", deep)
    assert near.state == str(deep / ".longwatch/longwatch.db")
    assert find(Path("/")) is None


def test_an_argument_comes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "longwatch.toml").write_text(
        '[fleet]\nstate = "file.db"\n[agent.seo]\nbudget = "growth"\n[budget.growth]\n[budget.x]\n'
    )
    environ = {"LONGWATCH_STATE": "environment.db", "LONGWATCH_AGENT": "seo"}
    by_file = load(environ={}, cwd=tmp_path)
    by_environment = load(environ=environ, cwd=tmp_path)
    by_argument = load(environ=environ, cwd=tmp_path, state="argument.db", agent="other", budget="x")
    assert [Path(each.state).name for each in (by_file, by_environment, by_argument)] == [
        "file.db",
        "environment.db",
        "argument.db",
    ]
    assert [each.origin["fleet.state"] for each in (by_file, by_environment, by_argument)] == [
        "longwatch.toml:2",
        "environment LONGWATCH_STATE",
        "argument",
    ]
    assert [each.agent for each in (by_file, by_environment, by_argument)] == ["main", "seo", "other"]
    assert (by_environment.origin["agent"], by_argument.origin["agent"]) == ("environment LONGWATCH_AGENT", "argument")
    assert (by_environment.budget_of("seo"), by_environment.origin["budget"]) == ("growth", "longwatch.toml:4")
    assert (by_argument.budget_of("seo"), by_argument.origin["budget"]) == ("x", "argument")


def test_the_admission_engine_may_be_an_argument(tmp_path: Path) -> None:
    (tmp_path / "longwatch.toml").write_text('[fleet]\nadmission = "redis://file"\n')
    by_file = load(environ={}, cwd=tmp_path)
    by_argument = load(environ={}, cwd=tmp_path, admission="redis://:secret@argument")
    own = load(environ={}, cwd=tmp_path, admission="")
    assert [each.admission for each in (by_file, by_argument, own)] == ["redis://file", "redis://:secret@argument", ""]
    assert by_argument.origin["fleet.admission"] == "argument"
    assert "secret" not in str(by_argument.written)
    with pytest.raises(ConfigError, match=r"argument: .*redis"):
        load(environ={}, cwd=tmp_path, admission="rediss-cluster://argument")


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[fleet]\nname = "other"\n')
    (tmp_path / "longwatch.toml").write_text('[fleet]\nname = "near"\n')
    environ = {"LONGWATCH_CONFIG": "other.toml"}
    assert load(environ=environ, cwd=tmp_path).name == "other"
    assert load(tmp_path / "longwatch.toml", environ=environ, cwd=tmp_path).name == "near"
    assert load({}, environ=environ, cwd=tmp_path).file is None
    assert load(environ={"LONGWATCH_CONFIG": ""}, cwd=tmp_path).name == "near"


def test_a_dict_is_read_like_a_file_and_may_hold_what_python_has(tmp_path: Path) -> None:
    config: Config = {
        "fleet": {"lease": timedelta(seconds=5), "root": tmp_path},
        "service": {"api": {"rate": "50/s", "burst": 5}},
        "agent": {"a": {"every": 90}},
    }
    settings = load(config, environ={}, cwd=tmp_path)
    assert settings.limits.services["api"].rates == {"requests": Rate(50, 1000, burst=5)}
    assert (settings.lease_ms, settings.agents["a"].every_ms) == (5000, 90_000)
    assert settings.origin["service.api.rate"] == "argument"


def test_in_a_file_a_duration_needs_its_unit(tmp_path: Path) -> None:
    (tmp_path / "longwatch.toml").write_text("[fleet]\nlease = 60\n")
    with pytest.raises(ConfigError, match=r"longwatch\.toml:2: fleet\.lease: 60 is not a duration"):
        load(environ={}, cwd=tmp_path)


@pytest.mark.parametrize("config", [{}, {"fleet": {"lease": timedelta(seconds=5)}}, "longwatch.toml"])
def test_another_process_finds_the_same_configuration(tmp_path: Path, config: str | Config) -> None:
    (tmp_path / "longwatch.toml").write_text(SHOP)
    first = load(config, environ={}, cwd=tmp_path)
    second = load(first.source, environ={}, cwd=tmp_path)
    assert second == first


def test_what_an_agent_says_itself_replaces_what_excludes_it(tmp_path: Path) -> None:
    config: Config = {
        "defaults": {"agent": {"run": ["claude"], "every": "1h", "env": {"A": "1", "B": "1"}}},
        "agent": {"a": {"work": "module:lw", "cron": "0 3 * * *", "env": {"B": "2"}}, "b": {}},
    }
    agents = load(config, environ={}, cwd=tmp_path).agents
    assert (agents["a"].run, agents["a"].work, agents["a"].every_ms, agents["a"].cron) == (
        None,
        "module:lw",
        None,
        "0 3 * * *",
    )
    assert agents["a"].env == {"A": "1", "B": "2"}
    assert (agents["b"].run, agents["b"].every_ms) == (("claude",), 3_600_000)


def test_a_burst_may_be_given_for_each_rate(tmp_path: Path) -> None:
    config: Config = {
        "service": {
            "x": {"rate": {"requests": "60/min", "input_tokens": "9000/min"}, "burst": {"input_tokens": 100}},
            "y": {"rate": {"requests": "60/min", "input_tokens": "9000/min"}, "burst": 3},
        }
    }
    services = load(config, environ={}, cwd=tmp_path).limits.services
    assert [rate.burst for rate in services["x"].rates.values()] == [1, 100]
    assert [rate.burst for rate in services["y"].rates.values()] == [3, 9000]


def test_a_well_known_service_is_completed_where_the_config_is_silent(tmp_path: Path) -> None:
    settings = load({"service": {"github": {"concurrency": 5}}}, environ={}, cwd=tmp_path)
    github = resolve_service(settings.limits, "github")
    assert (github.concurrency, github.quota) == (5, Cap(5000, "hour"))
    assert ("service.github.quota", "5000/hour", "default") in show(settings)


def test_caps_may_be_several_and_in_other_currencies(tmp_path: Path) -> None:
    config: Config = {
        "fleet": {"currency": "GBP", "exchange": {"USD": "0.80 GBP"}, "money": ["10 USD/day", "200 GBP/month"]},
        "budget": {"b": {"calls": "1000/day", "tokens": "5000000 total"}},
    }
    limits = load(config, environ={}, cwd=tmp_path).limits
    assert limits.fleet_money == (Cap(8 * MICRO, "day"), Cap(200 * MICRO, "month"))
    assert limits.budgets["b"].caps == {"calls": (Cap(1000, "day"),), "tokens": (Cap(5_000_000, "total"),)}


def test_a_state_may_be_an_address_that_the_environment_holds_and_is_not_shown(tmp_path: Path) -> None:
    address = "postgresql://me:hunter2@db/fleet"
    environ = {"DATABASE_URL": address}
    named = load({"fleet": {"state": {"env": "DATABASE_URL"}}}, environ=environ, cwd=tmp_path)
    given = load({}, environ={}, cwd=tmp_path, state=address)
    assert named.state == given.state == address
    for settings in (named, given):
        assert "hunter2" not in repr(settings) + repr(show(settings)) + repr(settings.written)
    assert ("fleet.state", '{ env = "DATABASE_URL" }', "argument") in show(named)
    assert ("fleet.state", "postgresql://***@db/fleet", "argument") in show(given)


def test_a_state_in_memory_is_left_as_it_is(tmp_path: Path) -> None:
    assert load({}, environ={}, cwd=tmp_path, state=":memory:").state == ":memory:"


def test_the_file_of_a_secret_is_found_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "longwatch.toml").write_text('[fleet]\nroot = "work"\n[service.api]\nkey = { file = "keys/../api" }\n')
    assert load(environ={}, cwd=tmp_path).services["api"].key == Secret("file", str(tmp_path / "work/api"))


def test_home_is_the_one_of_the_environment(tmp_path: Path) -> None:
    config: Config = {"service": {"api": {"key": {"file": "~/keys/api"}}}}
    key = load(config, environ={"HOME": "/home/me"}, cwd=tmp_path).services["api"].key
    assert key == Secret("file", "/home/me/keys/api")


def test_the_fleet_is_named_after_its_folder_when_it_has_no_name(tmp_path: Path) -> None:
    folder = tmp_path / "my shop (1)"
    folder.mkdir()
    assert load({}, environ={}, cwd=folder).name == "my-shop-1"


def test_a_file_with_windows_line_ends_and_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "longwatch.toml").write_bytes(b"\xef\xbb\xbf[fleet]\r\n\r\nname = 'x'\r\n")
    settings = load(environ={}, cwd=tmp_path)
    assert (settings.name, settings.origin["fleet.name"]) == ("x", "longwatch.toml:3")


def test_loading_reads_nothing_but_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWATCH_AGENT", "from the real environment")
    monkeypatch.chdir(os.sep)
    assert load({}, environ={}, cwd=tmp_path).agent == "main"
