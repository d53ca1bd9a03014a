"""The demo's report: one line for each promise, with both programs side by side, and how to check it oneself."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from longwatch.demo.audit import Outcome

MARKS = {True: ("kept", "green"), False: ("BROKEN", "bold red")}


def as_words(outcomes: Mapping[str, Outcome], checks: Mapping[str, str]) -> Iterator[Text]:
    """Lines. outcomes: by column, Longwatch's last. checks: the commands for Longwatch's column, by promise."""
    for outcome in outcomes.values():
        yield Text(f"{outcome.title}: {outcome.submitted} tasks in {outcome.seconds:.0f} s, {faults(outcome)}", "bold")
    for place, promise in enumerate(outcomes["longwatch"].promises):
        yield Text.assemble("\n", (f"{promise.id}  {promise.title}", "bold"))
        yield from (_line(outcome, place) for outcome in outcomes.values())
        yield Text.assemble(("    check it    ", "dim"), checks[promise.id])
    repeated = outcomes["longwatch"].repeated
    if repeated:
        names = ", ".join(call["module"] for call in repeated)
        yield Text(f"\nClaude was asked again where a worker died with the answer in its hands: {names}.")
    if len(outcomes) > 1:
        yield Text(
            "\nThe same commands check the home-made program: put home-made for longwatch in their paths.", "dim"
        )


def faults(outcome: Outcome) -> str:
    """What was done to the column."""
    return f"{outcome.killed} workers killed, {outcome.frozen} frozen, services down for {outcome.outage_s:.0f} s"


def _line(outcome: Outcome, place: int) -> Text:
    promise = outcome.promises[place]
    word, style = MARKS[promise.kept]
    return Text.assemble(f"    {outcome.title:<10}  ", (f"{word:<6}", style), f"  {promise.checked}")


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
