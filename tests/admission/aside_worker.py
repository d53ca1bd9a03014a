"""One process of a fleet with a small cap. Run: aside_worker.py STATE ADMISSION ROLE NUMBER.

spend: uses up whatever of the cap is anybody's, until it is killed. work: does the batch's tasks. submit: submits batches
that set something aside, and cancels every other one, until it is killed. Each writes "ready" when it has opened the fleet.
"""

import contextlib
import random
import sys
import time
from typing import Any

import longwatch
from longwatch import BudgetExceeded, Longwatch, Run, WaitTimeout, task

CAP = 2_000_000
CONFIG: dict[str, Any] = {
    "fleet": {"currency": "GBP", "lease": "5s"},
    "service": {"api": {"concurrency": 40}},
    "budget": {"growth": {"money": "2 GBP total"}},
}


@task("pay", retries=0, crashes=50)
def pay(run: Run, number: int) -> int:
    """Three calls, of which each settles at less than it held."""
    for place in range(3):
        run.step(f"call-{place}", once, run, number * 3 + place)
    return number


def once(run: Run, number: int) -> int:
    with run.call("api", money="0.02 GBP") as call:
        time.sleep(0.02)
        call.settle(money=f"0.0{number % 2 + 1} GBP")
    return number


def spend(lw: Longwatch, number: int) -> None:
    chance, spender = random.Random(number), lw.agent("spender")
    while True:
        with contextlib.suppress(BudgetExceeded, WaitTimeout), spender.call("api", money="0.03 GBP", wait=0) as call:
            time.sleep(chance.uniform(0, 0.01))
            if chance.random() < 0.9:
                call.settle(money=f"0.0{chance.randint(1, 3)} GBP")
        time.sleep(0.002)


def submit(lw: Longwatch, number: int) -> None:
    for place in range(1_000_000):
        with contextlib.suppress(BudgetExceeded):
            batch = lw.submit_batch(f"{number}-{place}", [pay.bind(place)], needs={"api": {"money": "0.15 GBP"}})
            if place % 2:
                lw.cancel(batch[0].id)


def main() -> None:
    state, admission, role, number = sys.argv[1:]
    lw = longwatch.open(state, admission=admission, config=CONFIG, budget="growth")
    lw.include(pay)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if role == "work":
        lw.work(until_idle=True)
    else:
        {"spend": spend, "submit": submit}[role](lw, int(number))


if __name__ == "__main__":
    main()
