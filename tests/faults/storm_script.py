# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
"""A fleet at work for test_storm: storm_script.py FOLDER COMMAND [ARGUMENT...].

    submit ROUND TASKS    submit a round's tasks, twice; prints how many were new each time
    work PROCESSES        work until idle
    audit                 the whole ledger as JSON, as another process sees it

What the handlers do outside the ledger is written where an auditor can count it: every task's book-keeping is one line
of a book, appended by an edit inside a step; every mail is one line of mail.log, appended by an effect that is never
repeated.
"""

import json
import os
import sys
import time
from pathlib import Path

import longwatch
from longwatch import RetryLater, Run
from longwatch.db.sqlite import SqliteDatabase

FOLDER = Path(sys.argv[1])
BOOKS = 5
lw = longwatch.open(FOLDER / ".longwatch" / "longwatch.db", config={"fleet": {"root": str(FOLDER), "lease": "1s"}})


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


def send(task: str) -> str:
    descriptor = os.open(FOLDER / "mail.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{task}\n".encode())
    os.close(descriptor)
    return "sent"


@lw.task("order", retries=3, crashes=1000, backoff=0.05)
def order(run: Run, number: int) -> int:
    run.step("think", think, 0.02)
    run.step("book", book, f"book-{number % BOOKS}.txt", run.task)
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
    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    with database.read():
        (row,) = database.connection.execute("select count(*) from task").fetchall()
    return int(str(row[0]))


def audit() -> None:
    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    told = {
        "tasks": "select id, kind, state, failures, crashes, result, args from task",
        "finished": "select task, count(*) from run where outcome = 'finished' group by task",
        "open_runs": "select id, task from run where ended_ms is null",
        "steps": "select task, name, state from step",
        "ended": "select task, count(*) from record where kind in ('task.done', 'task.unknown') group by task",
        "leases": "select id from lease",
        "pending_edits": "select id from edit where applied_ms is null",
        "checked": "pragma integrity_check",
    }
    sys.stdout.write(json.dumps({name: database.connection.execute(sql).fetchall() for name, sql in told.items()}))


if __name__ == "__main__":
    command, *rest = sys.argv[2:]
    if command == "submit":
        submit(rest[0], int(rest[1]))
    elif command == "work":
        sys.stdout.write(f"{lw.work(processes=int(rest[0]), until_idle=True)}\n")
    else:
        audit()
