"""What a fleet is configured to be: frozen, typed, every value checked. Made by `load`, from the keys named here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from longwatch.config.address_forms import (
    ADMISSION,
    ARCHIVE,
    BASE_URL,
    FOLDER,
    LISTEN,
    PATH,
    RECEIVER,
    SERVICE_KEY,
    STATE,
)
from longwatch.config.agent_forms import (
    COMMAND,
    CRON,
    ENVIRONMENT,
    RESTART,
    STDIN,
    VARIABLE_NAME,
    WORK,
    Command,
    Restart,
)
from longwatch.config.forms import FRACTIONS, NAME, TEXT, YES, ZONE, choice, duration, list_of, size, whole
from longwatch.config.keys import Key, Table, Tables
from longwatch.config.limit_forms import (
    AWAY,
    BURSTS,
    COUNT_CAP,
    COUNT_CAPS,
    CURRENCY,
    EXCHANGE,
    MODEL_PRICE,
    MONEY_CAPS,
    PRICE,
    RATES,
)
from longwatch.config.secret import Secret
from longwatch.policy.limits import Cap, Limits, ModelPrice, Rate
from longwatch.policy.naming import MAIN

VARIABLES = list_of(VARIABLE_NAME, "a list of variables", '["SSH_AUTH_SOCK"]')
MODELS = list_of(TEXT, "a list of models", '["claude-sonnet-5-5", "claude-haiku-5-5"]')
RECEIVERS = list_of(RECEIVER, "a list of receivers", '[{ env = "ALERT_URL" }]')


@dataclass(frozen=True)
class FleetSettings:
    name: Annotated[str | None, Key("name", NAME, None, "of the fleet; left out: the name of its root folder")]
    root: Annotated[Path, Key("root", FOLDER, ".", "every path, edit and lease is relative to this folder")]
    state: Annotated[
        str, Key("state", STATE, ".longwatch/longwatch.db", "a file, or { env } of a postgresql:// address")
    ]
    admission: Annotated[str, Key("admission", ADMISSION, "", "a redis:// address; empty: the state's own engine")]
    away: Annotated[
        int | None, Key("away", AWAY, None, "part of every limit, for processes that cannot reach the admission engine")
    ]
    currency: Annotated[str, Key("currency", CURRENCY, "USD", "in which everything is counted")]
    exchange: Annotated[dict[str, int], Key("exchange", EXCHANGE, {}, "what one unit of another currency costs")]
    timezone: Annotated[str, Key("timezone", ZONE, "UTC", "in which days, weeks and months begin")]
    money: Annotated[tuple[Cap, ...], Key("money", MONEY_CAPS, [], "cap of the whole fleet: 200 GBP/month")]
    lease_ms: Annotated[int, Key("lease", duration("100ms", "1d"), "60s", "how long a lease lasts without a beat")]
    payload_max: Annotated[
        int, Key("payload", size(1024, 256 << 20), "1 MiB", "the most that arguments and results may take")
    ]
    durability: Annotated[
        Literal["full", "normal"],
        Key("durability", choice("full", "normal"), "full", "normal: a power cut may lose the last few seconds"),
    ]


@dataclass(frozen=True)
class AgentSettings:
    RIVALS: ClassVar[tuple[tuple[str, str], ...]] = (("run", "work"), ("every", "cron"))

    name: str
    run: Annotated[
        Command | None, Key("run", COMMAND, None, "the command; a list runs without a shell, a text with one")
    ]
    work: Annotated[str | None, Key("work", WORK, None, "a module whose handlers run, instead of a command")]
    processes: Annotated[int, Key("processes", whole(1, 1024), 1, "how many at once")]
    charter: Annotated[Path | None, Key("charter", PATH, None, "the file that says why the agent exists")]
    stdin: Annotated[Literal["none", "brief"] | Path, Key("stdin", STDIN, "none", "none, brief or file:PATH")]
    restart: Annotated[Restart, Key("restart", RESTART, "5/10m", "at most so many starts again, then parked")]
    stall_ms: Annotated[int, Key("stall", duration("1s", "52w"), "10m", "silent for so long, it is taken to hang")]
    max_rss: Annotated[int | None, Key("max_rss", size(1 << 20, 1 << 50), None, "memory of all its processes")]
    every_ms: Annotated[int | None, Key("every", duration("1s", "52w"), None, "started at this interval")]
    cron: Annotated[str | None, Key("cron", CRON, None, "started on this schedule; without either it is kept running")]
    missed: Annotated[
        Literal["skip", "run_once", "run_if_within"],
        Key("missed", choice("skip", "run_once", "run_if_within"), "run_once", "a start that was missed"),
    ]
    missed_within_ms: Annotated[
        int | None, Key("missed_within", duration("1s", "52w"), None, "how late run_if_within may start")
    ]
    overlap: Annotated[
        Literal["skip", "queue", "replace"],
        Key("overlap", choice("skip", "queue", "replace"), "skip", "a start while the last one still runs"),
    ]
    budget: Annotated[str | None, Key("budget", NAME, None, f"who pays; left out: {MAIN}")]
    money: Annotated[tuple[Cap, ...], Key("money", MONEY_CAPS, [], "cap of this agent: 5 GBP/day")]
    calls: Annotated[tuple[Cap, ...], Key("calls", COUNT_CAPS, [], "cap of this agent: 1000/day")]
    tokens: Annotated[tuple[Cap, ...], Key("tokens", COUNT_CAPS, [], "cap of this agent: 5000000/day")]
    cwd: Annotated[Path, Key("cwd", PATH, ".", "the folder it starts in")]
    env: Annotated[dict[str, str], Key("env", ENVIRONMENT, {}, "added to its environment")]
    pass_env: Annotated[tuple[str, ...], Key("pass_env", VARIABLES, [], "secrets that it inherits all the same")]


@dataclass(frozen=True)
class DefaultsSettings:
    agent: Annotated[AgentSettings, Table("agent", "every [agent.*] starts from this")]


@dataclass(frozen=True)
class ModelSettings:
    name: str
    rate: Annotated[dict[str, Rate], Key("rate", RATES, {}, "how fast calls of these models may leave")]
    burst: Annotated[dict[str, int], Key("burst", BURSTS, {}, "how many may leave at once")]
    price: Annotated[
        ModelPrice | None,
        Key("price", MODEL_PRICE, None, "of a million tokens, instead of the list's"),
    ]


@dataclass(frozen=True)
class ServiceSettings:
    """How a service is reached. Its limits are in `Settings.limits.services`, complete with what is documented of it."""

    name: str
    key: Annotated[Secret | None, Key("key", SERVICE_KEY, None, 'where its key is; "client": the agent\'s own login')]
    base_url: Annotated[str | None, Key("base_url", BASE_URL, None, "its address, when it is not the well-known one")]
    rate: Annotated[dict[str, Rate], Key("rate", RATES, {}, "how fast; left out: learned from its answers")]
    burst: Annotated[
        dict[str, int],
        Key("burst", BURSTS, {}, "how many at once; left out: a second's worth, of tokens per minute a minute's"),
    ]
    concurrency: Annotated[int | None, Key("concurrency", whole(1, 10**6), None, "calls at the same time")]
    quota: Annotated[Cap | None, Key("quota", COUNT_CAP, None, "calls per calendar window: 5000/month")]
    price_micros: Annotated[int | None, Key("price", PRICE, None, "of a call that does not say what it costs")]
    models: Annotated[
        dict[str, ModelSettings],
        Tables("model", "limits of models, by pattern; the narrowest counts", names=TEXT),
    ]


@dataclass(frozen=True)
class BudgetSettings:
    """What happens at a cap. The caps themselves are in `Settings.limits.budgets`."""

    name: str
    money: Annotated[tuple[Cap, ...], Key("money", MONEY_CAPS, [], "cap on money: 50 GBP/month, 5 GBP total")]
    calls: Annotated[tuple[Cap, ...], Key("calls", COUNT_CAPS, [], "cap on calls: 1000/day")]
    tokens: Annotated[tuple[Cap, ...], Key("tokens", COUNT_CAPS, [], "cap on tokens: 5000000/day")]
    warn: Annotated[tuple[float, ...], Key("warn", FRACTIONS, [0.5, 0.8, 1.0], "fractions of a cap that are reported")]
    then: Annotated[
        Literal["stop", "cheaper"], Key("then", choice("stop", "cheaper"), "stop", "at a cap: stop, or the next model")
    ]
    models: Annotated[tuple[str, ...], Key("models", MODELS, [], "for then = cheaper, dearest first")]


@dataclass(frozen=True)
class GatewaySettings:
    listen: Annotated[tuple[str, int], Key("listen", LISTEN, "127.0.0.1:8317", "host and port; port 0: any free one")]


@dataclass(frozen=True)
class AlertSettings:
    to: Annotated[tuple[Secret | str, ...], Key("to", RECEIVERS, [], "where alerts go")]
    alive: Annotated[Secret | str | None, Key("alive", RECEIVER, None, "pinged while all is well")]


@dataclass(frozen=True)
class MemorySettings:
    snapshot_every: Annotated[int, Key("snapshot_every", whole(10, 10**6), 1000, "tasks to a snapshot")]
    brief_tokens: Annotated[int, Key("brief_tokens", whole(200, 10**6), 6000, "the most a brief may take")]
    writer: Annotated[
        str | None, Key("writer", TEXT, None, "the model that writes snapshots; left out: none, they are made offline")
    ]
    budget: Annotated[str | None, Key("budget", NAME, None, f"who pays the writer; left out: {MAIN}")]
    batch: Annotated[
        bool, Key("batch", YES, False, "whether the writer is asked in batches: half the price, within a day")
    ]


@dataclass(frozen=True)
class ArchiveSettings:
    every_ms: Annotated[int, Key("every", duration("1m", "52w"), "1w", "how often a segment is closed")]
    keep_ms: Annotated[int, Key("keep", duration("1h", "5200w"), "26w", "how long segments are kept")]
    to: Annotated[str, Key("to", ARCHIVE, ".longwatch/archive", "a folder, or s3://bucket/prefix")]
    most: Annotated[int | None, Key("size", size(1 << 20, 1 << 60), None, "the most that segments may take together")]
    room: Annotated[
        int, Key("room", size(1, 1 << 60), "1 GiB", "less than this free on the state's disk: archived early")
    ]
    shed: Annotated[
        Literal["nothing", "archive"],
        Key(
            "shed",
            choice("nothing", "archive"),
            "nothing",
            "archive: oldest segments go when a quarter of room is left",
        ),
    ]
    output: Annotated[
        Literal["terminal", "files"],
        Key(
            "output",
            choice("terminal", "files"),
            "terminal",
            "files: what worker processes print goes to .longwatch/logs, and then to the archive",
        ),
    ]
    output_size: Annotated[
        int, Key("output_size", size(1 << 10, 1 << 30), "4 MiB", "where the next file of a process begins")
    ]


@dataclass(frozen=True)
class FileSettings:
    """The whole of longwatch.toml."""

    fleet: Annotated[FleetSettings, Table("fleet", "what all processes of the fleet share")]
    defaults: Annotated[DefaultsSettings, Table("defaults", "what other sections start from")]
    agents: Annotated[
        dict[str, AgentSettings], Tables("agent", "a named doer with a charter", inherits=("defaults", "agent"))
    ]
    services: Annotated[dict[str, ServiceSettings], Tables("service", "an API called from here")]
    budgets: Annotated[dict[str, BudgetSettings], Tables("budget", "who pays: agents and calls name it")]
    gateway: Annotated[GatewaySettings, Table("gateway", "the proxy that holds the keys")]
    alerts: Annotated[AlertSettings, Table("alerts", "how the operator is told")]
    memory: Annotated[MemorySettings, Table("memory", "briefs and snapshots")]
    archive: Annotated[ArchiveSettings, Table("archive", "where old logs go")]


@dataclass(frozen=True)
class Settings:
    """Everything that was configured, and where it came from.

    file: the config file, None without one. source: what `load` takes to find the same configuration again, in another
    process of the same folder; JSON can hold it. state: an absolute path or an address; like admission it may hold a
    password, and is therefore not shown. agent: who works here when nobody says. budget: who pays then, when an
    argument or the environment says so. origin, written: by dotted key, where a value came from ("longwatch.toml:12",
    "environment LONGWATCH_AGENT", "default", "argument") and how it is shown.
    """

    file: Path | None
    source: str | dict[str, object] = field(repr=False)
    name: str
    root: Path
    state: str = field(repr=False)
    admission: str = field(repr=False)
    lease_ms: int
    payload_max: int
    durability: Literal["full", "normal"]
    limits: Limits
    services: dict[str, ServiceSettings]
    agents: dict[str, AgentSettings]
    budgets: dict[str, BudgetSettings]
    gateway: GatewaySettings
    alerts: AlertSettings
    memory: MemorySettings
    archive: ArchiveSettings
    agent: str
    budget: str | None
    origin: dict[str, str] = field(repr=False)
    written: dict[str, str] = field(repr=False)

    @property
    def currency(self) -> str:
        return self.limits.currency

    @property
    def exchange(self) -> dict[str, int]:
        """Micro-units of the fleet's currency per unit of another."""
        return self.limits.exchange

    @property
    def timezone(self) -> str:
        return self.limits.timezone

    @property
    def money(self) -> tuple[Cap, ...]:
        """Caps of the whole fleet."""
        return self.limits.fleet_money

    def budget_of(self, agent: str) -> str:
        """Who pays for the agent when the call names nobody: argument, environment, the agent's config, else main."""
        settings = self.agents.get(agent)
        return self.budget or (settings.budget if settings else None) or MAIN
