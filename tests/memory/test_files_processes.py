"""Processes that change one file of the memory tool at once, and processes that are killed while they write."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from files_script import line

import longwatch
from longwatch import Longwatch, Memory
from longwatch.runtime.file_telling import LATE_MS
from longwatch.runtime.upkeep import Upkeep

SCRIPT = Path(__file__).with_name("files_script.py")


def started(place: str, name: str, rounds: int) -> "subprocess.Popen[str]":
    child = warm.Popen(
        [sys.executable, str(SCRIPT), place, name, str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def let_go(*children: "subprocess.Popen[str]") -> None:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()


def lines_of(memory: Memory, version: int | None = None) -> list[str]:
    files = memory.files
    found = files.show("/memories/shared.md") if version is None else files.version("/memories/shared.md", version)
    return (found.text or "").splitlines()


def told_once(lw: Longwatch) -> None:
    """Of every change there ever was the journal tells, and of none twice."""
    parts = lw.opened.parts
    with parts.memories.store.database.read() as tx:
        made = {row.change: row for row in tx.all("memory_files.history", agent="seo", after=0, limit=100_000)}
        assert tx.all("memory_files.untold", age_ms=0, limit=10) == []
    said = parts.journal.after(0, limit=100_000, kind="file.changed")
    assert sorted(each.subject for each in said) == sorted(made)
    for each in said:
        version = made[each.subject]
        assert (each.data["action"], each.data["who"]) == (version.action, version.who)


@pytest.fixture
def shared(lw: Longwatch) -> Memory:
    memory = lw.memory("seo")
    memory.files.answer({"command": "create", "path": "/memories/shared.md", "file_text": ""})
    return memory


def test_two_processes_that_edit_one_file_lose_nothing(place: str, lw: Longwatch, shared: Memory) -> None:
    rounds = 30
    children = [started(place, name, rounds) for name in ("one", "two")]
    let_go(*children)
    while any(child.poll() is None for child in children):
        lw.opened.parts.memories.catch_up()  # tells of what they are about to tell of
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    told_once(lw)
    last = [line(name, number) for name in ("one", "two") for number in range(rounds - 20, rounds)]
    assert sorted(lines_of(shared)) == sorted(last)
    found = shared.files.versions("/memories/shared.md", limit=1000)
    assert [each.version for each in found] == list(range(1 + 2 * (rounds + rounds - 20), 0, -1))
    owners = [each[:3] for version in found[:-1][::-1] for each in lines_of(shared, version.version)[:1]]
    assert {"one", "two"} <= set(owners), "they took turns"
    assert shared.verify() == ()


@pytest.mark.parametrize("seed", range(5))
def test_whoever_is_killed_while_it_writes_has_written_all_or_nothing(place: str, shared: Memory, seed: int) -> None:
    chance = random.Random(seed)
    child = started(place, "one", 10_000)
    let_go(child)
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(chance.randrange(1, 40))]
    try:
        child.wait(timeout=chance.random() / 50)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
    answered += [int(each) for each in child.stdout.read().split()]
    assert child.wait() == -signal.SIGKILL, f"seed {seed}"
    with longwatch.open(place) as again:
        memory = again.memory("seo")
        assert memory.verify() == (), f"seed {seed}"
        lines = lines_of(memory)
        numbers = [int(each.partition(" ")[0].partition("-")[2]) for each in lines]
        assert lines == [line("one", number) for number in numbers], f"seed {seed}: no torn line"
        assert numbers[0] in (answered[-1], answered[-1] + 1), f"seed {seed}: what was answered is there"
        assert numbers == list(range(numbers[0], numbers[-1] - 1, -1)), f"seed {seed}: nothing in between is lost"
        told = memory.files.answer({"command": "create", "path": "/memories/after.md", "file_text": "goes on"})
        assert not told.declined
        memory.brief(1000)
        told_once(again)


@pytest.mark.parametrize("mark", ["memory.file_written", "memory.file_told"])
@pytest.mark.parametrize("next_step", ["brief", "command", "upkeep"])
def test_what_a_killed_one_changed_is_told_by_whoever_comes_next_and_once(
    place: str, shared: Memory, lw: Longwatch, mark: str, next_step: str
) -> None:
    for command in (
        {"command": "insert", "path": "/memories/shared.md", "insert_line": 0, "insert_text": "written"},
        {"command": "rename", "old_path": "/memories/shared.md", "new_path": "/memories/folder/moved.md"},
        {"command": "delete", "path": "/memories/folder"},
    ):
        dying = f"""
import os, signal, longwatch
from longwatch.runtime import world
world.Machine.reach = lambda self, mark: mark == {mark!r} and os.kill(os.getpid(), signal.SIGKILL)
longwatch.open({place!r}).memory("seo").files.answer({command!r})
"""
        done = warm.run([sys.executable, "-c", dying])
        assert done.returncode == -signal.SIGKILL
    if next_step == "brief":
        shared.brief(1000)
    elif next_step == "upkeep":
        assert Upkeep(lw.opened.parts).step() is True
    else:
        told = lw.opened.parts.memories.telling.tell_late(age_ms=LATE_MS)
        assert told == 0, "they may live: so soon only who reads memory looks"
        shared.files.answer({"command": "create", "path": "/memories/b.md", "file_text": ""})
        lw.opened.parts.memories.telling.tell_late()
    told_once(lw)
    said = [each.data for each in lw.opened.parts.journal.after(0, limit=100, kind="file.changed")]
    moved = next(each for each in said if each["action"] == "rename")
    assert (moved["path"], moved["other"]) == ("/memories/folder/moved.md", "/memories/shared.md")
