"""The demo's report: one line for each promise, with both programs side by side, and how to check it oneself."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from longwatch.demo.audit import Outcome

MARKS = {True: ("kept", "green"), False: ("BROKEN", "bold red")}


def as_words(outcomes: Mapping[str, Outcome], checks: Mapping[str, str]) -> RenderableType:
    """outcomes: by column, Longwatch's last. checks: the commands for Longwatch's column."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="bold")
    made.add_column("promise", no_wrap=True)
    for outcome in outcomes.values():
        made.add_column(f"{outcome.title}, {outcome.submitted} tasks, {outcome.seconds:.0f} s", ratio=1)
    for place, promise in enumerate(outcomes["longwatch"].promises):
        cells = [_cell(outcome, place) for outcome in outcomes.values()]
        made.add_row(f"{promise.id}  {promise.title}", *cells)
    lines = [Text.assemble((f"{name}  ", "bold"), command) for name, command in checks.items()]
    return Group(made, Text("Check it without Longwatch:", style="bold"), *lines)


def _cell(outcome: Outcome, place: int) -> Text:
    promise = outcome.promises[place]
    word, style = MARKS[promise.kept]
    return Text.assemble((word, style), " ", promise.checked)


def as_data(
    outcomes: Mapping[str, Outcome], checks: Mapping[str, Mapping[str, str]], *, seconds: float
) -> dict[str, Any]:
    """One object: Longwatch's column, the home-made one below `home_made`. seconds: of the whole demo."""
    whole = _column(outcomes["longwatch"], checks["longwatch"])
    home_made = outcomes.get("home_made")
    below = None if home_made is None else _column(home_made, checks["home_made"])
    return {**whole, "home_made": below, "total_seconds": round(seconds, 1)}


def _column(outcome: Outcome, checks: Mapping[str, str]) -> dict[str, Any]:
    purses = outcome.purses.values()
    return {
        "tasks": {
            "submitted": outcome.submitted,
            "done": outcome.done,
            "failed": outcome.failed,
            "lost": outcome.lost,
            "twice": len(outcome.twice),
        },
        "answers": outcome.answers,
        "refused": outcome.refused,
        "money": {
            "currency": "USD",
            "cap_micros": sum(purse.cap for purse in purses),
            "spent_micros": sum(purse.billed if purse.spent is None else purse.spent for purse in purses),
            "billed_micros": sum(purse.billed for purse in purses),
            "budgets": {
                name: {"cap_micros": purse.cap, "spent_micros": purse.spent, "billed_micros": purse.billed}
                for name, purse in outcome.purses.items()
            },
        },
        "catalogue": {
            "consistent": not outcome.flaws,
            "flaws": outcome.flaws,
            "readings": outcome.readings,
            "flawed_readings": outcome.flawed,
        },
        "faults": {"killed": outcome.killed, "frozen": outcome.frozen, "outage_s": outcome.outage_s},
        "promises": [
            {"id": promise.id, "kept": promise.kept, "checked": promise.checked, "command": checks[promise.id]}
            for promise in outcome.promises
        ],
        "repeated_calls": outcome.repeated,
        "seconds": round(outcome.seconds, 1),
    }
