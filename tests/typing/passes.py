"""A program as users write it. Both type checkers must accept every line, and `main` must run."""

from pathlib import Path
from typing import TypedDict, assert_type

from anthropic import Anthropic, AsyncAnthropic

import longwatch
from longwatch import AsyncRun, Caps, GiveUp, Longwatch, Money, OwnCap, RetryLater, Run


class Booking(TypedDict):
    charge: str
    letter: str


def write_letter(run: Run, customer: str) -> str:
    with run.call("anthropic", money="0.01 USD", weight={"input_tokens": 40}) as call:
        call.settle(money="0.01 USD")
    return f"Dear {customer}"


def charge(run: Run, customer: str, pence: int) -> str:
    with run.call("stripe", budget="billing", money="0.20 GBP") as call:
        call.settle(money="0.20 GBP")
    return f"pi_{customer}_{pence}"


def book(run: Run, customer: str, charge_id: str) -> None:
    with run.edit("ledger.json", "index.json") as edit:
        ledger = edit.read_json("ledger.json", default={})
        edit.write_json("ledger.json", {**ledger, customer: charge_id})
        edit.write_json("index.json", sorted({**ledger, customer: charge_id}))


def send_mail(customer: str, letter: str) -> None: ...


async def fetch(url: str) -> str:
    return url


@longwatch.task()
async def crawl(run: AsyncRun, url: str) -> int:
    return len(await run.step("get", fetch, url))


@longwatch.task("invoice", retries=3, timeout="10m", needs={"stripe": {"requests": 1, "money": "0.20 GBP"}})
def invoice(run: Run, customer: str, pence: int = 1200) -> Booking:
    if customer == "nobody":
        raise GiveUp("no such customer")
    if customer == "later":
        raise RetryLater("10m", "bank closed")
    letter = run.step("letter", write_letter, run, customer)
    assert_type(letter, str)
    charge_id = run.step("charge", charge, run, customer, pence)
    run.step("book", book, run, customer, charge_id)
    run.once("mail", send_mail, customer, letter)
    run.record("decision", "charged before sending because the bank closes at five")
    run.earned("1200 GBP", "invoice 42")
    return {"charge": charge_id, "letter": letter}


def submitted(lw: Longwatch) -> None:
    task = lw.submit(invoice.bind("acme"), key="acme-2026-11", money="2 GBP", calls=50)
    assert_type(task, longwatch.Task[Booking])
    assert_type(lw.caps(task).money, OwnCap[Money] | None)
    assert_type(lw.set_caps(task.id, money="3 GBP", calls=60).tokens, OwnCap[int] | None)
    again = lw.submit(crawl.bind("https://x"), after=[task], after_failed="cancel")
    assert_type(again, longwatch.Task[int])
    by_name = lw.submit("invoice", {"customer": "nobody"}, lane="urgent")
    plan = lw.plan([invoice.bind(name) for name in ("acme", "zenith")])
    assert_type(plan, longwatch.Plan)
    assert plan.feasible or plan.change
    batch = lw.submit_batch("november", [invoice.bind(name) for name in ("acme", "zenith")])
    lw.work(agent="biller", until_idle=True)
    assert_type(lw.wait(task, timeout="5s").result, Booking)
    assert lw.wait(task.id).result["letter"] == "Dear acme"
    assert lw.wait(again).result == len("https://x")
    assert lw.wait(by_name).state == "failed"
    assert batch.wait(5).counts == {"done": 2}


def without_tasks(lw: Longwatch) -> None:
    with lw.call("github", agent="seo", budget="growth", weight={"requests": 1}, wait="30s") as call:
        assert call.key
    with lw.lease("name:deploy", agent="seo", ttl="60s", wait="30s") as lease:
        lease.check()
        assert lease.fence > 0
    with lw.edit("a.json", "b.json", agent="seo", root="workspace", ttl="60s", wait="30s") as edit:
        edit.write_json("a.json", [1])
        edit.append("b.json", "[2]\n")
        assert isinstance(edit.path("a.json"), Path)
    assert lw.read("a.json", "b.json", root="workspace").read_json("a.json") == [1]


def wrapped(lw: Longwatch) -> None:
    assert_type(lw.wrap(AsyncAnthropic(api_key="none"), budget="growth", count_tokens=True), AsyncAnthropic)
    assert_type(lw.wrap(Anthropic(api_key="none"), lane="urgent", wait="30s", max_tokens=4096, retries=3), Anthropic)


async def elsewhere(lw: Longwatch) -> None:
    async with lw.call("github"), lw.lease("name:report"):
        pass
    async with lw.aedit("c.txt") as edit:
        edit.write_text("c.txt", "c\n")
    task = await lw.aio.submit(crawl.bind("https://y"), calls=2)
    assert_type(await lw.aio.set_caps(task, calls=3), Caps)
    assert_type(task, longwatch.Task[int])
    await lw.aio.cancel(task.id)
    assert (await lw.aio.wait(task)).state == "cancelled"


CONFIG: longwatch.Config = {
    "fleet": {"name": "shop", "currency": "GBP", "exchange": {"USD": "0.80 GBP"}, "money": "200 GBP/month"},
    "service": {"stripe": {"rate": "25/s", "burst": 5}},
    "budget": {"growth": {"money": "50 GBP/month"}, "billing": {"money": "50 GBP/month"}},
}
