"""`money`: what was spent, is held and was earned; as words, JSON and a sheet."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime

import click
from rich.console import RenderableType
from rich.text import Text

from longwatch.errors import ConfigError, nearest
from longwatch.policy.duration import parse_text_ms
from longwatch.policy.limits import WINDOWS
from longwatch.policy.money import Money
from longwatch.policy.window import DAY_MS, LAST_MS, Span, spans, window_of, zone_of
from longwatch.surface.cli_base import BadUse, Group
from longwatch.surface.cli_look import cap_rows, cap_table
from longwatch.surface.cli_reconcile import reconcile_money
from longwatch.surface.output import heading, table
from longwatch.surface.session import Session
from longwatch.surface.statement import (
    AMOUNTS,
    BY,
    Figures,
    Statement,
    apart_json,
    drawn,
    figures_json,
    row_json,
    sheet,
)
from longwatch.surface.wire import at

USUAL = ("budget", "agent", "service")


@click.group(cls=Group, section="look", invoke_without_command=True)
@click.option("--since", metavar="WHEN", default="30d", show_default=True, help="From here on: 7d, 2026-11-01, month.")
@click.option("--until", metavar="WHEN", help="Up to here, and without it; left out: to the end.")
@click.option("--by", metavar="NAMES", multiple=True, help=f"A row for each of {', '.join(BY)}; several: agent,day.")
@click.option("--csv", "as_csv", is_flag=True, help="A sheet of comma-separated values.")
@click.pass_context
def money(context: click.Context, since: str, until: str | None, by: tuple[str, ...], as_csv: bool) -> None:
    """What was spent, is held and was earned, by whom, under which caps.

    WHEN is a length before now (7d), a day or an instant (2026-11-01, 2026-11-01T09:00:00Z), or the present window
    of a budget: minute, hour, day, week, month, total. Days are those of the fleet's time zone.
    """
    if context.invoked_subcommand is None:
        _money(context.ensure_object(Session), since, until, by, as_csv=as_csv)


money.add_command(reconcile_money)


def _money(session: Session, since: str, until: str | None, by: tuple[str, ...], *, as_csv: bool) -> None:
    if as_csv and session.out.json:
        raise BadUse("--csv and --json are two answers", hint="Give one of them.")
    asked, now_ms, limits = _by(by), session.parts.world.wall_ms(), session.limits
    spread = _spans(since, until, limits.timezone, now_ms)
    caps = session.parts.calls.limiter.peek().caps  # writes down what an engine beside the state has decided
    statement = drawn(session.parts.earnings, asked, spread, limits)
    if as_csv:
        sheet_text = io.StringIO()
        csv.writer(sheet_text, lineterminator="\n").writerows(sheet(statement))
        session.out.text(sheet_text.getvalue())
        return
    usual = statement if asked == USUAL else drawn(session.parts.earnings, USUAL, spread, limits)
    since_ms, until_ms = spread[0].starts_ms, spread[-1].ends_ms
    data = {
        "since_ms": max(0, now_ms - since_ms),
        "spent": [row_json(usual, row) for row in usual.rows if row.figures.calls],
        "caps": cap_rows(caps, limits.currency),
        "since_at": at(since_ms),
        "until_at": None if until is None else at(until_ms),
        "by": list(asked),
        "rows": [row_json(statement, row) for row in statement.rows],
        "total": figures_json(statement.total, limits.currency),
        "earned_apart": [apart_json(statement, apart) for apart in statement.apart],
    }
    session.out.answer(data, *_words(statement, since), heading("caps"), cap_table(caps, limits))


def _words(statement: Statement, since: str) -> list[RenderableType]:
    total, currency = statement.total, statement.currency
    rows = [(*(name or "-" for name in row.names), *_cells(row.figures, currency)) for row in statement.rows]
    if len(rows) > 1:
        rows.append(("total", *("",) * (len(statement.by) - 1), *_cells(total, currency)))
    headings = (*statement.by, ">calls", *(f">{name}" for name in AMOUNTS))
    words: list[RenderableType] = [table(headings, rows, empty=f"No call since {since}, and nothing earned.")]
    if statement.apart:
        apart = [(*(name or "-" for name in each.names), each.amount) for each in statement.apart]
        words += [
            heading("earned in currencies without a rate, and no part of the above"),
            table((*statement.by, ">earned"), apart, empty=""),
        ]
    if total.doubts:
        said = f"{total.doubts} calls are charged at their hold, because nobody knows what became of them: "
        words.append(Text(f"\n{said}longwatch money reconcile --list", style="yellow"))
    return words


def _cells(figures: Figures, currency: str) -> tuple[object, ...]:
    return figures.calls, *(Money(getattr(figures, name), currency) for name in AMOUNTS)


def _by(given: Sequence[str]) -> tuple[str, ...]:
    """Names of BY, in the order given, each once. Errors: BadUse."""
    names = [name.strip() for words in given for name in words.split(",")]
    for name in names:
        if name not in BY:
            raise BadUse(f"--by: there is no {name!r}{nearest(name, BY)}", hint=f"There are: {', '.join(BY)}.")
    return tuple(dict.fromkeys(names)) or USUAL


# -- since and until -----------------------------------------------------------------------------------------------------


def _spans(since: str, until: str | None, timezone: str, now_ms: int) -> list[Span]:
    """Errors: ConfigError for what is no time, and for a time that ends before it begins."""
    since_ms = _instant_ms(since, "--since", timezone, now_ms)
    until_ms = LAST_MS if until is None else _instant_ms(until, "--until", timezone, now_ms)
    if until_ms <= since_ms:
        raise ConfigError(
            f"--until {until} is not after --since {since}", hint="The time from one to the other is empty."
        )
    return spans(since_ms, until_ms, zone_of(timezone), known_ms=now_ms + 2 * DAY_MS)


def _instant_ms(text: str, option: str, timezone: str, now_ms: int) -> int:
    """Epoch milliseconds, never before 1970."""
    if text in WINDOWS:
        return window_of(now_ms, text, zone_of(timezone)).starts_ms
    if text[:4].isdigit() and "-" in text:
        return _date_ms(text, option, timezone)
    try:
        return max(0, now_ms - parse_text_ms(text))
    except ConfigError as error:
        hint = f"Write a length (7d), a day (2026-11-01), an instant, or one of {', '.join(WINDOWS)}."
        raise ConfigError(f"{option}: {error.message}", hint=hint) from error


def _date_ms(text: str, option: str, timezone: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "Write 2026-11-01, or 2026-11-01T09:00:00Z."
        raise ConfigError(f"{option}: {text!r} is neither a day nor an instant", hint=hint) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone_of(timezone))
    return max(0, round(found.timestamp() * 1000))
