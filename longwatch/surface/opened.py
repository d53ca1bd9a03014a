"""Opens a fleet: the one place where its parts are wired together. Handles of one state in one process share them."""

import atexit
import contextlib
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from longwatch import config as configuration
from longwatch.config import Settings
from longwatch.config.settings import AgentSettings
from longwatch.db.connection import Database
from longwatch.errors import ConfigError, LongwatchError
from longwatch.policy.difference import difference, limits_from_json, limits_to_json
from longwatch.policy.override import carry
from longwatch.policy.redact import Redactor
from longwatch.policy.retention import Rules
from longwatch.policy.window import zone_of
from longwatch.runtime.archive import Archives
from longwatch.runtime.call import Call
from longwatch.runtime.calls import Calls
from longwatch.runtime.files import Edits
from longwatch.runtime.handler import Registry
from longwatch.runtime.lease import Leases
from longwatch.runtime.loop import Bells, Sleeper, Threads
from longwatch.runtime.memory import Memories
from longwatch.runtime.output import FOLDER, Outputs
from longwatch.runtime.parts import Parts
from longwatch.runtime.run import RunCore
from longwatch.runtime.world import Machine, World
from longwatch.store import fleet
from longwatch.store.archivist import Archivists
from longwatch.store.edits import EditStore
from longwatch.store.journal import Journal
from longwatch.store.leases import LeaseStore
from longwatch.store.money import Earnings
from longwatch.store.retire import Retirement
from longwatch.store.runs import Runs
from longwatch.store.steps import Steps
from longwatch.store.tasks import Tasks
from longwatch.store.workers import Workers
from longwatch.surface import wrapping
from longwatch.surface.authors import author_of
from longwatch.surface.blocks import Turn
from longwatch.surface.engines import (
    identity,
    in_memory,
    is_remote,
    open_archive,
    open_limiter,
    open_memory,
    open_state,
)

SECRET_ENDINGS = ("_API_KEY", "_SECRET", "_TOKEN", "_PASSWORD")


@dataclass
class Opened:
    """One state, opened once in this process however many handles there are."""

    settings: Settings
    parts: Parts
    registry: Registry = field(default_factory=Registry)
    learned: set[str] = field(default_factory=set[str])  # kinds that the state knows of already
    handles: int = 0
    owner: str = ""  # random: whose leases and calls are those made outside of a run
    asleep: Callable[[int], Awaitable[None]] | None = None  # how code in an event loop sleeps, when not by real time

    def __post_init__(self) -> None:
        self.owner = self.parts.world.new_id("process")
        self.parts.calls.wrapper = self._wrap

    def _wrap(self, client: Any, run: RunCore, *, budget: str | None, lane: str, **given: Any) -> Any:
        """A client whose requests are calls of the run."""
        terms = wrapping.Terms(
            parts=self.parts,
            in_run=lambda: True,
            opens=run.call,
            block=self.block,
            asleep=self.asleep,
            account=(run.agent, budget or run.budget),
            options={"budget": budget, "lane": lane},
            **given,
        )
        return wrapping.wrap(client, terms)

    def block(self, call: Call) -> Turn:
        """The call as it is entered; it knows how long it may wait."""
        return Turn(call, self.parts.world.steady_ms, give_up=call.abandon, asleep=self.asleep)

    def close(self) -> None:
        self.parts.leases.close()
        self.parts.edits.close()
        if self.parts.archives is not None:
            self.parts.archives.close()
        self.parts.memories.close()
        try:
            self.parts.calls.owed.pay()  # nobody would end these calls before their holds run out
        finally:
            try:
                self.parts.calls.limiter.close()
            finally:
                self.parts.database.close()


_opened: dict[str, Opened] = {}
_guard = threading.Lock()


def _forget() -> None:
    """A forked child opens its own."""
    global _opened, _guard
    _opened, _guard = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _write_down() -> None:
    """The program ends, and nobody has closed its fleets: what they have not written down yet is theirs alone."""
    for opened in list(_opened.values()):
        with contextlib.suppress(LongwatchError):
            opened.parts.calls.limiter.flush()


atexit.register(_write_down)


def acquire(settings: Settings, make: Callable[[Settings], Opened] | None = None) -> Opened:
    """The opened state of these settings. Errors: StoreUnavailable, ConfigError when others run with other limits.

    make: opens it when it is not open yet; left out: as a part of the real world.
    """
    name = identity(settings.state)
    with _guard:
        found = _opened.get(name)
        if found is None:
            found = _opened[name] = wire(settings, Machine()) if make is None else make(settings)
        elif found.settings.admission != settings.admission:
            raise ConfigError(
                "this process has the state open already, with another admission engine",
                hint="Name the same one each time, or close the other first: two engines would let each call through twice.",
            )
        elif found.settings.limits != settings.limits:
            agree(found.parts, settings)
            found.settings = settings
        found.handles += 1
        return found


def release(opened: Opened) -> None:
    with _guard:
        opened.handles -= 1
        if opened.handles == 0:
            _opened.pop(identity(opened.settings.state), None)
            opened.close()


def wire(settings: Settings, world: World) -> Opened:
    """Open the state and put the parts of a fleet together."""
    state = open_state(settings, world)
    database = state.database
    try:
        joined = fleet.enter(database, state.clock, name=settings.name, redaction_key=secrets.token_hex(16))
        sleeper = Threads(world.steady_ms)
        known = secrets_of(os.environ)
        parts = assemble(settings, world, sleeper, database, joined, known, bells=state.bells, file=state.file)
        if joined.rebooted:
            parts.workers.end_all()
        agree(parts, settings)
        parts.edits.recover()  # whoever comes next finishes what a dead process had committed
    except BaseException:
        database.close()
        raise
    return Opened(settings, parts)


def assemble(
    settings: Settings,
    world: World,
    sleeper: Sleeper,
    database: Database,
    joined: fleet.Fleet,
    known_secrets: tuple[str, ...],
    *,
    bells: Bells | None = None,
    file: Path | None = None,
) -> Parts:
    """file: of the state, which nobody may edit; None when it is in memory or on a server."""
    journal = Journal(database, Redactor(joined.redaction_key.encode(), known_secrets))
    root = Path(settings.root)
    memories = memories_of(settings, database, journal, world, file)
    leases = Leases(store=LeaseStore(database, journal), root=root, world=world, sleeper=sleeper)
    edits = Edits(leases=leases, store=EditStore(database, journal, leases.store), world=world, state=file)
    archives = archives_of(settings, database, journal, memories, world, sleeper, file)
    if archives is not None:
        memories.archive = archives.opened
    parts = Parts(
        fleet=joined.name,
        world=world,
        sleeper=sleeper,
        database=database,
        journal=journal,
        tasks=Tasks(database, journal),
        runs=Runs(database, journal),
        steps=Steps(database, journal),
        workers=Workers(database, journal),
        earnings=Earnings(database, journal),
        calls=Calls(world, sleeper, open_limiter(settings, database, journal, joined, world)),
        leases=leases,
        edits=edits,
        memories=memories,
        bells=bells,
        agent=settings.agent,
        budget=settings.budget,
        lease_ms=settings.lease_ms,
        payload_max=settings.payload_max,
        archives=archives,
    )
    memories.author = author_of(settings, parts)
    return parts


def archives_of(
    settings: Settings,
    database: Database,
    journal: Journal,
    memories: Memories,
    world: World,
    sleeper: Sleeper,
    file: Path | None,
) -> Archives | None:
    if not memories.shared:
        return None
    asked = settings.archive
    return Archives(
        retirement=Retirement(database, settings.currency, zone_of(settings.timezone)),
        archivists=Archivists(database, journal),
        memories=memories,
        world=world,
        sleeper=sleeper,
        rules=Rules(asked.every_ms, asked.keep_ms, asked.most, asked.room, asked.shed),
        open=lambda: open_archive(settings, world),
        folder=None if is_remote(asked.to) else Path(asked.to),
        state=file,
        outputs=Outputs(output_folder(settings), asked.output_size, journal.redactor),
    )


def output_folder(settings: Settings) -> Path:
    """Where processes of this host print to, each to a file of its own."""
    return Path(settings.root) / ".longwatch" / FOLDER


def memories_of(settings: Settings, database: Database, journal: Journal, world: World, file: Path | None) -> Memories:
    return Memories(
        state=database,
        journal=journal,
        world=world,
        open=lambda: open_memory(settings, database, world, file),
        payload_max=settings.payload_max,
        snapshot_every=settings.memory.snapshot_every,
        brief_tokens=settings.memory.brief_tokens,
        shared=is_remote(settings.state) or not in_memory(file),
        charters={name: partial(read_charter, agent) for name, agent in settings.agents.items() if agent.charter},
    )


def read_charter(agent: AgentSettings) -> str:
    """Errors: ConfigError."""
    assert agent.charter is not None
    try:
        return agent.charter.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = f"Write the file, or take charter out of [agent.{agent.name}]."
        raise ConfigError(f"the charter of {agent.name} cannot be read: {error}", hint=hint) from error


def agree(parts: Parts, settings: Settings) -> None:
    """One config per fleet: limits live with the state. Alone, a process replaces them; else it must have the same."""
    kept, rules = fleet.kept_config(parts.database)
    before = None if kept == "{}" else limits_from_json(kept)
    wanted = settings.limits if before is None else carry(before, settings.limits)
    if before is not None and limits_to_json(before) == limits_to_json(wanted):  # older versions know fewer fields
        parts.calls.adopt(wanted, rules)
        return
    differences = [] if before is None else difference(before, settings.limits)
    at_work = [worker for worker in parts.workers.all() if not parts.is_dead(worker)]
    if differences and at_work:
        raise ConfigError(
            f"{len(at_work)} workers run this fleet with other limits: {'; '.join(differences)}",
            hint="Stop them first (the limits of a fleet are the same for all its processes), or use their config.",
        )
    other = before is not None and before.admission != settings.limits.admission
    changed = fleet.keep_config(
        parts.database, parts.journal, limits_to_json(wanted), differences, rules=rules, other_engine=other
    )
    if changed is None:
        agree(parts, settings)
    else:
        parts.calls.adopt(wanted, changed)


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of environment variables that are secrets by their names: never written anywhere."""
    return tuple(value for name, value in environ.items() if name.endswith(SECRET_ENDINGS) and value)


def read(
    state: str | os.PathLike[str] | None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None,
    *,
    admission: str | None = None,
    agent: str | None,
    budget: str | None,
) -> Settings:
    """The settings that these arguments, the environment and the config give. Errors: ConfigError."""
    place = None if state is None else os.fspath(state)
    source = os.fspath(config) if isinstance(config, os.PathLike) else config
    return configuration.load(
        source,
        environ=os.environ,
        cwd=Path.cwd(),
        state=place,
        admission=admission,
        agent=agent,
        budget=budget,
    )
