"""The demo's work as a Longwatch handler: each module is summarised, paid for, reported on, reviewed and catalogued.

Every step is stored once; calls wait their turn and hold their money beforehand; the catalogue's files change together.
What dies half-way is done again by somebody else, from the step it had reached.
"""

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

import longwatch
from longwatch import BudgetExceeded, Run
from longwatch.demo import catalogue, marks, material
from longwatch.demo.catalogue import Entry
from longwatch.demo.figures import FEE, LEASE_S
from longwatch.demo.services import ANSWER_TOKENS, LIVE, PENCE, REVIEW_MODEL, SUMMARY_MODEL, Services, said
from longwatch.runtime.edit import Edit

FOLDER = "catalogue"
NOTHING = "0 USD"
PAUSES_S = (
    0.5,
    1.0,
    2.0,
)  # before a call is made again that Claude could not answer; after that the task's own retries
OVERLOADED = (500, 529)


@longwatch.task("catalogue", retries=40, crashes=20, timeout="2m", backoff="500ms")
def catalogue_module(run: Run, module: str) -> int:
    """One module from its source to its place in the catalogue; its running number there."""
    try:
        summary = run.step("summary", summarise, run, module)
        payment = run.step("payment", pay, run, module)
        issue = run.step("issue", report, run, module)
        opinion = run.step("review", review, run, module)
        number = run.step("book", book, run, module, summary, payment, issue, opinion)
        marks.at("booked", module)
        return number
    finally:
        marks.at("idle")


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
    """The answer. A service that is overloaded is asked again, each time as a call of its own that waits its turn."""
    prompt = api().prompt(material.read(module), what)
    answer = ask_once(run, model, module, prompt, budget=budget)
    for pause_s in PAUSES_S:
        if answer.status_code not in OVERLOADED:
            break
        time.sleep(pause_s)
        answer = ask_once(run, model, module, prompt, budget=budget)
    return said(answer.raise_for_status().json())


def ask_once(run: Run, model: str, module: str, prompt: str, *, budget: str) -> httpx.Response:
    weight = {"input_tokens": api().tokens(prompt), "output_tokens": ANSWER_TOKENS}
    marks.at("waiting", module)
    with run.call("anthropic", model=model, budget=budget, weight=weight) as call:
        marks.at("claude", module)
        answer = api().message(model, prompt)
        marks.at("claude-answered", module, answer.status_code)
        if answer.is_error:
            call.settle(money=NOTHING, input_tokens=0, output_tokens=0)
        else:
            call.settle(answer.json())
    return answer


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
    with run.edit(catalogue.INDEX, catalogue.LEDGER, entry.page, root=FOLDER, ttl=LEASE_S) as edit:
        return catalogue.book(Edited(edit), entry, lambda: marks.at("editing", module))


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
    return Services(live=LIVE in os.environ)
