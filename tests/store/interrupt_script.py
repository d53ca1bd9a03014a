"""Interrupts a process at random instants of its transactions, as Ctrl-C does: interrupt_script.py STATE SECONDS. Prints
how many interrupts came, and what was still held after any of them."""

import fcntl
import os
import random
import signal
import sys
import time

from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.runtime.world import Machine

STATE, SECONDS = sys.argv[1], float(sys.argv[2])
database = SqliteDatabase(STATE, Machine(), syncs=False)
migrate(database)
other = os.open(f"{STATE}.turn", os.O_RDWR)


def held() -> list[str]:
    found = ["the thread's lock"] if database._lock.locked() else []  # pyright: ignore[reportPrivateUsage]
    if database.connection.in_transaction:
        found.append("a transaction")
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return [*found, "the turnstile"]
    fcntl.flock(other, fcntl.LOCK_UN)
    return found


def transactions() -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 60e-6))
    for _ in range(3):
        with database.transaction(durable=False):
            pass


interrupts, left, until = 0, set[str](), time.monotonic() + SECONDS
while time.monotonic() < until and not left:
    try:
        transactions()
    except KeyboardInterrupt:
        interrupts += 1
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            break
        except KeyboardInterrupt:
            interrupts += 1
    left.update(held())
print(interrupts, *sorted(left), sep=";")  # noqa: T201
