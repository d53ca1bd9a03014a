"""What one invocation of the command line has: its options, its output, and the fleet, opened when it is first needed.

Looking never changes the rules: the fleet is opened with the limits that are in force in its state, whatever the config
file says by now. Only a program that works (`longwatch.open`) brings a changed file into force.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from longwatch import config as configuration
from longwatch.config import Settings
from longwatch.errors import ConfigError
from longwatch.policy.difference import limits_from_json
from longwatch.policy.limits import Limits
from longwatch.runtime.loop import Threads
from longwatch.runtime.parts import Parts
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.look import Look
from longwatch.surface import opened
from longwatch.surface.api import Longwatch
from longwatch.surface.engines import is_remote, open_state
from longwatch.surface.opened import Opened
from longwatch.surface.output import Output


@dataclass
class Session:
    """config, state: as given on the command line. out: where the command speaks."""

    out: Output = field(default_factory=Output)
    config: str | None = None
    state: str | None = None
    _settings: Settings | None = None
    _opened: Opened | None = None

    @property
    def settings(self) -> Settings:
        """Errors: ConfigError."""
        if self._settings is None:
            self._settings = configuration.load(self.config, environ=os.environ, cwd=Path.cwd(), state=self.state)
        return self._settings

    @property
    def parts(self) -> Parts:
        """Errors: ConfigError when there is no fleet here, StoreUnavailable."""
        return self._open().parts

    def _open(self) -> Opened:
        if self._opened is None:
            refuse_nowhere(self.settings)
            self._opened = join(self.settings)
        return self._opened

    @property
    def look(self) -> Look:
        return Look(self.parts.database)

    @property
    def limits(self) -> Limits:
        """In force, as the state keeps them."""
        return self.parts.calls.limiter.limits

    @property
    def lw(self) -> Longwatch:
        """The Python API over the same opened fleet."""
        opened = self._open()
        return Longwatch(opened, agent=self.settings.agent, budget=self.settings.budget)

    def now_ms(self) -> int:
        """On the fleet's clock, in which instants of tasks and leases are kept."""
        return self.parts.fleet_ms()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def refuse_nowhere(settings: Settings) -> None:
    """Errors: ConfigError when no fleet is here: a mistyped path shall not found an empty one."""
    state, origin = Path(settings.state), settings.origin["fleet.state"]
    if is_remote(settings.state) or state.exists():
        return
    if origin in ("argument", "environment LONGWATCH_STATE"):
        raise ConfigError(
            f"there is no state at {state} (from {'--state' if origin == 'argument' else origin})",
            hint="Check the path; the first program that calls longwatch.open(...) with it makes the state.",
        )
    if settings.file is None:
        raise ConfigError(
            f"there is no fleet here: no longwatch.toml in {Path.cwd()} or above, and no .longwatch/longwatch.db",
            hint="longwatch init starts one; --state PATH or --config PATH names one elsewhere.",
        )


def join(settings: Settings) -> Opened:
    """Open the state with the limits in force in it. Errors: StoreUnavailable, ConfigError."""
    world = Machine()
    state = open_state(settings, world)
    database = state.database
    try:
        joined = fleet.enter(
            database, state.clock, name=settings.name, redaction_key=world.new_id("key") + world.new_id("key")
        )
        kept, rules = fleet.kept_config(database)
        settings = settings if kept == "{}" else replace(settings, limits=limits_from_json(kept))
        known = opened.secrets_of(os.environ)
        sleeper = Threads(world.steady_ms)
        parts = opened.assemble(settings, world, sleeper, database, joined, known, bells=state.bells, file=state.file)
        parts.calls.adopt(settings.limits, rules)
        if joined.rebooted:
            parts.workers.end_all()
    except BaseException:
        database.close()
        raise
    return Opened(settings, parts)
