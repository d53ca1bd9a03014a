"""The program that a simulated fleet runs: ordinary handlers, as a user writes them.

An `invoice` writes two letters (anthropic), looks a customer up and mails an issue (github), charges (stripe) and books
the charge in two files that must agree. A `crawl` looks at pages and notes their number in a file of its own agent. A
`report` reads both files of a book as of one instant. A `flaky` one fails as often as it is told to.

What a handler sends outside is marked with its task, so that the auditor can tell whose it was.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from longwatch.errors import GiveUp, RetryLater
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.runtime.handler import Handler
from longwatch.runtime.run import Run
from longwatch.surface.declare import task
from longwatch.testing import outside as world_outside
from longwatch.testing.machine import Process
from longwatch.testing.outside import Outside

BOOKS = 3  # that are written at one time; after SHELF_DAYS there are new ones, else every edit would copy a month
SHELF_DAYS = 7
LETTER_MOST = 30_000  # micro-units that a letter may cost
FEE = 200_000  # of a charge
DAILY = 6_000_000  # cap of the fleet's money a day and agent; some days need more
GROWTH = 400_000  # cap of the budget "growth" a day and agent

RATES: dict[str, dict[str, Rate]] = {
    "anthropic": {"requests": Rate(30, 60_000, 6), "output_tokens": Rate(14_000, 60_000, 1_200)},
    "stripe": {"requests": Rate(25, 1_000, 5)},
    "github": {"requests": Rate(3, 1_000, 4)},
}
MOST = {"anthropic": 3}
QUOTA = 118  # calls of github a day and agent; some days need more


def limits_for(agents: int) -> Limits:
    """What the fleet is allowed, in the outside world's own terms."""
    services = {
        name: Service(
            name,
            rates=rates,
            concurrency=MOST.get(name),
            quota=Cap(QUOTA * agents, "day") if name == "github" else None,
            price_micros=FEE if name == "stripe" else (0 if name == "github" else None),
            key_memory_ms=86_400_000 if name == "stripe" else None,
        )
        for name, rates in RATES.items()
    }
    budgets = {
        "growth": Budget("growth", caps={"money": (Cap(GROWTH * agents, "day"),)}, warn=(0.5, 0.8, 1.0)),
        "billing": Budget("billing", caps={"money": (Cap(10 * DAILY * agents, "week"),)}, warn=(0.5,)),
    }
    purses = {f"agent-{n}": Budget(f"agent-{n}", caps={"calls": (Cap(600, "day"),)}) for n in range(agents)}
    return Limits(fleet_money=(Cap(DAILY * agents, "day"),), services=services, budgets=budgets, agents=purses)


def services() -> list[world_outside.Service]:
    return [
        world_outside.Service(name, rates, most=MOST.get(name), remembers=name == "stripe")
        for name, rates in RATES.items()
    ]


_declared: list[Handler[..., Any]] = []


@dataclass(frozen=True)
class Program:
    """The handlers of one process. ran: told of every run that begins; torn: of files that do not agree."""

    process: Process
    outside: Outside
    ran: Callable[[str, str], None]
    torn: Callable[[str], BaseException]

    def handlers(self) -> list[Handler[..., Any]]:
        if not _declared:
            _declared.extend(
                (
                    task("invoice", retries=3, timeout="20m")(self.invoice),
                    task("crawl", retries=2, crashes=4)(self.crawl),
                    task("report", retries=5)(self.report),
                    task("flaky", retries=2, crashes=2)(self.flaky),
                )
            )
        return [self._own(handler) for handler in _declared]

    def _own(self, declared: Handler[..., Any]) -> Handler[..., Any]:
        """As declared, but this process's method: to read a signature costs more than the process does otherwise."""
        handler = copy(declared)
        handler.function = getattr(self, handler.kind)
        return handler

    # -- handlers --------------------------------------------------------------------------------------------------------

    def invoice(self, run: Run, customer: str, pence: int, book: int) -> dict[str, Any]:
        self.ran(run.task, run.id)
        run.step("look", self.look, run, "customer")
        words = run.step("letter", self.letter, run, 300)
        words += run.step("again", self.letter, run, 120)
        run.step("charge", self.charge, run)
        number = run.step("book", self.book, run, book, pence)
        run.once("mail", self.mail, run)
        return {"words": words, "number": number, "run": run.id}

    def crawl(self, run: Run, pages: int) -> dict[str, Any]:
        self.ran(run.task, run.id)
        for page in range(pages):
            run.step(f"page-{page}", self.look, run, f"page-{page}")
        run.step("summary", self.letter, run, 60)
        name = f"crawls/{run.agent}.json"
        with run.edit(name) as edit:
            known = edit.read_json(name, default=[])
            edit.write_json(name, [*known, run.task])
        return {"pages": pages, "run": run.id}

    def report(self, run: Run, book: int) -> dict[str, Any]:
        self.ran(run.task, run.id)
        index, lines = read_book(lambda *names: run.read(*names), book)
        if index["n"] != len(lines) or index["sum"] != sum(line[2] for line in lines):
            raise self.torn(f"book {book}: the index says {index}, the ledger has {len(lines)} lines")
        run.step("letter", self.letter, run, 80)
        with run.edit(f"reports/{book}.txt") as edit:
            edit.write_text(f"reports/{book}.txt", f"{index['n']} invoices, {index['sum']} pence\n")
        with run.edit(f"reports/{book}.log", f"reports/{book}.txt") as edit:
            edit.append(f"reports/{book}.log", f"{run.task}\n")
            if index["n"] % 7 == 0 and (
                edit.replayed or edit.read_text(f"reports/{book}.txt", default=None) is not None
            ):
                edit.delete(f"reports/{book}.txt")
        return {"n": index["n"], "run": run.id}

    def flaky(self, run: Run, fails: int, how: str) -> dict[str, Any]:
        self.ran(run.task, run.id)
        run.step("look", self.look, run, "flaky")
        if run.attempt <= fails:
            if how == "give up":
                raise GiveUp("no such customer")
            if how == "later":
                raise RetryLater("40s", "the bank is closed")
            raise ValueError("no luck")
        return {"how": how, "run": run.id}

    # -- steps -----------------------------------------------------------------------------------------------------------

    def look(self, run: Run, what: str) -> str:
        with run.call("github", budget="billing") as call:
            self.ask(run, "github", "look", "billing", key=call.key, takes_ms=90 + len(what) * 10)
        return what

    def letter(self, run: Run, words: int) -> int:
        weight = {"requests": 1, "output_tokens": words * 3}
        budget = "growth" if words < 200 else "billing"
        with run.call("anthropic", budget=budget, money="0.03 USD", weight=weight) as call:
            cost = LETTER_MOST * words // 400
            unused, takes_ms = {"output_tokens": words}, 800 + words * 20
            self.ask(
                run,
                "anthropic",
                "message",
                budget,
                key=call.key,
                cost=cost,
                units=weight,
                unused=unused,
                takes_ms=takes_ms,
            )
            call.settle(money=f"{cost / 1_000_000:.6f} USD", output_tokens=words * 2)
        return words

    def charge(self, run: Run) -> str:
        with run.call("stripe", budget="billing") as call:
            made = self.ask(run, "stripe", "charge", "billing", key=call.key, cost=FEE, takes_ms=350)
        assert made is not None
        return made.key

    def book(self, run: Run, book: int, pence: int) -> int:
        names = (f"books/{book}.json", f"books/{book}.txt")
        with run.edit(*names) as edit:
            index = edit.read_json(names[0], default={"n": 0, "sum": 0})
            self.process.driver.wait_until(self.process.driver.now_ms + 5)
            number = index["n"] + 1
            edit.write_json(names[0], {"n": number, "sum": index["sum"] + pence})
            edit.append(names[1], f"{number} {run.task} {pence}\n")
        return int(number)

    def mail(self, run: Run) -> str:
        with run.call("github", budget="billing") as call:
            self.ask(run, "github", "issue", "billing", key=call.key, takes_ms=240)
        return "sent"

    def ask(
        self,
        run: Run,
        service: str,
        what: world_outside.What,
        budget: str,
        *,
        key: str,
        takes_ms: int,
        cost: int = 0,
        units: dict[str, int] | None = None,
        unused: dict[str, int] | None = None,
    ) -> world_outside.Effect | None:
        return self.outside.request(
            self.process,
            service,
            what,
            task=run.task,
            agent=run.agent,
            budget=budget,
            key=key,
            cost=cost,
            units=units or {"requests": 1},
            unused=unused or {},
            takes_ms=takes_ms,
        )


def shelf(day: int) -> range:
    """The numbers of the books that are written on that day."""
    first = day // SHELF_DAYS * BOOKS
    return range(first, first + BOOKS)


def read_book(read: Callable[..., Any], book: int) -> tuple[dict[str, int], list[tuple[int, str, int]]]:
    """(index, lines as (number, task, pence)) of a book, as of one instant."""
    seen = read(f"books/{book}.json", f"books/{book}.txt")
    index = seen.read_json(f"books/{book}.json", default={"n": 0, "sum": 0})
    text = seen.read_text(f"books/{book}.txt", default="")
    words = text.split()
    return index, list(zip(map(int, words[::3]), words[1::3], map(int, words[2::3]), strict=True))
