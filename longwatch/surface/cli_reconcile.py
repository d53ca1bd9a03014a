"""`money reconcile`: a person or a bill says what calls cost whose outcome nobody knows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.admission.calls import Doubt
from longwatch.errors import ConfigError, LongwatchError, NotFound, Refused
from longwatch.policy.estimate import micros_of
from longwatch.policy.money import Money
from longwatch.runtime.reconcile import Finding, Line, reconcile
from longwatch.surface.bill import read_bill
from longwatch.surface.cli_base import BadUse, Command, pass_session
from longwatch.surface.output import heading, table
from longwatch.surface.person import person
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, at, listing

MOST = 10_000
SHOWN = 200  # lines of a bill that people are shown
SAYS = {
    "reconciled": "now settled",
    "corrected": "was settled at another amount, and is corrected",
    "same": "known already, at this amount",
    "differs": "known at another amount: not changed without --correct",
    "open": "open: its process may still say",
    "missing": "no call has this key or id",
    "ambiguous": "several calls have this key, and each is billed: name them by id",
}


@click.command("reconcile", cls=Command, section="look")
@click.argument("what", metavar="[CALL | KEY | FILE]", required=False)
@click.argument("amount", required=False)
@click.option("--list", "listed", is_flag=True, help="Calls whose outcome nobody knows, newest first.")
@click.option("--not-sent", is_flag=True, help="It never reached the service: it costs nothing.")
@click.option("--note", metavar="TEXT", default="", help="How you know; kept in the journal.")
@click.option("--correct", is_flag=True, help="Also where another amount is known already.")
@click.option("--dry-run", is_flag=True, help="Only tell what would come of it.")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, metavar="N", help="With --list.")
@pass_session
def reconcile_money(
    session: Session,
    what: str | None,
    amount: str | None,
    listed: bool,
    not_sent: bool,
    note: str,
    correct: bool,
    dry_run: bool,
    limit: int,
) -> None:
    """Say what calls cost that are charged at their hold.

    One call, by its id or key: CALL "0.12 GBP", or CALL --not-sent. Or a bill: a sheet of comma-separated values with
    the columns key (or id), amount, currency; - is what is piped in. Twice does no harm.
    """
    if (what is None) != listed or (amount is not None and not_sent):
        hint = '--list; CALL "0.12 GBP"; CALL --not-sent; FILE.csv. Give one of these.'
        raise BadUse("which call, and what did it cost?", hint=hint)
    if not dry_run:
        _end_the_silent(session)
    if what is None:
        _list(session, limit)
    elif amount is not None or not_sent:
        money = None if amount is None else micros_of(amount, session.limits)
        _one(session, Line(what, money, note), correct=correct, dry=dry_run)
    else:
        _bill(session, _lines_of(what, session), correct=correct, dry=dry_run)


def _end_the_silent(session: Session) -> None:
    """Calls of workers that are dead, and of whoever has been silent for long enough: they will not say any more."""
    parts = session.parts
    for worker in parts.workers.all():
        if parts.is_dead(worker):
            parts.calls.bury(worker.owner)
    parts.calls.expire()


# -- the list ------------------------------------------------------------------------------------------------------------


def _list(session: Session, limit: int) -> None:
    limiter, currency = session.parts.calls.limiter, session.limits.currency
    unknown, opened = limiter.doubts(limit=limit), limiter.doubts(state="open", limit=limit)
    data = listing("calls", [_doubt_json(doubt, currency) for doubt in unknown])
    words: list[RenderableType] = [_table(unknown, currency, "No call's outcome is unknown.")]
    if opened:
        words += [
            heading("open: known once their process says so, unknown once it has been silent for 10 minutes"),
            _table(opened, currency, ""),
        ]
    data["open"] = [_doubt_json(doubt, currency) for doubt in opened]
    session.out.answer(data, *words)
    if unknown:
        session.out.note(
            f'Find out what they cost, then: longwatch money reconcile CALL "0.12 {currency}", or --not-sent.'
        )


def _table(doubts: Sequence[Doubt], currency: str, empty: str) -> RenderableType:
    rows = [
        (
            each.id,
            each.service,
            each.agent,
            each.budget or "-",
            at(each.calendar_ms),
            Money(each.money, currency),
            _key(each),
        )
        for each in doubts
    ]
    return table(("call", "service", "agent", "budget", "made", ">charged", "key"), rows, empty=empty)


def _key(doubt: Doubt) -> str:
    return "" if doubt.key == doubt.id else doubt.key


def _doubt_json(doubt: Doubt, currency: str) -> Json:
    return {
        "id": doubt.id,
        "key": doubt.key,
        "state": doubt.state,
        "service": doubt.service,
        "model": doubt.model,
        "agent": doubt.agent,
        "budget": doubt.budget,
        "task": doubt.task,
        "made_at": at(doubt.calendar_ms),
        "money_micros": doubt.money,
        "held_micros": doubt.held,
        "currency": currency,
    }


# -- one call, and a bill --------------------------------------------------------------------------------------------------


def _one(session: Session, line: Line, *, correct: bool, dry: bool) -> None:
    found = _reconciled(session, line, correct=correct, dry=dry)
    error = _refusal(found, session.limits.currency)
    if error is not None:
        raise error
    _answer(session, [found], dry=dry)


def _refusal(found: Finding, currency: str) -> LongwatchError | None:
    name, charged = found.line.name, Money(found.before, currency)
    match found.outcome:
        case "missing":
            return NotFound(f"no call has the key or id {name}", hint="longwatch money reconcile --list shows some.")
        case "open":
            hint = "Wait until it is left, or for 10 minutes after its process has died."
            return Refused(f"{name} is open: its process may still say what it cost", hint=hint)
        case "differs":
            hint = 'Give the amount with --correct if that is wrong; "0 GBP" if it was never sent.'
            return ConfigError(f"{name} is known to have cost {charged}: nothing was changed", hint=hint)
        case "ambiguous":
            return ConfigError(f"{name}: {SAYS['ambiguous']}", hint=f"They are: {', '.join(found.calls)}.")
        case _:
            return None


def _lines_of(place: str, session: Session) -> list[Line]:
    if place != "-" and place.startswith("call_") and not Path(place).exists():
        raise BadUse(f"what did {place} cost?", hint=f'longwatch money reconcile {place} "0.12 GBP", or --not-sent.')
    return read_bill(place, session.limits)


def _bill(session: Session, lines: Sequence[Line], *, correct: bool, dry: bool) -> None:
    _answer(session, [_reconciled(session, line, correct=correct, dry=dry) for line in lines], dry=dry)


def _reconciled(session: Session, line: Line, *, correct: bool, dry: bool) -> Finding:
    return reconcile(session.parts.calls.limiter, line, by=person(), correct=correct, dry=dry)


def _answer(session: Session, findings: Sequence[Finding], *, dry: bool) -> None:
    currency = session.limits.currency
    counts = Counter[str](found.outcome for found in findings)
    data = {
        "dry_run": dry,
        "counts": {outcome: counts[outcome] for outcome in SAYS},
        "calls": [_finding_json(found, currency) for found in findings],
    }
    telling = [found for found in findings if found.outcome != "same"] or list(findings)[:1]
    rows = [
        (found.line.name, Money(found.before, currency), Money(found.after, currency), SAYS[found.outcome])
        for found in telling[:SHOWN]
    ]
    words: list[RenderableType] = [table(("call", ">charged", ">now", "what came of it"), rows, empty="No lines.")]
    if len(telling) > SHOWN:
        words.append(Text(f"and {len(telling) - SHOWN} more; --json shows all", style="dim"))
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    words.append(Text(f"\n{'It would be: ' if dry else ''}{said}"))
    session.out.answer(data, *words)


def _finding_json(found: Finding, currency: str) -> Json:
    return {
        "name": found.line.name,
        "from": found.line.note,
        "outcome": found.outcome,
        "calls": list(found.calls),
        "said_micros": found.line.money,
        "before_micros": found.before,
        "after_micros": found.after,
        "currency": currency,
    }
