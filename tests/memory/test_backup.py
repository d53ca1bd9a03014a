"""Memory goes along with its state into a backup, back out of it, and into another state; and never by half."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import warm

import longwatch
from longwatch import Memory
from longwatch.policy.retention import Close
from longwatch.testing.postgres import shared

MORTAL = """\
import os, signal, sys
from longwatch.runtime import world
from longwatch.surface.cli import main

mark, sent = sys.argv.pop(1), signal.Signals[os.environ.get("SENT", "SIGKILL")]

def reach(self, found):
    if found == mark:
        os.kill(os.getpid(), sent)

world.Machine.reach = reach
main()
"""


class Fleet:
    """A folder with a state in it, and Longwatch's command line."""

    def __init__(self, folder: Path, state: str = "state.db") -> None:
        self.folder, self.state = folder, state
        (folder / "mortal.py").write_text(MORTAL)

    def __call__(self, *words: str, status: int = 0, killed_at: str | None = None) -> Any:
        program = ["-m", "longwatch"] if killed_at is None else ["mortal.py", killed_at]
        done = warm.run(
            [sys.executable, *program, *words, "--json"],
            cwd=self.folder,
            env={**os.environ, "LONGWATCH_STATE": self.state},
        )
        assert done.returncode == (status if killed_at is None else -signal.SIGKILL), done.stdout + done.stderr
        return json.loads(done.stdout) if killed_at is None else None

    def remember(self, word: str) -> None:
        """A record, and the same as a file."""
        with longwatch.open(self.place) as lw:
            memory = lw.memory("seo")
            memory.record("decision", f"the decision {word}")
            answer = memory.files.answer({"command": "create", "path": f"/memories/{word}.md", "file_text": word})
            assert not answer.declined

    @property
    def place(self) -> str:
        return self.state if "://" in self.state else str(self.folder / self.state)

    def remembered(self, state: str | None = None) -> list[str]:
        """Words of all records that recall finds, which are those of all files."""
        place = self.place if state is None else state
        with longwatch.open(place) as lw:
            memory = lw.memory("seo")
            assert memory.verify() == ()
            files = sorted(memory.files.show(each.path).text or "" for each in memory.files.list())
            found = [record.text.rpartition(" ")[2] for record in memory.list(kind="decision")]
            assert sorted(found) == files
            assert all(memory.recall(word)[0].text.endswith(word) for word in found)
            return files


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path)
    made.remember("first")
    return made


# -- backup and restore --------------------------------------------------------------------------------------------------


def test_a_backup_has_memory_beside_it_and_a_restore_brings_both_back(fleet: Fleet) -> None:
    made = fleet("state", "backup", "copy.db")
    assert (made["memory"]["records"], made["memory"]["files"], made["memory"]["agents"]) == (1, 1, 1)
    assert (fleet.folder / "copy.db.memory").stat().st_mode & 0o777 == 0o600
    fleet.remember("second")
    plan = fleet("state", "restore", "copy.db", "--dry-run")
    assert plan["memory"] == made["memory"]
    assert fleet.remembered() == ["first", "second"], "a dry run changes nothing"
    done = fleet("state", "restore", "copy.db", "--yes")
    assert fleet.remembered() == ["first"]
    assert fleet.remembered(done["kept"]) == ["first", "second"], "what was there is kept"
    fleet.remember("third")
    assert fleet.remembered() == ["first", "third"]


def test_a_backup_overwrites_no_memory_either(fleet: Fleet) -> None:
    (fleet.folder / "copy.db.memory").write_text("mine")
    assert "overwrites nothing" in fleet("state", "backup", "copy.db", status=2)["error"]["message"]
    assert (fleet.folder / "copy.db.memory").read_text() == "mine"
    assert not (fleet.folder / "copy.db").exists()


def test_a_fleet_without_memory_has_none_in_its_backup_and_keeps_what_it_has_since(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    longwatch.open(fleet.place).close()
    assert fleet("state", "backup", "copy.db")["memory"] is None
    assert not (tmp_path / "copy.db.memory").exists()
    fleet.remember("later")
    assert fleet("state", "restore", "copy.db", "--yes")["memory"] is None
    assert fleet.remembered() == ["later"]


def test_another_memory_or_a_damaged_one_is_refused_before_anything_moves(fleet: Fleet) -> None:
    fleet("state", "backup", "copy.db")
    good = (fleet.folder / "copy.db.memory").read_bytes()
    fleet.remember("second")
    fleet("state", "backup", "other.db")
    for content, why in (
        ((fleet.folder / "other.db.memory").read_bytes(), "is not the memory that was copied with copy.db"),
        (good[: len(good) // 2], "damaged"),
        (good[:8192] + bytes(4096) + good[12288:], "damaged"),
        (b"hello " * 1000, "not"),
        ((fleet.folder / "copy.db").read_bytes(), "not a memory"),
    ):
        (fleet.folder / "copy.db.memory").write_bytes(content)
        assert why in fleet("state", "restore", "copy.db", "--yes", status=1)["error"]["message"]
    assert fleet.remembered() == ["first", "second"]


@pytest.mark.parametrize("mark", ["restore.prepared", "restore.kept", "restore.cleared"])
def test_a_restore_that_is_killed_before_it_counts_has_changed_no_memory(fleet: Fleet, mark: str) -> None:
    fleet("state", "backup", "copy.db")
    fleet.remember("second")
    fleet("state", "restore", "copy.db", "--yes", killed_at=mark)
    assert fleet.remembered() == ["first", "second"]
    fleet.remember("third")
    fleet("state", "restore", "copy.db", "--yes")
    assert fleet.remembered() == ["first"]
    assert leftovers(fleet) == []


@pytest.mark.parametrize("next_step", ["open", "backup", "restore"])
def test_a_restore_that_is_killed_once_it_counts_is_finished_by_whoever_comes_next(
    fleet: Fleet, next_step: str
) -> None:
    fleet("state", "backup", "copy.db")
    fleet.remember("second")
    fleet("state", "restore", "copy.db", "--yes", killed_at="restore.renamed")
    if next_step == "backup":
        assert fleet("state", "backup", "after.db")["memory"]["records"] == 1
    if next_step == "restore":
        (fleet.folder / "copy.db.memory").unlink()
        fleet("state", "restore", "copy.db", "--yes")
    assert fleet.remembered() == ["first"]
    assert leftovers(fleet) == []


@pytest.mark.parametrize("mark", ["backup.copied", "backup.memory_linked"])
def test_a_backup_that_is_killed_is_no_backup_and_is_made_again(fleet: Fleet, mark: str) -> None:
    fleet("state", "backup", "copy.db", killed_at=mark)
    assert not (fleet.folder / "copy.db").exists()
    fleet.remember("second")
    assert fleet("state", "backup", "copy.db")["memory"]["records"] == 2
    assert [each.name for each in fleet.folder.iterdir() if each.is_dir()] == [], "what the killed one left is gone"
    fleet.remember("third")
    fleet("state", "restore", "copy.db", "--yes")
    assert fleet.remembered() == ["first", "second"]


def test_a_backup_keeps_off_another_one_that_lives_between_its_names(fleet: Fleet) -> None:
    one = subprocess.Popen(
        [sys.executable, "mortal.py", "backup.memory_linked", "state", "backup", "copy.db", "--json"],
        cwd=fleet.folder,
        env={**os.environ, "LONGWATCH_STATE": fleet.state, "SENT": "SIGSTOP"},
        stdout=subprocess.PIPE,
    )
    try:
        os.waitid(os.P_PID, one.pid, os.WSTOPPED | os.WNOWAIT)
        fleet.remember("second")
        refused = fleet("state", "backup", "copy.db", status=2)["error"]
        assert "copy.db.memory exists, without copy.db" in refused["message"]
        assert f"rm {fleet.folder / 'copy.db.memory'}" in refused["hint"]
        one.send_signal(signal.SIGCONT)
        assert one.wait(60) == 0
    finally:
        one.kill()
    fleet("state", "restore", "copy.db", "--yes")
    assert fleet.remembered() == ["first"], "the pair is of one backup"


def test_a_backup_that_comes_second_takes_its_memory_back(fleet: Fleet) -> None:
    """Somebody makes FILE between its two names."""
    one = subprocess.Popen(
        [sys.executable, "mortal.py", "backup.memory_linked", "state", "backup", "copy.db", "--json"],
        cwd=fleet.folder,
        env={**os.environ, "LONGWATCH_STATE": fleet.state, "SENT": "SIGSTOP"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.waitid(os.P_PID, one.pid, os.WSTOPPED | os.WNOWAIT)
        (fleet.folder / "copy.db").write_text("mine")
        one.send_signal(signal.SIGCONT)
        said, _ = one.communicate(timeout=60)
    finally:
        one.kill()
    assert "made by somebody else" in json.loads(said)["error"]["message"]
    assert (fleet.folder / "copy.db").read_text() == "mine"
    assert not (fleet.folder / "copy.db.memory").exists()


def leftovers(fleet: Fleet) -> list[str]:
    return sorted(each.name for each in fleet.folder.iterdir() if ".next-" in each.name)


# -- what has gone into the archive ------------------------------------------------------------------------------------------


def archived(fleet: Fleet) -> int:
    """Let what a snapshot covers leave; how many records have left since the beginning."""
    with longwatch.open(fleet.place, config=archiving(fleet.folder)) as lw:
        memory, archives = lw.memory("seo"), lw.opened.parts.archives
        assert archives is not None
        memory.record_many(
            {"kind": "result", "text": f"order {n}", "task": f"t{n}", "key": f"o{n}"} for n in range(150)
        )
        memory.compact(everything=True)
        archives.round(Close(0))
        left = archives.leaving.sources("seo")
        assert memory.verify() == memory.verify(whole=True) == ()
        return sum(left.values())


def archiving(folder: Path) -> longwatch.Config:
    return {"archive": {"to": folder / "archive"}, "memory": {"snapshot_every": 20}}


def test_a_restored_memory_knows_what_has_left_and_what_left_since_leaves_again(fleet: Fleet) -> None:
    left = archived(fleet)
    assert left > 50
    fleet("state", "backup", "copy.db")
    fleet.remember("second")
    with longwatch.open(fleet.place) as lw:
        more = [{"kind": "fact", "text": f"fact {n}", "key": f"f{n}"} for n in range(150)]
        lw.memory("seo").record_many(more)
    assert archived(fleet) > left
    fleet("state", "restore", "copy.db", "--yes")
    with longwatch.open(fleet.place, config=archiving(fleet.folder)) as lw:
        memory, archives = lw.memory("seo"), lw.opened.parts.archives
        assert archives is not None
        assert sum(archives.leaving.sources("seo").values()) == left
        assert memory.show("r10").text.startswith("order")
        assert memory.verify() == memory.verify(whole=True) == ()
        memory.record_many({"kind": "fact", "text": f"other {n}", "key": f"f{n}"} for n in range(150))
        memory.compact(everything=True)
        archives.round(Close(0))
        assert sum(archives.leaving.sources("seo").values()) > left
        assert memory.verify() == memory.verify(whole=True) == ()
        assert memory.show("r200").text.startswith("other"), "and not what the other history said there"
        assert [each.text for each in memory.list(kind="decision")] == ["the decision first"]
        assert [each.path for each in memory.files.list()] == ["/memories/first.md"]


@pytest.mark.parametrize("target", ["moved.db", "server"])
def test_a_copy_knows_what_has_left(fleet: Fleet, target: str) -> None:
    left = archived(fleet)
    place = target if target != "server" else shared().new_database()
    try:
        made = fleet("state", "copy", "state.db", place)
        assert made["tables"]["memory_left_key"]["rows"] == left
        with longwatch.open(Fleet(fleet.folder, place).place, config=archiving(fleet.folder)) as lw:
            memory = lw.memory("seo")
            assert memory.verify() == memory.verify(whole=True) == ()
            known = memory.record("result", "order 3", task="t3", key="o3")
            assert known.ref == "r5", "it is what has left, and no second one"
            assert memory.files.show("/memories/first.md").text == "first"
    finally:
        if target == "server":
            shared().drop(place)


# -- a copy into another state ---------------------------------------------------------------------------------------------


def test_a_copy_into_another_file_takes_memory_along(fleet: Fleet) -> None:
    with longwatch.open(fleet.place) as lw:
        redacted(lw.memory("seo"))
    made = fleet("state", "copy", "state.db", "moved.db")
    assert made["tables"]["memory_record"]["rows"] == 2
    assert made["tables"]["memory_version"]["rows"] == 1
    moved = Fleet(fleet.folder, "moved.db")
    assert moved.remembered() == ["first"] == fleet.remembered()
    with longwatch.open(moved.place) as lw:
        database: Any = lw.opened.parts.memories.store.database
        lw.memory("seo").list()
        asked = "select count(*) from memory_words where memory_words match ?"
        counts = [database.connection.execute(asked, (word,)).fetchall()[0][0] for word in ("redacted", "decision")]
        assert counts == [0, 1], "what was redacted is not in the index"
        assert lw.memory("seo").charter() == "Bring readers."


def redacted(memory: Memory) -> None:
    memory.charter("Bring readers.")
    memory.redact(memory.record("fact", "the word is swordfish"), "asked for")


def test_a_copy_to_a_server_and_back_takes_memory_along(fleet: Fleet) -> None:
    url = shared().new_database()
    try:
        with longwatch.open(fleet.place) as lw:
            redacted(lw.memory("seo"))
            lw.memory("seo").record_many({"kind": "fact", "text": f"fact {n}"} for n in range(1_200))
        there = fleet("state", "copy", "state.db", url)
        assert Fleet(fleet.folder, url).remembered() == ["first"]
        with longwatch.open(url) as lw:
            assert lw.memory("seo").recall("fact 1100")[0].text == "fact 1100"
        back = fleet("state", "copy", url, "back.db")
        same = [name for name in there["tables"] if name.startswith("memory_") and name != "memory_feed"]
        assert {name: there["tables"][name] for name in same} == {name: back["tables"][name] for name in same}
        returned = Fleet(fleet.folder, "back.db")
        assert returned.remembered() == ["first"]
        returned.remember("second")
        assert returned.remembered() == ["first", "second"]
    finally:
        shared().drop(url)


@pytest.mark.parametrize("target", ["moved.db", "server"])
def test_a_copy_that_is_killed_left_nothing_and_is_made_again(fleet: Fleet, target: str) -> None:
    place = target if target != "server" else shared().new_database()
    try:
        fleet("state", "copy", "state.db", place, killed_at="state.memory_copied")
        other = Fleet(fleet.folder, place)
        assert other.remembered() == [], "a fleet founded there knows nothing of it"
        assert "holds a fleet" in fleet("state", "copy", "state.db", place, status=2)["error"]["message"]
    finally:
        if target == "server":
            shared().drop(place)


def test_a_copy_that_is_killed_once_it_counts_has_its_memory(fleet: Fleet) -> None:
    fleet("state", "copy", "state.db", "moved.db", killed_at="state.copied")
    assert Fleet(fleet.folder, "moved.db").remembered() == ["first"]
