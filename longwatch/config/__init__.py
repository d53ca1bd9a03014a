"""The configuration: longwatch.toml and the environment, read once into frozen settings."""

from longwatch.config.agent_forms import Command, Restart
from longwatch.config.document import FILE_NAME, find
from longwatch.config.in_force import Shown, in_force
from longwatch.config.load import load, show
from longwatch.config.schema import schema
from longwatch.config.secret import Secret, reveal
from longwatch.config.settings import (
    AgentSettings,
    AlertSettings,
    ArchiveSettings,
    BudgetSettings,
    GatewaySettings,
    MemorySettings,
    ServiceSettings,
    Settings,
)
from longwatch.config.typed import Config

__all__ = [
    "FILE_NAME",
    "AgentSettings",
    "AlertSettings",
    "ArchiveSettings",
    "BudgetSettings",
    "Command",
    "Config",
    "GatewaySettings",
    "MemorySettings",
    "Restart",
    "Secret",
    "ServiceSettings",
    "Settings",
    "Shown",
    "find",
    "in_force",
    "load",
    "reveal",
    "schema",
    "show",
]
