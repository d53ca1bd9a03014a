"""Folders that are deleted, copies that are damaged, archives that fleets share, tasks that are brought back without others:
nothing is lost, nothing is done twice, and the next round goes on."""

import shutil
from pathlib import Path

import pytest

import longwatch
from longwatch import KeyConflict, Longwatch, LongwatchError, NotFound, Run
from longwatch.policy.retention import Close
from longwatch.policy.window import DAY_MS, Span
from longwatch.runtime.archive import Archives
from longwatch.store.money import Earned
from longwatch.store.restoring import decode

NOW = Close(0)


def work(lw: Longwatch) -> None:
    lw.work(until_idle=True)
    archives_of(lw).rest()


def archives_of(lw: Longwatch) -> Archives:
    found = lw.opened.parts.archives
    assert found is not None
    return found


def bill(lw: Longwatch, *keys: str) -> list[longwatch.Task[int]]:
    @lw.task("bill")
    def one(run: Run) -> int:
        with run.call("api", money="0.02 USD"):
            pass
        run.earned("1 USD")
        return 1

    tasks = [lw.submit("bill", key=key) for key in keys]
    work(lw)
    return tasks


def restore(archives: Archives, *tasks: str) -> list[str]:
    return archives.restore(
        [
            (segment.name, entry)
            for segment in archives.segments()
            for entry in archives.archive.entries(segment)
            if entry.task in tasks
        ],
        who="ada",
    ).tasks


def earned(lw: Longwatch) -> list[Earned]:
    return lw.opened.parts.earnings.added_up(["kind"], [Span(0, 10**15, 0)], "USD")[1]


def test_what_tasks_earned_is_told_by_their_kind_when_they_have_gone(lw: Longwatch, archives: Archives) -> None:
    bill(lw, "a", "b", "c")
    before = earned(lw)
    assert [(each.kind, each.micros) for each in before] == [("bill", 3_000_000)]
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 1
    assert earned(lw) == before


def taken_down(lw: Longwatch, archives: Archives) -> tuple[str, str]:
    """A task that failed, and one that needed it, both in the archive."""

    @lw.task("ask")
    def ask(run: Run) -> None:
        raise longwatch.GiveUp("no")

    failed = lw.submit("ask")
    waiting = lw.submit("ask", after=[failed])
    lw.submit("ask")
    work(lw)
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 1
    return failed.id, waiting.id


def test_a_task_that_came_back_without_what_it_needs_does_not_wait_for_ever(lw: Longwatch, archives: Archives) -> None:
    failed, waiting = taken_down(lw, archives)
    assert restore(archives, waiting) == [waiting]
    lw.retry(waiting)
    assert lw.get(waiting).state == "cancelled"  # as one is that needs what failed and is here
    later = lw.submit("ask", after=[waiting])
    assert (lw.get(later.id).state, lw.get(later.id).cause) == ("cancelled", failed)
    restore(archives, failed)
    lw.retry(failed)
    assert [lw.get(task).state for task in (failed, waiting, later.id)] == ["scheduled", "waiting", "waiting"]


def test_a_folder_that_is_deleted_under_way_is_made_again(lw: Longwatch, archives: Archives, tmp_path: Path) -> None:
    bill(lw, "a", "b", "c")
    archives.round(NOW)
    shutil.rmtree(tmp_path / "archive")
    tasks = bill(lw, "d", "e", "f")
    archives.round(NOW)
    kept = {entry.task for segment in archives.segments() for entry in archives.archive.entries(segment)}
    assert {task.id for task in tasks[:2]} <= kept
    assert archives.archivists.hot().tasks == 1


def test_a_folder_that_is_gone_is_told_of(lw: Longwatch, archives: Archives, tmp_path: Path) -> None:
    bill(lw, "a", "b", "c")
    archives.round(NOW)
    shutil.rmtree(tmp_path / "archive" / "segments")
    with pytest.raises(longwatch.StoreUnavailable, match="cannot be used: No such file or directory"):
        archives.archive.verify()


def test_a_copy_that_is_damaged_later_does_not_stop_the_rounds(
    lw: Longwatch, archives: Archives, tmp_path: Path
) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    restore(archives, tasks[0].id)
    with lw.opened.parts.database.transaction() as tx:
        for segment in archives.segments():
            tx.count("retire.keep_restored", task=tasks[0].id, segment=segment.name, keep_ms=-1)
    for file in (tmp_path / "archive" / "segments").iterdir():
        damaged = bytearray(file.read_bytes())
        damaged[40] ^= 255
        file.write_bytes(damaged)
    archives.round(NOW)
    fresh = archives.segments()[-2]
    assert tasks[0].id in {entry.task for entry in archives.archive.entries(fresh)}  # it has a whole copy again
    assert archives.archivists.hot().tasks == 1


def test_a_copy_that_is_damaged_before_its_rows_are_dropped_costs_no_row(
    lw: Longwatch, archives: Archives, tmp_path: Path
) -> None:
    tasks = bill(lw, "a", "b", "c")
    listed = archives.archivists.listed

    def damaged(source: str, segment: str) -> None:
        (tmp_path / "archive" / "segments" / segment).unlink()
        object.__setattr__(archives.archivists, "listed", listed)
        listed(source, segment)

    object.__setattr__(archives.archivists, "listed", damaged)
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 3
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 1
    kept = {entry.task for segment in archives.segments()[1:] for entry in archives.archive.entries(segment)}
    assert {task.id for task in tasks[:2]} <= kept


def test_two_fleets_may_share_an_archive(lw: Longwatch, archives: Archives, tmp_path: Path) -> None:
    bill(lw, "a", "b", "c")
    archives.round(NOW)
    config: longwatch.Config = {"archive": {"to": tmp_path / "archive", "room": "1 B"}, "service": {"api": {}}}
    with longwatch.open(str(tmp_path / "other.db"), config=config) as other:
        bill(other, "a", "b", "c")
        made = archives_of(other).round(NOW)
        assert archives_of(other).archivists.hot().tasks == 1
        assert len(set(made.segments)) == 2
    assert len(archives.segments()) == 4


def test_keys_of_a_segment_that_is_pinned_stay_taken(lw: Longwatch, archives: Archives) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    (pinned,) = [segment for segment in archives.segments() if "task" in segment.entries]
    archives.archive.pin(pinned.name)
    archives.rules = archives.rules._replace(keep_ms=-3 * DAY_MS)  # everything is old
    assert len(archives.free_segments()) == 1
    assert bill(lw, "a")[0].id == tasks[0].id
    archives.archive.unpin(pinned.name)
    assert archives.free_segments() == (pinned.name,)
    assert bill(lw, "a")[0].id != tasks[0].id


def test_a_task_whose_key_or_place_is_another_ones_does_not_come_back(lw: Longwatch, archives: Archives) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    with lw.opened.parts.database.transaction() as tx:
        tx.count("retire.forget_keys", ended_day=1 << 60)  # as in a state of before
    again = bill(lw, "a")[0]
    before = archives.archivists.hot()
    with pytest.raises(KeyConflict, match=f"the key 'a' of {tasks[0].id} is that of {again.id} by now"):
        restore(archives, tasks[0].id)
    with lw.opened.parts.database.transaction() as tx:
        tx.plain(f"update task set seq = 2 where id = '{again.id}'")  # type: ignore[attr-defined]
    with pytest.raises(LongwatchError, match=f"its place is that of {again.id} by now"):
        restore(archives, tasks[1].id)
    with pytest.raises(NotFound):
        lw.get(tasks[1].id)
    assert archives.archivists.hot() == before


def test_a_round_that_failed_is_not_begun_again_at_once(lw: Longwatch, archives: Archives, tmp_path: Path) -> None:
    bill(lw, "a", "b", "c")
    (tmp_path / "archive").write_text("no folder")
    archives.rules = archives.rules._replace(every_ms=0)
    assert archives.step()
    archives.rest()
    assert archives.failure is not None
    assert not archives.step()  # it would write and fail at each of its worker's beats
    (tmp_path / "archive").unlink()
    archives._again_ms = 0  # pyright: ignore[reportPrivateUsage]
    assert archives.step()
    archives.rest()
    assert archives.failure is None
    assert archives.archivists.hot().tasks == 1


def test_what_is_redacted_is_taken_out_of_the_archive_too(lw: Longwatch, archives: Archives) -> None:
    @lw.task("note")
    def note(run: Run, secret: str) -> str:
        run.record("fact", f"the word is {secret}")
        run.step("look", lambda: f"seen {secret}")
        return f"said {secret}"

    for secret in ("swordfish", "herring", "salmon"):
        lw.submit("note", {"secret": secret})
    work(lw)
    archives.round(NOW)
    assert len(archives.archive.find(text="swordfish").entries) == 2  # the task, and what the journal tells of the note
    memory = lw.memory("main")
    for record in [each for each in memory.list() if "swordfish" in each.text]:
        memory.redact(record.id, "a password")
    assert archives.archive.find(text="swordfish").entries == []
    assert len(archives.archive.find(text="herring").entries) == 2
    assert archives.archive.verify() == []


def test_a_task_whose_calls_have_lost_their_places_does_not_come_back(lw: Longwatch, archives: Archives) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    with lw.opened.parts.database.transaction() as tx:
        tx.plain("update call set seq = 1")  # type: ignore[attr-defined]
    with pytest.raises(LongwatchError, match="is another call's by now"):
        restore(archives, tasks[0].id)
    with pytest.raises(NotFound):
        lw.get(tasks[0].id)


def test_a_wall_clock_that_is_set_ahead_drops_nothing(
    lw: Longwatch, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    late_ms = archives.world.wall_ms() + 400 * DAY_MS
    monkeypatch.setattr(archives.world, "wall_ms", lambda: late_ms)
    assert archives.free_segments() == ()
    assert lw.submit("bill", key="a").id == tasks[0].id


def test_entries_whose_places_are_taken_are_counted_and_those_that_are_here_are_not(
    lw: Longwatch, archives: Archives
) -> None:
    tasks = bill(lw, "a", "b", "c")
    archives.round(NOW)
    found = [
        (segment.name, entry)
        for segment in archives.segments()
        for entry in archives.archive.entries(segment)
        if entry.task in (tasks[0].id, tasks[1].id)
    ]
    told = {
        task.id: [decode(entry.body) for _, entry in found if entry.kind == "journal" and entry.task == task.id]
        for task in tasks[:2]
    }
    first, second = told[tasks[0].id][:2]
    here = told[tasks[1].id][0]
    with lw.opened.parts.database.transaction() as tx:
        for entry, kind in ((first, "note.other"), (second, "note.other"), (here, here["kind"])):
            tx.count("retire.restore_entry", **entry | {"kind": kind, "data": "{}"})
    made = archives.restore(found, who="ada")
    assert (sorted(made.tasks), made.passed) == (sorted(task.id for task in tasks[:2]), 2)
    assert made.rows == archives.archivists.hot().tasks - 1 + sum(map(len, told.values())) - 3 + 2 + 2  # runs and calls
