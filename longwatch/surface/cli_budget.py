"""The noun budget: what each one has left, and caps that a person sets for a while."""

import os

import click

from longwatch.errors import ConfigError, Refused
from longwatch.policy.limits import Cap, Limits, Override
from longwatch.policy.money import Money
from longwatch.policy.override import at as limits_at
from longwatch.policy.override import check_budget, configured
from longwatch.policy.rate import format_window, parse_money_cap
from longwatch.policy.window import describe, instant_of
from longwatch.store import fleet
from longwatch.surface.cli_base import BadUse, Group, pass_session
from longwatch.surface.cli_look import cap_rows, cap_table
from longwatch.surface.own_caps import refuse_counts, set_caps, task_named
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, at, listing

LARGEST = 10**15  # micro-units: above it an amount is a mistake


@click.group(cls=Group, section="things")
def budget() -> None:
    """Budgets: who pays, and how much is left."""


@budget.command("list")
@pass_session
def list_budgets(session: Session) -> None:
    """Every cap in force, with what is spent, held, and set aside for batches."""
    caps, limits = session.parts.calls.limiter.peek().caps, session.limits
    session.out.answer(listing("budgets", cap_rows(caps, limits.currency)), cap_table(caps, limits))


@budget.command("set")
@click.argument("name")
@click.argument("money", nargs=-1)
@click.option("--until", metavar="DATE", help="Until then: 2026-12-01, 2026-12-01T18:00; left out: until --clear.")
@click.option("--clear", is_flag=True, help="The config's caps count again.")
@click.option(
    "--calls", type=click.IntRange(0), metavar="N", help="Of a task: how many calls it may make in all its runs."
)
@click.option("--tokens", type=click.IntRange(0), metavar="N", help="Of a task: the tokens of all its calls.")
@pass_session
def set_budget(
    session: Session,
    name: str,
    money: tuple[str, ...],
    until: str | None,
    clear: bool,
    calls: int | None,
    tokens: int | None,
) -> None:
    """Put a cap in place of the config's for a while, for everybody.

    budget set growth "60 GBP/month" --until 2026-12-01. It stands in for the config's cap of the same window, is kept
    in the state, and counts at once. The file stays as it is, and counts again when the date has come.

    budget set task_ID "3 GBP" moves the cap that a task was submitted with, for good; --calls and --tokens likewise.
    """
    _refuse_the_governed()
    task = task_named(name, session.limits)
    if task is not None and not (until or clear):
        set_caps(session, task, money, calls, tokens)
        return
    if task is not None:
        raise BadUse(
            "the caps of a task are moved for good",
            hint=f'longwatch budget set {task} "3 USD", without --until, --clear',
        )
    refuse_counts(calls, tokens)
    if clear == bool(money) or (clear and until):
        raise BadUse(
            "give an amount, or --clear", hint=f'longwatch budget set {name} "60 USD/month" [--until DATE], or --clear'
        )
    if clear:
        _clear(session, name)
    else:
        _set(session, name, money, until)


def _refuse_the_governed() -> None:
    if os.environ.get("LONGWATCH_RUN"):
        raise Refused(
            "budgets are set by the operator, and this is an agent's run (LONGWATCH_RUN is set)",
            hint="Ask a person to run longwatch budget set.",
        )


def _set(session: Session, name: str, money: tuple[str, ...], until: str | None) -> None:
    parts, before = session.parts, session.limits
    check_budget(before, name)
    caps = [_cap(text, before) for text in money]
    if len({cap.window for cap in caps}) < len(caps):
        raise ConfigError("two caps for one window", hint="Give one amount for each window.")
    until_ms = None if until is None else _until(until, before, now_ms=parts.world.wall_ms())
    wanted = [Override(name, cap, until_ms) for cap in caps]
    counted = limits_at(before, parts.world.wall_ms())
    limits, rules = fleet.set_budget(parts.database, parts.journal, wanted, before)
    parts.calls.adopt(limits, rules)
    parts.calls.limiter.announce()
    data = [_override_json(override, counted, limits) for override in wanted]
    ends = "until it is cleared" if until_ms is None else f"until {describe(until_ms, limits.timezone)}"
    words = [
        f"{name}: {_was(configured(counted, name, cap.window), limits)} -> {_written(cap, limits)}, {ends}"
        for cap in caps
    ]
    session.out.answer({"set": data}, "\n".join(words))


def _clear(session: Session, name: str) -> None:
    parts, before = session.parts, session.limits
    limits, rules, gone = fleet.clear_budget(parts.database, parts.journal, name, before)
    parts.calls.adopt(limits, rules)
    parts.calls.limiter.announce()
    data = [_override_json(override, limits, limits) for override in gone]
    words = [
        f"{name}: {_written(each.cap, limits)} -> {_was(configured(limits, name, each.cap.window), limits)}, as configured"
        for each in gone
    ]
    session.out.answer({"cleared": data}, "\n".join(words) or f"{name}: nothing was set, the config counts")


def _cap(text: str, limits: Limits) -> Cap:
    cap = parse_money_cap(text, currency=limits.currency, exchange=limits.exchange)
    if cap.amount > LARGEST:
        raise ConfigError(f"{text!r} is above a billion", hint="Check the amount and its currency.")
    return cap


def _until(text: str, limits: Limits, *, now_ms: int) -> int:
    """Epoch milliseconds. Errors: ConfigError, for a date that has passed too."""
    until_ms = instant_of(text, limits.timezone)
    if until_ms <= now_ms:
        raise ConfigError(
            f"--until {text} has passed: it is {describe(now_ms, limits.timezone)}",
            hint="Name a date to come; --clear ends it now.",
        )
    return until_ms


def _override_json(override: Override, instead: Limits, limits: Limits) -> Json:
    """instead: the limits that have what it took the place of, or gives its place to."""
    found = configured(instead, override.budget, override.cap.window)
    return {
        "budget": override.budget,
        "window": override.cap.window,
        "cap_micros": override.cap.amount,
        "instead_of_micros": None if found is None else found.amount,
        "currency": limits.currency,
        "until_at": at(override.until_ms),
    }


def _was(cap: Cap | None, limits: Limits) -> str:
    return "no cap" if cap is None else _written(cap, limits)


def _written(cap: Cap, limits: Limits) -> str:
    return f"{Money(cap.amount, limits.currency)}{format_window(cap.window)}"
