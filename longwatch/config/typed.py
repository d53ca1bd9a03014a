"""The form of a config that is a dict: the same sections and keys as longwatch.toml, for type checkers.

Durations may also be seconds or a timedelta, paths a Path.
"""

from datetime import timedelta
from pathlib import Path
from typing import Literal, TypedDict

Duration = str | float | timedelta
Caps = str | list[str]


class SecretPlace(TypedDict, total=False):
    env: str
    file: str
    command: list[str]


class Dimensions(TypedDict, total=False):
    requests: str
    input_tokens: str
    output_tokens: str


class Bursts(TypedDict, total=False):
    requests: int
    input_tokens: int
    output_tokens: int


class FleetConfig(TypedDict, total=False):
    name: str
    root: str | Path
    state: str | Path | SecretPlace
    admission: str | SecretPlace
    away: str
    currency: str
    exchange: dict[str, str]
    timezone: str
    money: Caps
    lease: Duration
    payload: str
    durability: Literal["full", "normal"]


class AgentConfig(TypedDict, total=False):
    run: str | list[str]
    work: str
    processes: int
    charter: str | Path
    stdin: str
    restart: str
    stall: Duration
    max_rss: str
    every: Duration
    cron: str
    missed: Literal["skip", "run_once", "run_if_within"]
    missed_within: Duration
    overlap: Literal["skip", "queue", "replace"]
    budget: str
    money: Caps
    calls: Caps
    tokens: Caps
    cwd: str | Path
    env: dict[str, str]
    pass_env: list[str]


class DefaultsConfig(TypedDict, total=False):
    agent: AgentConfig


class ModelConfig(TypedDict, total=False):
    rate: str | Dimensions
    burst: int | Bursts
    price: dict[str, str | int | dict[str, str]]  # input, output, cache_read, above, long


class ServiceConfig(TypedDict, total=False):
    key: Literal["client"] | SecretPlace
    base_url: str
    rate: str | Dimensions
    burst: int | Bursts
    concurrency: int
    quota: str
    price: str
    model: dict[str, ModelConfig]


class BudgetConfig(TypedDict, total=False):
    money: Caps
    calls: Caps
    tokens: Caps
    warn: list[float]
    then: Literal["stop", "cheaper"]
    models: list[str]


class GatewayConfig(TypedDict, total=False):
    listen: str


class AlertConfig(TypedDict, total=False):
    to: list[str | SecretPlace]
    alive: str | SecretPlace


class MemoryConfig(TypedDict, total=False):
    snapshot_every: int
    brief_tokens: int
    writer: str
    budget: str
    batch: bool


class ArchiveConfig(TypedDict, total=False):
    every: Duration
    keep: Duration
    to: str | Path
    size: str
    room: str
    shed: Literal["nothing", "archive"]
    output: Literal["terminal", "files"]
    output_size: str


class Config(TypedDict, total=False):
    """What `longwatch.open(config={...})` takes."""

    fleet: FleetConfig
    defaults: DefaultsConfig
    agent: dict[str, AgentConfig]
    service: dict[str, ServiceConfig]
    budget: dict[str, BudgetConfig]
    gateway: GatewayConfig
    alerts: AlertConfig
    memory: MemoryConfig
    archive: ArchiveConfig
