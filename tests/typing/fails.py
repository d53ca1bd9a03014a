"""Misuse that both type checkers must refuse: every line marked `# refused`, and no other."""

import longwatch
from longwatch import AsyncRun, Longwatch, Run


@longwatch.task()
def invoice(run: Run, customer: str, pence: int = 1) -> str:
    return customer


async def fetch(url: str) -> str:
    return url


@longwatch.task()
async def crawl(run: AsyncRun, url: str) -> int:
    text: int = await run.step("get", fetch, url)  # refused
    return text


@longwatch.task()  # refused
def no_run(customer: str) -> str:
    return customer


def misuse(lw: Longwatch, run: Run) -> None:
    invoice.bind(42)  # refused
    invoice.bind()  # refused
    invoice.bind("acme", pences=1)  # refused
    lw.submit(invoice.bind("acme"), lane="slow")  # refused
    lw.submit(invoice.bind("acme"), money=0.2)  # refused
    lw.submit(invoice.bind("acme"), after_failed="explode")  # refused
    task = lw.submit(invoice.bind("acme"))
    number: int = lw.wait(task).result  # refused
    run.step("a", str.upper)  # refused
    run.step("b", int, "1", bass=2)  # refused
    with lw.call("stripe", money=0.2) as call:  # refused
        call.settle(money=0.2)  # refused
    del number
