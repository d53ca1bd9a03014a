"""Killed at any step: nothing that was listed is lost, nothing is listed that is not whole, and the next one finishes it."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from archives import START_MS, Clock, made, opened
from crash_script import clean

from longwatch.errors import StoreUnavailable
from longwatch.store.archive import Archive, Entry, Folder, frames

SCRIPT = Path(__file__).with_name("crash_script.py")
HARMLESS = {
    "half written",
    "unlisted",
    "left over",
    "manifest",
}  # as findings of one that died; none of them of what is listed


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RAW", 4 << 10)


def killed_everywhere(folder: Path, what: str) -> tuple[list[Archive], list[str]]:
    """An archive for each step at which somebody died, and one for whom nobody died; the steps."""
    start = opened(folder / "start")
    for seed in (1, 2):
        start.write(made(100, seed=seed), source=str(seed))
    start.close()
    ran = subprocess.run([sys.executable, str(SCRIPT), str(folder), what], capture_output=True, text=True, check=True)
    steps: list[str] = json.loads(ran.stdout)
    assert len(steps) >= (20 if what in ("write", "redact") else 7), steps
    return [opened(folder / str(n)) for n in range(len(steps) + 1)], steps


def all_of(archive: Archive) -> list[Entry]:
    return sorted(entry for segment in archive.segments() for entry in archive.entries(segment))


def test_a_writer_killed_at_any_step_has_written_all_or_nothing(tmp_path: Path) -> None:
    before, new = made(100, seed=1) + made(100, seed=2), made(120, seed=7)
    archives, steps = killed_everywhere(tmp_path, "write")
    assert {"rename", "pwrite", "fsync"} <= set(steps)
    listed = 0
    for n, archive in enumerate(archives):
        at = f"killed at step {n} of {steps}"
        assert {finding.kind for finding in archive.verify()} <= HARMLESS, at
        assert all_of(archive) in (sorted(before), sorted(before + new)), at
        listed += len(archive.segments()) == 3
        assert archive.find(limit=1000).unread == [], at
        archive.write(new, source="new")
        assert all_of(archive) == sorted(before + new), at
        assert archive.verify() == [], at
        assert len(archive.find(task="task_7_3").entries) == 5, at
        archive.close()
    assert 1 <= listed < len(archives) // 2, "they did not die where it matters"


def test_a_drop_killed_at_any_step_is_finished_by_the_next_one(tmp_path: Path) -> None:
    archives, steps = killed_everywhere(tmp_path, "drop")
    for n, archive in enumerate(archives):
        at = f"killed at step {n} of {steps}"
        assert {finding.kind for finding in archive.verify()} <= HARMLESS, at
        assert all_of(archive) in (sorted(made(100, seed=1) + made(100, seed=2)), sorted(made(100, seed=2))), at
        archive.drop(archive.manifest().moves[0].name, "old")
        assert all_of(archive) == sorted(made(100, seed=2)), at
        assert archive.verify() == [], at
        assert len(archive.place.sizes()) == 1, at
        archive.close()


def test_a_pin_killed_at_any_step_is_there_or_not(tmp_path: Path) -> None:
    archives, steps = killed_everywhere(tmp_path, "pin")
    seen: set[bool] = set()
    for n, archive in enumerate(archives):
        seen.add(archive.segments()[0].pinned)
        archive.pin(archive.segments()[0].name)
        assert archive.verify() == [], f"killed at step {n} of {steps}"
        archive.close()
    assert seen == {True, False}


def test_a_redaction_killed_at_any_step_loses_nothing_and_when_repeated_leaves_nothing(tmp_path: Path) -> None:
    archives, steps = killed_everywhere(tmp_path, "redact")
    for n, archive in enumerate(archives):
        at = f"killed at step {n} of {steps}"
        assert {finding.kind for finding in archive.verify()} <= HARMLESS, at
        assert sorted(entry.id for entry in all_of(archive)) == sorted(
            f"call_{s}_{i}" for s in (1, 2) for i in range(100)
        ), at
        archive.redact(clean, text="gamma", reason="asked for", who="me")
        assert all(b"gamma" not in entry.body for entry in all_of(archive)), at
        assert archive.verify() == [], at
        assert len(archive.place.sizes()) == 2, at
        archive.close()


@pytest.mark.parametrize("mark", ["archive.written", "archive.published", "archive.verified", "archive.listed"])
@pytest.mark.parametrize("other", [False, True])
def test_an_error_at_any_mark_leaves_what_the_next_writer_takes_up_or_removes(
    tmp_path: Path, mark: str, other: bool
) -> None:
    class Stopped(Exception):
        pass

    def stop(reached: str) -> None:
        if reached == mark:
            raise Stopped

    archive = Archive(Folder(tmp_path / "a"), Clock(stop))
    with pytest.raises(Stopped):
        archive.write(made(100), source="a")
    assert {finding.kind for finding in archive.verify()} <= {"unlisted"}
    again = opened(tmp_path / "a")
    entries = made(101) if other and mark != "archive.listed" else made(100)  # what is due may be more by now
    segment = again.write(entries, source="a")
    assert sorted(again.entries(segment)) == sorted(entries)
    again.sweep()
    assert (again.segments(), again.verify(), segment.from_ms) == ([segment], [], START_MS)


@pytest.mark.parametrize("room", [0, 100, 600, 2_000, 8_000, 20_000, 60_000])
def test_where_there_is_no_room_nothing_is_half_listed_and_it_goes_on_when_there_is(tmp_path: Path, room: int) -> None:
    archive = opened(tmp_path / "a")
    first = archive.write(made(5), source="first")
    archive.close()
    said = ""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # the kernel refuses what would make a file larger
    try:
        listed = archive.write(made(400, seed=2), source="a")
    except StoreUnavailable as error:
        listed, said = None, error.hint
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (listed is None) == (room < 60_000) == ("Nothing was taken out of the state" in said)
    assert len(archive.segments()) == (1 if listed is None else 2)
    assert {finding.kind for finding in archive.verify()} <= HARMLESS
    again = archive.write(made(400, seed=2), source="a")
    assert archive.segments() == [first, again]
    assert archive.verify() == []
    assert len(archive.find(limit=1000).entries) == 405
    archive.close()
