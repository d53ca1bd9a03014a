# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""A fleet at work for test_storm: storm_script.py FOLDER COMMAND [ARGUMENT...].

    submit ROUND TASKS    submit a round's tasks, twice; prints how many were new each time
    work PROCESSES        work until idle
    audit                 the whole ledger as JSON, as another process sees it

What the handlers do outside the ledger is written where an auditor can count it: every task's book-keeping is one line
of a book, appended by an edit inside a step; every payment is a call, and a line of bank.log with the call's key; every
mail is one line of mail.log, appended by an effect that is never repeated. STORM_STATE and STORM_ADMISSION name servers.
"""

import json
import os
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

import longwatch
from longwatch import RetryLater, Run
from longwatch.db.sqlite import SqliteDatabase

FOLDER = Path(sys.argv[1])
BOOKS = 5
SERVER = os.environ.get("STORM_STATE", "")
lw = longwatch.open(
    SERVER or FOLDER / ".longwatch" / "longwatch.db",
    config={
        "fleet": {
            "root": str(FOLDER),
            "lease": "1s",
            "currency": "GBP",
            "admission": os.environ.get("STORM_ADMISSION", ""),
        },
        "service": {"bank": {"rate": "1000/s", "burst": 20}},
        "budget": {"wages": {"money": "1000 GBP total"}},
    },
)


def think(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def book(name: str, task: str) -> str:
    with lw.edit(name, f"count-{name}", ttl="1s") as edit:
        count = int(edit.read_text(f"count-{name}", default="0")) + 1
        edit.append(name, f"{task}\n")
        time.sleep(0.01)
        edit.write_text(f"count-{name}", str(count))
    return name


def pay(run: Run) -> str:
    with run.call("bank", budget="wages", money="0.01 GBP") as call:
        note("bank.log", f"{run.task} {call.key}")
        call.settle(money="0.01 GBP")
    return call.key


def send(task: str) -> str:
    note("mail.log", task)
    return "sent"


def note(name: str, line: str) -> None:
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@lw.task("order", retries=3, crashes=1000, backoff=0.05)
def order(run: Run, number: int) -> int:
    run.step("think", think, 0.02)
    run.step("book", book, f"book-{number % BOOKS}.txt", run.task)
    run.step("pay", pay, run)
    if number % 7 == 0 and run.attempt == 1:
        raise ValueError("the first attempt of every seventh fails")
    if number % 11 == 0 and run.attempt == 1:
        raise RetryLater(0.05, "the first attempt of every eleventh comes back")
    run.step("think again", think, 0.01)
    return number


@lw.task("mail", retries=3, crashes=1000, backoff=0.05)
def mail(run: Run, number: int) -> int:
    run.step("think", think, 0.01)
    run.once("send", send, run.task)
    run.step("think again", think, 0.01)
    return number


def submit(round: str, tasks: int) -> None:
    """Of ten tasks one sends mail; of five orders one needs the two before it."""
    fresh: list[int] = []
    for _ in range(2):
        before = count()
        orders: list[str] = []
        for number in range(tasks):
            if number % 10 == 9:
                lw.submit(mail.bind(number), key=f"{round}-{number}")
            else:
                needs = orders[-2:] if number % 5 == 3 else []
                orders.append(lw.submit(order.bind(number), key=f"{round}-{number}", after=needs).id)
        fresh.append(count() - before)
    sys.stdout.write(json.dumps(fresh) + "\n")


def count() -> int:
    (row,) = asked("select count(*) from task")
    return int(str(row[0]))


def asked(sql: str) -> list[Any]:
    """On a server as a stranger; a file has to be read by who has it open."""
    if SERVER:
        with psycopg.connect(SERVER) as connection:
            return connection.execute(sql.encode()).fetchall()
    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    with database.read():
        return database.connection.execute(sql).fetchall()


def audit() -> None:
    told = {
        "tasks": "select id, kind, state, failures, crashes, result, args from task",
        "finished": "select task, count(*) from run where outcome = 'finished' group by task",
        "open_runs": "select id, task from run where ended_ms is null",
        "steps": "select task, name, state from step",
        "ended": "select task, count(*) from record where kind in ('task.done', 'task.unknown') group by task",
        "leases": "select id from lease",
        "pending_edits": "select id from edit where applied_ms is null",
        "open_calls": "select id, owner from call where state = 'open'",
        "calls": "select task, key, sum(money) as money from call where state <> 'open' group by task, key",
        "checked": "select 'ok'" if SERVER else "pragma integrity_check",
    }
    said = {
        name: [[int(v) if isinstance(v, Decimal) else v for v in row] for row in asked(sql)]
        for name, sql in told.items()
    }
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    command, *rest = sys.argv[2:]
    if command == "submit":
        submit(rest[0], int(rest[1]))
    elif command == "work":
        sys.stdout.write(f"{lw.work(processes=int(rest[0]), until_idle=True)}\n")
    else:
        audit()
