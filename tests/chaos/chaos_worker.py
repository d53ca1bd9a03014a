"""One worker process of a fleet under chaos: chaos_worker.py CONFIG STRIPE WITNESS [NAME]. It works until its input ends.

An order pays once through the limits (its key goes with it), writes once into a file of the fleet's or holds a till that
every host knows, mails at most once, and returns its number. What happens outside of the ledger: charges at Stripe's
stand-in, lines of books, lines of mail, and what each holder of a till saw, in a file of this process's own.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time

import httpx

import longwatch
from longwatch.errors import BudgetExceeded, LeaseLost, RetryLater, WaitTimeout
from longwatch.runtime.run import Run
from longwatch.runtime.world import Machine
from longwatch.surface import opened

CONFIG, STRIPE, WITNESS = sys.argv[1:4]
EDITS = os.environ.get("CHAOS_EDITS", "1") == "1"
BOOKS = TILLS = 5
SMALL = 3  # of so many orders one is paid from the small purse

AHEAD_MS = int(os.environ.get("CHAOS_AHEAD_MS", "0"))


class Skewed(Machine):
    """A machine whose calendar is set otherwise than the others'."""

    def wall_ms(self) -> int:
        return super().wall_ms() + AHEAD_MS


opened.__dict__["Machine"] = Skewed
lw = longwatch.open(config=CONFIG, agent="clerk", budget="large")
client = httpx.Client(
    timeout=30, trust_env=False, transport=httpx.HTTPTransport(uds=os.environ["CHAOS_STRIPE"] or None)
)
witness = os.open(f"{WITNESS}.{lw.opened.owner}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@lw.task("order", retries=1000, crashes=1000, backoff=0.05)
def order(run: Run, number: int) -> int:
    run.step("pay", pay, run, number)
    if EDITS and number % 2:
        run.step("book", book, run, number)
    else:
        run.step("till", hold_a_till, run, number)
    if number % 7 == 0:
        run.once("mail", send, number)
    return number


def pay(run: Run, number: int) -> str:
    purse, wait = ("small", "1s") if number % SMALL == 0 else ("large", "30s")
    try:
        with run.call("stripe", budget=purse, money="0.20 GBP", wait=wait) as call:
            answer = client.post(
                f"{STRIPE}/v1/payment_intents",
                headers={"Authorization": f"Bearer sk_test_{purse}", "Idempotency-Key": call.key},
                data={
                    "amount": "100",
                    "currency": "gbp",
                    "confirm": "true",
                    "payment_method": "pm_card_visa",
                    "description": str(number),
                },
            )
            if answer.status_code == 409:  # an earlier attempt with this key is still in flight
                raise RetryLater(0.1, "the same payment is in flight")
            answer.raise_for_status()
    except (BudgetExceeded, WaitTimeout) as error:  # spent; or held by calls of a host that may be dead or cut off
        if purse == "large":
            raise
        return f"refused: {error.code}"
    return "paid"


def book(run: Run, number: int) -> None:
    name = f"book-{number % BOOKS}.txt"
    with run.edit(name, f"count-{name}", ttl="2s") as edit:
        count = int(edit.read_text(f"count-{name}", default="0")) + 1
        edit.append(name, f"{number}\n")
        edit.write_text(f"count-{name}", str(count))


def hold_a_till(run: Run, number: int) -> None:
    """An exclusive lease. Of it is told when it was surely had: between asking and being told that it was."""
    name = f"name:till-{number % TILLS}"
    with run.lease(name, ttl="2s") as lease:
        taken = time.time_ns()
        saw(f"taken {name} {lease.fence} {taken}")
        with contextlib.suppress(LeaseLost):
            for _ in range(3):
                asked = time.time_ns()
                lease.check()
                saw(f"held {name} {lease.fence} {asked}")
                time.sleep(0.005)


def send(number: int) -> str:
    saw(f"mailed {number}")
    return "sent"


def saw(line: str) -> None:
    os.write(witness, f"{line}\n".encode())


def end_with_input() -> None:
    sys.stdin.read()
    while (
        signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):  # the first process of a host does not hear it before it listens
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def tell(pids: list[int]) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # asked by the director where it stands
    threading.Thread(target=end_with_input, daemon=True).start()
    lw.work(name=sys.argv[4] if len(sys.argv) > 4 else None, on_start=tell)
    lw.close()
