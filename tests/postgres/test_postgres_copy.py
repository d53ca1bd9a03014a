"""A whole fleet moves from a file to a server and back: nothing is lost, and nothing is half there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import warm

import longwatch
from longwatch import Run
from longwatch.db.sqlite import SqliteDatabase, tables
from longwatch.db.tables import summed
from longwatch.runtime.world import Machine

PATIENCE_S = 60
OWN = {"fleet", "task", "record", "call", "worker", "lease", "lease_on", "lease_waiter"}  # what a copy has of its own


def command(*words: str, folder: Path) -> "subprocess.Popen[str]":
    return warm.Popen(
        [sys.executable, "-m", "longwatch", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def copied(source: str, target: str, *, folder: Path) -> tuple[int, Any, str]:
    process = command("state", "copy", source, target, "--json", folder=folder)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, json.loads(out), err


def lived_in(place: str, folder: Path, *, tasks: int = 60) -> None:
    """A fleet with tasks in many states, steps, calls, money, an edit, notes, and every kind of odd text."""
    config = {"fleet": {"root": str(folder)}, "service": {"bank": {"rate": "1000/s", "price": "0.20 USD"}}}
    with longwatch.open(place, config=config) as lw:

        @lw.task("pay", retries=1)
        def pay(run: Run, number: int, text: str) -> str:
            def charge() -> str:
                with run.call("bank") as call:
                    return call.key

            run.step("charge", charge)
            run.record("fact", text)
            if number % 7 == 0:
                raise longwatch.GiveUp(text)
            with run.edit("book.json") as edit:
                edit.write_json("book.json", {"number": number, **edit.read_json("book.json", default={})})
            return text

        dice = random.Random(7)
        odd = [
            "",
            "\x00\x01",
            "'; drop table task; --",
            "ünï 漢字 🦉",
            "\\u0000",
            "null",
            "[1, 2]",
            "%s $1 :name",
            "x" * 5_000,
        ]
        handles = [lw.submit(pay.bind(number=number, text=dice.choice(odd))) for number in range(tasks)]
        lw.work(until_idle=True)
        lw.submit("pay", {"number": 1, "text": "later"}, at="1h")
        lw.submit("pay", {"number": 2, "text": "after it"}, after=[handles[0].id])
        lw.submit("pay", {"number": 3, "text": "ready"}, key="a key")


def test_a_fleet_moves_to_a_server_and_back_with_nothing_lost(url: str, tmp_path: Path) -> None:
    first, last = str(tmp_path / "first.db"), str(tmp_path / "last.db")
    lived_in(first, tmp_path)
    status, there, err = copied(first, url, folder=tmp_path)
    assert status == 0, err
    with longwatch.open(
        url, config={"fleet": {"root": str(tmp_path)}, "service": {"bank": {"rate": "1000/s", "price": "0.20 USD"}}}
    ) as lw:
        done: list[int] = []

        @lw.task("pay")
        def pay(run: Run, number: int, text: str) -> int:
            done.append(number)
            return number

        assert lw.submit("pay", {"number": 3, "text": "ready"}, key="a key").state == "ready", "the key is known there"
        assert lw.work(until_idle=True).done == 1
        assert done == [3]
    status, back, err = copied(url, last, folder=tmp_path)
    assert status == 0, err
    assert back["epoch"] > there["epoch"] > 1
    database = SqliteDatabase(last, Machine())
    with database.read() as tx:
        now = {table.name: summed(tx, table) for table in tables()}
    database.close()
    for name, table in there["tables"].items():
        if name not in OWN | {"run", "meter", "spend", "calendar", "kind"} and not name.startswith("memory_"):
            assert (now[name].rows, now[name].digest) == (table["rows"], table["sha256"]), name
    before, after = there["tables"], back["tables"]
    assert all(after[name]["rows"] >= before[name]["rows"] for name in before if name != "worker")
    with longwatch.open(last, config={"fleet": {"root": str(tmp_path)}}) as lw:
        counts = lw.opened.parts.tasks
        assert counts.get(lw.submit("pay", {"number": 3, "text": "ready"}, key="a key").id).state == "done"


def test_a_copy_that_is_killed_left_nothing_and_is_made_again(url: str, tmp_path: Path) -> None:
    first = str(tmp_path / "first.db")
    lived_in(first, tmp_path, tasks=400)
    for delay_s in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9):
        process = command("state", "copy", first, url, folder=tmp_path)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        if process.wait(PATIENCE_S) == 0:
            break
    status, said, err = copied(first, url, folder=tmp_path)
    if status == 0:
        assert said["tables"]["task"]["rows"] == 403
    else:
        assert "holds a fleet already" in said["error"]["message"], err
    assert copied(first, url, folder=tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("none.db", "new.db", "there is no state none.db"),
        ("first.db", "first.db", "one state"),
        ("first.db", "mysql://x/y", "no engine"),
        ("first.db", "postgresql://nobody@127.0.0.1:1/none", "127.0.0.1"),
    ],
)
def test_what_cannot_be_copied_is_refused(source: str, target: str, words: str, tmp_path: Path) -> None:
    lived_in(str(tmp_path / "first.db"), tmp_path, tasks=1)
    status, said, _ = copied(source, target, folder=tmp_path)
    assert status in (1, 2)
    assert words in said["error"]["message"]


def test_a_fleet_at_work_is_not_copied(tmp_path: Path) -> None:
    lived_in(str(tmp_path / "first.db"), tmp_path, tasks=1)
    with longwatch.open(str(tmp_path / "first.db"), config={"fleet": {"root": str(tmp_path)}}) as lw:
        lw.opened.parts.enrol("worker_here", None)
        status, said, _ = copied("first.db", "new.db", folder=tmp_path)
        assert status == 2
        assert "1 workers are at work" in said["error"]["message"]
    assert os.path.getsize(tmp_path / "first.db") > 0
