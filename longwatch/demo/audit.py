"""What became of the batch, judged from outside: by what the services saw, the files on disk and the clock.

What a program says of itself is used only where the promise is about that: how its tasks ended, what it believes it spent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longwatch.demo import catalogue, material
from longwatch.demo.column import Column
from longwatch.demo.figures import LEASE_S
from longwatch.demo.services import REVIEW_MODEL, SUMMARY_MODEL, Services, marker
from longwatch.demo.trace import Event
from longwatch.sandbox import prompt_digest

NOTICED_S = 3 * LEASE_S  # after a worker died or froze, somebody else has its task
PURSES = ("bookings", "summaries", "reviews")


@dataclass(frozen=True)
class Promise:
    """id: as in the list of promises. checked: what was looked at, and found."""

    id: str
    title: str
    kept: bool
    checked: str


@dataclass(frozen=True)
class Purse:
    """Micro-dollars. spent: as the program counts, None where it does not. billed: by the service."""

    cap: int
    spent: int | None
    billed: int


@dataclass(frozen=True)
class Struck:
    """A worker that died or froze. taken_s: until somebody else was at its task; None: nobody ever was."""

    event: Event
    taken_s: float | None


@dataclass
class Outcome:
    """One column, judged."""

    title: str
    seconds: float
    submitted: int
    done: int
    failed: int
    lost: int
    twice: list[str]
    answers: dict[str, int]
    refused: int
    purses: dict[str, Purse]
    flaws: list[str]
    readings: int
    flawed: int
    struck: list[Struck]
    killed: int
    frozen: int
    outage_s: float
    repeated: list[dict[str, Any]]
    payments: int
    issues: int
    promises: list[Promise] = field(default_factory=list[Promise])

    @property
    def broken(self) -> list[Promise]:
        return [promise for promise in self.promises if not promise.kept]

    @property
    def requests(self) -> int:
        return sum(self.answers.values())


def judge(column: Column, *, live: bool = False) -> Outcome:
    """The column's outcome and its promises. live: Claude's own bill is not to be seen here."""
    effects = column.effects
    payments = Counter(
        intent["description"] for intent in effects["payment_intents"] if intent["status"] == "succeeded"
    )
    issues = {
        module: sum(marker(module) in (issue["body"] or "") for issue in effects["issues"]) for module in column.every
    }
    booked = _booked(column.texts)
    made = (payments, issues, booked)
    answers = _answers(column.counts)
    outcome = Outcome(
        title=column.title,
        seconds=column.seconds,
        submitted=len(column.every),
        done=column.ledgers.done,
        failed=column.ledgers.failed,
        lost=len(column.every) - column.ledgers.done - column.ledgers.failed,
        twice=[module for module in column.every if any(count.get(module, 0) > 1 for count in made)],
        answers=answers,
        refused=answers.get("429", 0) + column.counts["github"]["statuses"].get("403", 0),
        purses=_purses(column, live=live),
        flaws=catalogue.flaws(column.texts),
        readings=column.readings,
        flawed=column.flawed,
        struck=[_struck(column, event) for event in column.trace.of("killed", "frozen", "died")],
        killed=len(column.trace.of("killed", "died")),
        frozen=len(column.trace.of("frozen")),
        outage_s=column.outage_s,
        repeated=_repeated(column),
        payments=payments.total(),
        issues=sum(issues.values()),
    )
    unfinished = [module for module in column.every if not payments[module] or not booked[module]]
    outcome.promises = [
        _once(outcome, unfinished, _wrong_issues(column.every, issues)),
        _whole(outcome),
        _paced(outcome),
        _within(outcome),
        _noticed(outcome),
    ]
    return outcome


# -- the promises --------------------------------------------------------------------------------------------------------


def _once(outcome: Outcome, unfinished: Sequence[str], wrong: Sequence[str]) -> Promise:
    kept = outcome.done == outcome.submitted and not (outcome.twice or unfinished or wrong)
    checked = (
        f"{outcome.done} of {outcome.submitted} done, {outcome.failed} failed, {outcome.lost} lost; "
        f"{outcome.payments} payments and {outcome.issues} issues, {len(outcome.twice)} modules done twice"
    )
    return Promise("P1", "every task done exactly once", kept, checked)


def _whole(outcome: Outcome) -> Promise:
    state = "consistent" if not outcome.flaws else f"{len(outcome.flaws)} flaws ({outcome.flaws[0]})"
    checked = f"catalogue {state}; {outcome.flawed} of {outcome.readings} readings meanwhile were half written or wrong"
    return Promise("P2", "no stale or half write", not outcome.flaws and not outcome.flawed, checked)


def _paced(outcome: Outcome) -> Promise:
    checked = f"{outcome.refused} of {outcome.requests} requests refused for their rate (429, or 403 from GitHub)"
    return Promise("P3", "never above a rate limit", outcome.refused == 0, checked)


def _within(outcome: Outcome) -> Promise:
    """Billed within the cap; and, where the program counts, not less counted than billed and never above the cap."""
    kept = all(purse.billed <= purse.cap for purse in outcome.purses.values()) and all(
        purse.billed <= purse.spent <= purse.cap for purse in outcome.purses.values() if purse.spent is not None
    )
    reviews = outcome.purses["reviews"]
    counted = "nothing" if reviews.spent is None else f"{reviews.spent / 1e6:.4f}"
    checked = (
        f"second opinions billed at {reviews.billed / 1e6:.4f} of {reviews.cap / 1e6:.2f} USD ({counted} by its own count); "
        f"payments at {outcome.purses['bookings'].billed / 1e6:.2f} of {outcome.purses['bookings'].cap / 1e6:.2f} USD"
    )
    return Promise("P4", "never above a budget", kept, checked)


def _noticed(outcome: Outcome) -> Promise:
    times = [struck.taken_s for struck in outcome.struck if struck.taken_s is not None]
    missed = len(outcome.struck) - len(times)
    kept = not missed and all(taken_s <= NOTICED_S for taken_s in times)
    slowest = f"the slowest after {max(times):.1f} s" if times else "none"
    checked = f"{len(times)} of {len(outcome.struck)} tasks of dead or frozen workers taken over by others, {slowest}"
    return Promise("P7", "no failure goes unnoticed", kept, checked)


# -- what there is to see ------------------------------------------------------------------------------------------------


def _booked(texts: Mapping[str, str]) -> Counter[str]:
    """How often each module is in the ledger; a line that cannot be read counts for nobody."""
    return Counter(line["module"] for line in catalogue.lines_of(texts.get(catalogue.LEDGER, "")))


def _wrong_issues(modules: Sequence[str], issues: Mapping[str, int]) -> list[str]:
    """Modules with an issue that leave nothing undocumented, or without one although they do."""
    return [module for module in modules if issues[module] != bool(material.read(module).undocumented)]


def _answers(counts: Mapping[str, Any]) -> dict[str, int]:
    statuses: Counter[str] = Counter()
    for service in counts.values():
        statuses.update(service["statuses"])
    return dict(sorted(statuses.items()))


def _purses(column: Column, *, live: bool) -> dict[str, Purse]:
    models, spent = column.bill["anthropic"]["models"], column.ledgers.spent
    billed = {
        "bookings": column.bill["stripe"]["micros"] * 5 // 4,
        "summaries": models.get(SUMMARY_MODEL, 0),
        "reviews": models.get(REVIEW_MODEL, 0),
    }
    if live:
        billed |= {"summaries": spent["summaries"], "reviews": spent["reviews"]}
    caps = {"bookings": column.caps.bookings, "summaries": column.caps.summaries, "reviews": column.caps.reviews}
    return {purse: Purse(caps[purse], spent.get(purse), billed[purse]) for purse in PURSES}


def _struck(column: Column, event: Event) -> Struck:
    """When somebody else first was at the task of the worker that was struck."""
    after = (seen for seen in column.trace.seen if seen.at_s > event.at_s and seen.module == event.module)
    taken = next((seen.at_s - event.at_s for seen in after if seen.pid != event.pid), None)
    return Struck(event, taken)


def _repeated(column: Column) -> list[dict[str, Any]]:
    """Questions that Claude answered more than once: nobody can keep a process from dying with the answer in its hands."""
    answered = {(row["model"], row["sha256"]): row["count"] for row in column.effects["answers"] if row["count"] > 1}
    if not answered:
        return []
    api = Services()
    asked = [(name, model, what) for name in column.every for model, what in _QUESTIONS]
    found: list[dict[str, Any]] = []
    for name, model, what in asked:
        prompt = api.prompt(material.read(name), what)
        times = answered.get((model, prompt_digest([{"role": "user", "content": prompt}])))
        if times:
            found.append({"module": name, "model": model, "times": times})
    return found


_QUESTIONS = ((SUMMARY_MODEL, "Summarise"), (REVIEW_MODEL, "Review"))
