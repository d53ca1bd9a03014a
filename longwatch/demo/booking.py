"""The demo's work as a Longwatch handler: each module is summarised, paid for, reported on, reviewed and catalogued.

Every step is stored once; calls wait their turn and hold their money beforehand; the catalogue's files change together.
What dies half-way is done again by somebody else, from the step it had reached.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import longwatch
from longwatch import BudgetExceeded, Run
from longwatch.demo import catalogue, marks, material
from longwatch.demo.catalogue import Entry
from longwatch.demo.services import ANSWER_TOKENS, PENCE, REVIEW_MODEL, SUMMARY_MODEL, Services, prompt_tokens, said
from longwatch.runtime.edit import Edit

FOLDER = "catalogue"
FEE = "0.20 GBP"
NOTHING = "0 USD"
LEASE = "5s"
SOURCE_CHARACTERS = "LONGWATCH_DEMO_SOURCE_CHARACTERS"


@longwatch.task("catalogue", retries=40, crashes=20, timeout="2m", backoff="500ms")
def catalogue_module(run: Run, module: str) -> int:
    """One module from its source to its place in the catalogue; its running number there."""
    summary = run.step("summary", summarise, run, module)
    payment = run.step("payment", pay, run, module)
    issue = run.step("issue", report, run, module)
    opinion = run.step("review", review, run, module)
    number = run.step("book", book, run, module, summary, payment, issue, opinion)
    marks.at("idle")
    return number


def summarise(run: Run, module: str) -> str:
    """Claude's sentence; the module's own first line once there is no money for one."""
    try:
        return ask(run, SUMMARY_MODEL, module, "Summarise", budget="summaries")
    except BudgetExceeded:
        return material.read(module).first_line


def review(run: Run, module: str) -> str | None:
    """A second opinion from a dearer model, for as long as its budget lasts."""
    try:
        return ask(run, REVIEW_MODEL, module, "Review", budget="reviews")
    except BudgetExceeded:
        return None


def ask(run: Run, model: str, module: str, what: str, *, budget: str) -> str:
    prompt = api().prompt(material.read(module), what)
    weight = {"input_tokens": prompt_tokens(prompt), "output_tokens": ANSWER_TOKENS}
    marks.at("waiting", module)
    with run.call("anthropic", model=model, budget=budget, weight=weight) as call:
        marks.at("claude", module)
        answer = api().message(model, prompt)
        marks.at("claude-answered", module, answer.status_code)
        if answer.is_error:
            call.settle(money=NOTHING, input_tokens=0, output_tokens=0)
        answer.raise_for_status()
        message: Any = answer.json()
        call.settle(message)
    return said(message)


def pay(run: Run, module: str) -> str:
    """Charged once however often this is repeated: Stripe knows the call by its key."""
    marks.at("waiting", module)
    with run.call("stripe", budget="bookings", money=FEE) as call:
        marks.at("stripe", module)
        answer = api().pay(module, call.key)
        marks.at("stripe-answered", module, answer.status_code)
        if answer.is_error:
            call.settle(money=NOTHING)
        answer.raise_for_status()
    return str(answer.json()["id"])


def report(run: Run, module: str) -> int | None:
    """The number of the issue about what the module leaves undocumented. Looks for its own marker before it opens one."""
    found = material.read(module)
    if not found.undocumented:
        return None
    marks.at("waiting", module)
    with run.call("github"):
        marks.at("github", module)
        answer = api().find_issue(module)
        marks.at("github-answered", module, answer.status_code)
    issues: list[Any] = answer.raise_for_status().json()["items"]
    if issues:
        return int(issues[0]["number"])
    marks.at("waiting", module)
    with run.call("github-content"):
        marks.at("github", module)
        answer = api().open_issue(found)
        marks.at("github-answered", module, answer.status_code)
    return int(answer.raise_for_status().json()["number"])


def book(run: Run, module: str, summary: str, payment: str, issue: int | None, opinion: str | None) -> int:
    letter = module[0].lower()
    entry = Entry(module, letter, summary, opinion, payment, issue, PENCE, str(run.agent), os.getpid())
    marks.at("waiting", module)
    with run.edit(catalogue.INDEX, catalogue.LEDGER, entry.page, root=FOLDER, ttl=LEASE) as edit:
        number = catalogue.book(Edited(edit), entry, lambda: marks.at("editing", module))
    marks.at("booked", module)
    return number


@dataclass(frozen=True)
class Edited:
    """The catalogue's files inside an edit."""

    edit: Edit

    def read(self, name: str) -> str:
        return self.edit.read_text(name, default="")

    def write(self, name: str, text: str) -> None:
        self.edit.write_text(name, text)

    def append(self, name: str, text: str) -> None:
        self.edit.append(name, text)


@cache
def api() -> Services:
    return Services(int(os.environ.get(SOURCE_CHARACTERS, "40000")))
