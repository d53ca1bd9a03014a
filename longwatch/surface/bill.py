"""A provider's bill as a sheet of comma-separated values: which call cost what."""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from longwatch.errors import ConfigError, LongwatchError
from longwatch.policy.estimate import micros_of
from longwatch.policy.limits import Limits
from longwatch.runtime.reconcile import Line

MOST = 1_000_000  # lines
FORM = "Its first line names its columns: key (or id), amount, currency. For example: key,amount,currency"


def read_bill(place: str, limits: Limits) -> list[Line]:
    """All of it, or an error that names the line; - is what is piped in.

    Errors: ConfigError for what cannot be read, UnknownPrice for a currency that has no rate.
    """
    try:
        if place == "-":
            return _lines(sys.stdin, "what is piped in", limits)
        with Path(place).open(encoding="utf-8-sig", newline="") as file:
            return _lines(file, place, limits)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = f'Give a file of UTF-8 text, or the amount: longwatch money reconcile CALL "0.12 {limits.currency}".'
        raise ConfigError(f"{place} cannot be read as a bill: {error}", hint=hint) from error


def _lines(text: Iterable[str], place: str, limits: Limits) -> list[Line]:
    found: dict[str, int] = {}
    lines: list[Line] = []
    for number, cells in _rows(text, place):
        name = cells["key"]
        if name in found:
            raise ConfigError(
                f"{place}:{number}: {name} is named again, after line {found[name]}",
                hint="Give each call one line with all that it cost.",
            )
        if len(lines) >= MOST:
            raise ConfigError(f"{place} has more than {MOST} lines", hint="Give it in parts.")
        found[name] = number
        lines.append(Line(name, _micros(cells, f"{place}:{number}", limits), f"{Path(place).name}:{number}"))
    return lines


def _rows(text: Iterable[str], place: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the line, and its cells: key, amount, currency. Empty lines are passed over."""
    sheet = csv.reader(text, strict=True)
    heads = [head.strip().lower() for head in next(sheet, list[str]())]
    named = next((name for name in ("key", "id") if name in heads), None)
    if named is None or "amount" not in heads or "currency" not in heads:
        raise ConfigError(f"{place} has the columns {', '.join(heads) or 'of an empty file'}", hint=FORM)
    places = {"key": heads.index(named), "amount": heads.index("amount"), "currency": heads.index("currency")}
    for row in sheet:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(places.values()) or not row[places["key"]].strip():
            raise ConfigError(f"{place}:{sheet.line_num}: a line without {named}, amount or currency", hint=FORM)
        yield sheet.line_num, {name: row[at].strip() for name, at in places.items()}


def _micros(cells: dict[str, str], place: str, limits: Limits) -> int:
    try:
        micros = micros_of(f"{cells['amount']} {cells['currency'].upper()}", limits)
    except LongwatchError as error:
        raise type(error)(f"{place}: {error.message}", hint=error.hint) from error
    if micros < 0:
        raise ConfigError(
            f"{place}: {cells['amount']} is less than nothing", hint="Give what the call cost in the end."
        )
    return micros
