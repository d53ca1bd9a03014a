"""The fleet itself: its name, its clock over reboots, and the fences, which only ever grow.

A fence is one integer made of (epoch, number): the epoch is raised by a restore, the number by every claim and lease.
The steady clock is the machine's boot clock plus an offset chosen once per boot, so that instants read as epoch
milliseconds, never run backwards over a boot, and never follow a jump of the wall clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from longwatch.db.connection import Clock, Database, Row, Transaction
from longwatch.policy import override as overrides
from longwatch.policy.difference import limits_from_json, limits_to_json
from longwatch.policy.limits import Limits, Override
from longwatch.policy.redact import Redactor
from longwatch.store.journal import Journal

EPOCH_BITS = 40


@dataclass(frozen=True)
class Fleet:
    """What every process of a fleet shares. rebooted: nothing that ran before can be running still."""

    name: str
    redaction_key: str
    config: str
    rebooted: bool


def enter(database: Database, clock: Clock, *, name: str, redaction_key: str) -> Fleet:
    """Join the fleet of this state, or found it; sets the database's clock offset."""
    with database.transaction() as tx:
        found = tx.one("fleet.found")
        rebooted = found is not None and found.boot_id != clock.boot_id()
        if found is None:
            offset_ms = clock.wall_ms() - clock.steady_ms()
            tx.count(
                "fleet.create", name=name, boot_id=clock.boot_id(), offset_ms=offset_ms, redaction_key=redaction_key
            )
        elif rebooted or clock.steady_ms() + int(found.offset_ms) < tx_latest(tx):  # or a server's clock was set back
            offset_ms = max(clock.wall_ms(), tx_latest(tx)) - clock.steady_ms()
            tx.count("fleet.reboot", boot_id=clock.boot_id(), offset_ms=offset_ms)
        else:
            offset_ms = int(found.offset_ms)
        row = tx.one("fleet.found")
        assert row is not None
        if found is not None and _fence(row) != _fence(found):
            journal = Journal(database, Redactor(row.redaction_key.encode()))
            journal.append(tx, "fleet.overtaken", "fleet", epoch=row.epoch, before=found.boot_id, now=row.boot_id)
    database.offset_ms = offset_ms
    return Fleet(row.name, row.redaction_key, row.config, rebooted)


def kept_config(database: Database) -> tuple[str, int]:
    """The limits and budgets in force, as JSON ("{}" in a new fleet), and how often they were changed."""
    with database.read() as tx:
        row = tx.one("fleet.found")
        return ("{}", 0) if row is None else (str(row.config), int(row.rules))


def keep_config(
    database: Database, journal: Journal, config: str, differences: list[str], *, rules: int, other_engine: bool = False
) -> int | None:
    """From now on these are in force: how often they were changed, with this time. other_engine: and another one decides.

    rules: how often, when the differences were found. None: they have been changed since.
    """
    with database.transaction() as tx:
        row = tx.one("fleet.keep_config", config=config, rules=rules)
        if row is None:
            return None
        if other_engine:
            tx.count("fleet.forget_engine")
        journal.append(tx, "config.changed", "fleet", differences=differences)
        return int(row.rules)


def set_budget(
    database: Database, journal: Journal, wanted: Sequence[Override], configured: Limits
) -> tuple[Limits, int]:
    """These caps count from now on, in place of the config's: the limits with them, and how often they were changed.

    configured: to begin with, in a fleet that no program has opened. Errors: ConfigError for an unknown budget.
    """
    with database.transaction() as tx:
        limits, rules = _in_force(tx, configured)
        for override in wanted:
            before = overrides.configured(overrides.at(limits, tx.wall_ms), override.budget, override.cap.window)
            limits = overrides.put(limits, override, tx.wall_ms)
            journal.append(
                tx,
                "budget.set",
                f"budget:{override.budget}",
                per=override.cap.window,
                money=override.cap.amount,
                before=None if before is None else before.amount,
                until_ms=override.until_ms,
            )
        return limits, _keep(tx, limits, rules)


def clear_budget(
    database: Database, journal: Journal, budget: str, configured: Limits
) -> tuple[Limits, int, tuple[Override, ...]]:
    """The config's caps of the budget count again. Also those that did until now. Errors: ConfigError for an unknown budget."""
    with database.transaction() as tx:
        before, rules = _in_force(tx, configured)
        limits = overrides.clear(before, budget, tx.wall_ms)
        gone = tuple(each for each in overrides.standing(before, tx.wall_ms) if each.budget == budget)
        if not gone:
            return before, rules, ()
        for override in gone:
            cap, until_ms = override.cap, override.until_ms
            journal.append(
                tx, "budget.cleared", f"budget:{budget}", per=cap.window, money=cap.amount, until_ms=until_ms
            )
        return limits, _keep(tx, limits, rules), gone


def _in_force(tx: Transaction, configured: Limits) -> tuple[Limits, int]:
    row = tx.one("fleet.found")
    assert row is not None
    return (configured if row.config == "{}" else limits_from_json(row.config)), int(row.rules)


def _keep(tx: Transaction, limits: Limits, rules: int) -> int:
    row = tx.one("fleet.keep_config", config=limits_to_json(limits), rules=rules)
    assert row is not None, "nobody else changes them meanwhile"
    return int(row.rules)


def tx_latest(tx: Transaction) -> int:
    """The last steady instant in this state."""
    row = tx.one("fleet.latest_instant")
    assert row is not None
    return int(row.at_ms)


def schema(tx: Transaction) -> int:
    """The number of the state's last migration."""
    row = tx.one("fleet.schema")
    assert row is not None
    return int(row.number)


def take_fences(tx: Transaction, amount: int = 1) -> range:
    """`amount` new fences, in order, each greater than every fence given before."""
    last = _fence(tx.one("fleet.take_fences", amount=amount))
    return range(last - amount + 1, last + 1)


def last_fence(tx: Transaction) -> int:
    """The greatest fence given so far."""
    return _fence(tx.one("fleet.found"))


def _fence(row: Row | None) -> int:
    assert row is not None
    return (int(row.epoch) << EPOCH_BITS) | int(row.fence)


def take_upkeep(database: Database, *, every_ms: int) -> bool:
    """Whether upkeep is due and this process is the one to do it."""
    with database.transaction(durable=False) as tx:
        return tx.count("fleet.take_upkeep", every_ms=every_ms) == 1


def note_killings(database: Database, journal: Journal) -> None:
    """Write down which processes had to be killed because they stood still in front of everybody."""
    killed = database.take_killed()
    if killed:
        with database.transaction(durable=False) as tx:
            for pid in killed:
                journal.append(tx, "process.killed", f"pid {pid}", reason="stopped while it held the state's lock")
