"""What is wrong is refused with file, line and key, and with what to do next; nothing is unlimited by a typo."""

from pathlib import Path

import pytest

from longwatch.config import Config, Secret, load, reveal
from longwatch.errors import ConfigError

KEY = "sk_" + "live_abcdefghijkl"


def refusal(tmp_path: Path, text: str) -> ConfigError:
    (tmp_path / "longwatch.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(environ={}, cwd=tmp_path)
    assert caught.value.hint, "says nothing of what to do"
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # values
        ("\n[service.stripe]\nrate = '25 per s'", "longwatch.toml:3: service.stripe.rate: '25 per s' is not a rate"),
        ("[service.a]\nrate = '0/s'", "longwatch.toml:2: service.a.rate: '0/s' is not a rate: 0 is not between 1 and "),
        ("[service.a]\nrate = 25", "longwatch.toml:2: service.a.rate: 25 is not a rate or a table of rates"),
        ("[service.a]\nrate = '5/month'", "a calendar window is a quota"),
        (
            "[service.a]\nrate = { requests = '-5/s' }",
            "longwatch.toml:2: service.a.rate.requests: '-5/s' is not a rate",
        ),
        (
            "[service.a.rate]\nrequests = '5/s'\ntokens = '5/s'",
            "longwatch.toml:3: service.a.rate.tokens: unknown rate tokens",
        ),
        ("[service.a]\nrate = '5/s'\nburst = 0", "longwatch.toml:3: service.a.burst: 0 is not between 1 and "),
        ("[service.a]\nrate = '5/s'\nburst = true", "service.a.burst: True is not a whole number"),
        ("[service.a]\nburst = 5", "longwatch.toml:2: service.a.burst: a burst of requests without a rate of requests"),
        ("[service.a]\nconcurrency = 0", "service.a.concurrency: 0 is not between 1"),
        ("[service.a]\nconcurrency = 2.0", "service.a.concurrency: 2.0 is not a whole number"),
        ("[service.a]\nconcurrency = 99999999999999999999", "is not between 1 and 1000000"),
        ("[service.a]\nquota = '5000/mouth'", "'mouth' is not a calendar window: did you mean month?"),
        ("[service.a]\nprice = 0.20", "service.a.price: 0.2 is not an amount of money"),
        ("[service.a]\nprice = '-0.20 USD'", "service.a.price: -0.20 USD is below zero"),
        ("[service.a]\nprice = '0.20 EUR'", "service.a.price: EUR has no exchange rate to the fleet's USD"),
        ("[service.a]\nbase_url = 'api.example.com'", "service.a.base_url: 'api.example.com' is not an address"),
        (
            '[service.a.model."x-*"]\nrate = "fast"',
            """longwatch.toml:2: service.a.model."x-*".rate: 'fast' is not a rate""",
        ),
        ('[service.a.model."x"]\nprice = "3 USD"', """service.a.model.x.price: '3 USD' is not a price of a model"""),
        ('[service.a.model."x"]\nprice = { input = "3 USD" }', "model.x.price: the price of output is missing"),
        ('[service.a.model."x"]\nprice = { input = "3", output = "3 USD" }', "price.input: '3' is not an amount"),
        ('[service.a.model."x"]\nprice = { inptu = "3 USD" }', "unknown price inptu: did you mean input"),
        (
            '[service.a.model."x"]\nprice = { input = "3 USD", output = "9 USD", above = 200000 }',
            "above and long belong together",
        ),
        ("[fleet]\nmoney = 50.0", "fleet.money: 50.0 is not an amount per calendar window"),
        ("[fleet]\nmoney = '50 USD'", "fleet.money: '50 USD' is not an amount per calendar window"),
        ("[fleet]\nmoney = '-50 USD/month'", "fleet.money: '-50 USD/month' is below zero"),
        ("[fleet]\nmoney = '50 GBP/month'", "fleet.money: GBP has no exchange rate to the fleet's USD"),
        (
            "[fleet]\nmoney = [\n'5 USD/day',\n'6 USD/day']",
            "longwatch.toml:4: fleet.money[1]: '6 USD/day' is a second cap per day",
        ),
        ("[fleet]\ncurrency = 'pound'", "fleet.currency: 'pound' is not a currency"),
        (
            "[fleet]\nexchange = { GBP = '1.25 EUR' }",
            "fleet.exchange.GBP: '1.25 EUR' is no rate from GBP to the fleet's USD",
        ),
        ("[fleet]\nexchange = { GBP = 1.25 }", "fleet.exchange.GBP: 1.25 is not an exchange rate"),
        ("[fleet]\nexchange = { GBP = '0 USD' }", "fleet.exchange.GBP: '0 USD' is not an exchange rate"),
        (
            "[fleet]\ntimezone = 'Europe/Londn'",
            "fleet.timezone: unknown time zone Europe/Londn: did you mean Europe/London?",
        ),
        ("[fleet]\ntimezone = '../etc/passwd'", "fleet.timezone: unknown time zone"),
        ("[fleet]\nlease = '0s'", "fleet.lease: 0s is not between 100ms and 1d"),
        ("[fleet]\nlease = 60", "fleet.lease: 60 is not a duration"),
        ("[fleet]\npayload = '1 B'", "fleet.payload: 1 B is not between 1 KiB and 256 MiB"),
        ("[fleet]\nname = 'my shop'", "fleet.name: 'my shop' is not a name"),
        ("[fleet]\nroot = 'nowhere'", "nowhere is not a folder"),
        ("[fleet]\nstate = 'mysql://db'", "fleet.state: unknown engine mysql"),
        ("[fleet]\nstate = ''", "fleet.state: '' is not a state"),
        ("[fleet]\nstate = { env = 'DATABASE_URL' }", "fleet.state: the environment variable DATABASE_URL is not set"),
        ("[fleet]\nadmission = 'redis.example.com'", "fleet.admission: unknown engine"),
        ("[fleet]\nadmission = 'redis://db'\naway = '60%'", "fleet.away: '60%' is not a part of a limit, 1% to 50%"),
        ("[fleet]\nadmission = 'redis://db'\naway = '0%'", "fleet.away: '0%' is not a part of a limit"),
        ("[fleet]\nadmission = 'redis://db'\naway = 0.1", "fleet.away: 0.1 is not a part of a limit"),
        (
            "[fleet]\naway = '10%'",
            "fleet.away: 10% of every limit is kept for when the admission engine is away, and none",
        ),
        ("[agent.a]\nrestart = '5 in 10m'", "agent.a.restart: '5 in 10m' is not a limit of restarts"),
        ("[agent.a]\nrestart = '5/0s'", "agent.a.restart: '5/0s': a window of no length limits nothing"),
        ("[agent.a]\ncron = '0 3 * *'", "agent.a.cron: '0 3 * *' has 4 fields, not 5"),
        ("[agent.a]\ncron = '0 25 * * *'", "agent.a.cron: '0 25 * * *': '25' is no value for hour (0 to 23)"),
        ("[agent.a]\nmissed = 'run_if_within'", "agent.a.missed: run_if_within needs to know how late is too late"),
        ("[agent.a]\noverlap = 'queu'", "agent.a.overlap: unknown value queu: did you mean queue?"),
        ("[agent.a]\nrun = []", "agent.a.run: [] is not a command"),
        ("[agent.a]\nrun = ['sleep', 5]", "agent.a.run[1]: 5 is not a text"),
        ("[agent.a]\nwork = 'billing.py'\nprocesses = 0", "agent.a.processes: 0 is not between 1 and 1024"),
        ("[agent.a]\nwork = 'a-b:lw'", "agent.a.work: 'a-b:lw' is not a module and the name of a fleet in it"),
        ("[agent.a]\nstdin = 'brif'", "agent.a.stdin: unknown stdin brif: did you mean brief?"),
        ("[agent.a]\nenv = { SITE = 1 }", "agent.a.env.SITE: 1 is not a text"),
        ("[agent.a]\npass_env = ['A', 'A']", "agent.a.pass_env[1]: 'A' is there twice"),
        ("[agent.a]\nmax_rss = '1500M'", "agent.a.max_rss: '1500M' is not a size"),
        ("[agent.a]\nrun = 'x'\nwork = 'y'", "longwatch.toml:3: agent.a.work: run and work exclude each other"),
        (
            "[budget.growth]\n[agent.a]\nbudget = 'grwoth'",
            "longwatch.toml:3: agent.a.budget: unknown budget grwoth: did you mean growth?",
        ),
        ("[budget.b]\nwarn = [0.5, 0.4]", "budget.b.warn[1]: 0.4 does not come after 0.5"),
        ("[budget.b]\nwarn = [80]", "budget.b.warn[0]: 80 is not a fraction above 0 and up to 1"),
        ("[budget.b]\nthen = 'cheaper'", "budget.b.then: cheaper needs two models at least"),
        (
            "[budget.b]\nthen = 'cheeper'",
            "longwatch.toml:2: budget.b.then: unknown value cheeper: did you mean cheaper?",
        ),
        (
            "[budget.b]\nthen = 'cheaper'\nmodels = [\n'claude-sonnet-5-5',\n'claude-haku-5-5']",
            "longwatch.toml:5: budget.b.models[1]: no price is known for claude-haku-5-5: did you mean claude-haiku-5-5?",
        ),
        (
            "[fleet]\ncurrency = 'GBP'\n[budget.b]\nmodels = ['gpt-4o', 'gpt-5']",
            "longwatch.toml:4: budget.b.models[0]: no exchange rate from USD to GBP",
        ),
        ("[budget.b]\ncalls = 1000", "budget.b.calls: 1000 is not an amount per calendar window"),
        ("[gateway]\nlisten = ':8317'", "gateway.listen: ':8317' is not an address to listen on"),
        ("[gateway]\nlisten = 'localhost:99999'", "is not an address to listen on"),
        ("[archive]\noutput = 'file'", "archive.output: unknown value file: did you mean files?"),
        ("[archive]\noutput_size = '1 B'", "longwatch.toml:2: archive.output_size"),
        ("[archive]\nto = 'ftp://x'", "archive.to: 'ftp://x' is not a place for an archive"),
        ("[memory]\nbrief_tokens = 6000.0", "memory.brief_tokens: 6000.0 is not a whole number"),
        ("[memory]\nbatch = 'yes'", "memory.batch: 'yes' is neither true nor false"),
        ("[memory]\nbatch = 1", "memory.batch: 1 is neither true nor false"),
        # names
        (
            "[service.stripe]\nrates = '25/s'",
            "longwatch.toml:2: service.stripe.rates: unknown key rates: did you mean rate?",
        ),
        ("[servce.stripe]", "longwatch.toml:1: servce: unknown section servce: did you mean service?"),
        ("[defaults.agnt]", "defaults.agnt: unknown key agnt: did you mean agent?"),
        ("[defaults.agent]\nrestrat = '1/1m'", "defaults.agent.restrat: unknown key restrat: did you mean restart?"),
        ('["agent"."a b"]', "longwatch.toml:1: agent.\"a b\": 'a b' is not a name"),
        ("agent = 'seo'", "longwatch.toml:1: agent: agent is a section, not a value"),
        ("[agent]\nseo = 1", "longwatch.toml:2: agent.seo: seo is a section, not a value"),
        ("[[service]]\nname = 'a'", "longwatch.toml:1: service: service is a section, not a value"),
        # inherited values stand where they are written
        ("[defaults.agent]\nstall = 'x'\n[agent.a]", "longwatch.toml:2: defaults.agent.stall: 'x' is not a duration"),
        # TOML itself
        ("[fleet]\nname = 'x", "longwatch.toml:2:10: is not TOML: "),
        ("a = 1\na = 2", "longwatch.toml:2:6: is not TOML: Cannot overwrite a value"),
        ("[fleet\n", "longwatch.toml:1:7: is not TOML: "),
        ("x = " + "[" * 5000, "is nested too deeply"),
    ],
)
def test_a_mistake_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text).message


@pytest.mark.parametrize(
    "text",
    [
        f"[service.stripe]\nkey = '{KEY}'",
        f"[service.stripe]\nkey = {{ env = '{KEY}' }}",
        f"[agent.a]\nenv = {{ STRIPE_API_KEY = '{KEY}' }}",
        f"[agent.a]\nrun = ['x', '--key', '{KEY}']",
        f"[anything]\nat_all = ['{KEY}']",
        "[service.stripe]\nkey = 'hunter2hunter2'",
        "[service.stripe]\nkey = { env = 'hunter2 hunter2' }",
        "[service.stripe]\nkey = { command = 'hunter2' }",
        "[fleet]\nstate = 'postgresql://me:hunter2@db/x'",
        "[fleet]\nadmission = 'redis://:hunter2@db'",
        "[service.a]\nbase_url = 'https://me:hunter2@api'",
        "[alerts]\nto = ['https://hooks.example.com/hunter2hunter2hunter2']",
        "[alerts]\nalive = 'https://example.com/?token=hunter2hunter2hunter2'",
    ],
)
def test_a_secret_written_in_full_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    error = refusal(tmp_path, text)
    assert "longwatch.toml:2" in error.message
    assert "env = " in error.hint
    assert "hunter2" not in str(error)
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{ evn = 'X' }", "unknown place of a secret: evn: did you mean env?"),
        ("{ env = 'X', file = 'y' }", "a secret has one place, not 2"),
        ("{}", "a secret has one place, not 0"),
        ("{ env = '' }", "env does not hold the name of an environment variable"),
        ("{ command = [] }", "command is not a list of words"),
    ],
)
def test_the_place_of_a_secret_is_checked(tmp_path: Path, place: str, message: str) -> None:
    assert message in refusal(tmp_path, f"[service.a]\nkey = {place}").message


def test_only_a_service_may_be_left_to_the_clients_own_login(tmp_path: Path) -> None:
    settings = load({"service": {"anthropic": {"key": "client"}}}, environ={}, cwd=tmp_path)
    assert settings.services["anthropic"].key == Secret("client")
    with pytest.raises(ConfigError, match="is not an address"):
        load({"alerts": {"alive": "client"}}, environ={}, cwd=tmp_path)


def test_an_alert_may_go_to_an_address_without_a_secret(tmp_path: Path) -> None:
    settings = load({"alerts": {"to": ["http://127.0.0.1:9000/alert"]}}, environ={}, cwd=tmp_path)
    assert settings.alerts.to == ("http://127.0.0.1:9000/alert",)


def test_a_budget_from_outside_is_checked_like_any_other(tmp_path: Path) -> None:
    config: Config = {"budget": {"growth": {}}}
    with pytest.raises(ConfigError, match="environment LONGWATCH_BUDGET: unknown budget grwoth: did you mean growth"):
        load(config, environ={"LONGWATCH_BUDGET": "grwoth"}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="argument: unknown budget grwoth"):
        load(config, environ={}, cwd=tmp_path, budget="grwoth")
    with pytest.raises(ConfigError, match="argument: agent 'a b' is not a name"):
        load(config, environ={}, cwd=tmp_path, agent="a b")
    with pytest.raises(ConfigError, match="argument: '' is not a path"):
        load(config, environ={}, cwd=tmp_path, state="")


def test_a_dict_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config: service\.stripe\.rates: unknown key rates: did you mean rate\?"):
        load({"service": {"stripe": {"rates": "25/s"}}}, environ={}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="config: service: 1 is not the name of a key"):
        load({"service": {1: {}}}, environ={}, cwd=tmp_path)
    with pytest.raises(ConfigError, match=r"config: fleet\.name: None is not a name"):
        load({"fleet": {"name": None}}, environ={}, cwd=tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load("nowhere.toml", environ={}, cwd=tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, environ={}, cwd=tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# one\n# \xe9")
    with pytest.raises(ConfigError, match=r"latin\.toml:2: is not UTF-8"):
        load("latin.toml", environ={}, cwd=tmp_path)
    (tmp_path / "huge.toml").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load("huge.toml", environ={}, cwd=tmp_path)


def test_a_secret_is_read_from_the_environment() -> None:
    assert reveal(Secret("env", "KEY"), {"KEY": "hunter2\n"}) == "hunter2"
    with pytest.raises(ConfigError, match="the environment variable KEY is not set"):
        reveal(Secret("env", "KEY"), {"KEY": " "})


def test_a_secret_is_read_from_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    secret = Secret("file", str(file))
    assert reveal(secret, {}) == "hunter2"
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=rf"\(mode {mode:04o}\)") as caught:
            reveal(secret, {})
        assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"x" * (64 * 1024 + 1)])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError):
        reveal(Secret("file", str(file)), {})


def test_a_secret_that_is_not_there_or_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        reveal(Secret("file", str(tmp_path / "key")), {})
    with pytest.raises(ConfigError):
        reveal(Secret("file", str(tmp_path)), {})
    for secret in (Secret("client"), Secret("command", command=("pass", "show"))):
        with pytest.raises(ConfigError, match="cannot be read here"):
            reveal(secret, {})
