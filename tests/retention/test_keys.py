"""A key whose task is in the archive answers as before: with the task, if the request is the same, and else not at all."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch import KeyConflict, Longwatch, NotFound, Run, StoreUnavailable
from longwatch.policy.retention import Close
from longwatch.policy.window import DAY_MS
from longwatch.runtime.archive import Archives
from longwatch.store.archive import Archive, Entry
from longwatch.store.archive.search import Found

NOW = Close(0)
RAN: list[int] = []


@pytest.fixture
def kept(lw: Longwatch, archives: Archives) -> list[longwatch.Task[Any]]:
    """Six tasks that have ended, all but the last of them in the archive; the fifth has failed."""
    RAN.clear()

    @lw.task("count")
    def count(run: Run, n: int) -> list[int]:
        RAN.append(n)
        if n == 4:
            raise longwatch.GiveUp("no such customer")
        return [n, n * n]

    tasks = [lw.submit("count", {"n": n}, key=key_of(n)) for n in range(6)]
    work(lw, archives)
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 1
    return tasks


def key_of(n: int) -> str:
    return f"{'' if n else 'ü'}customer/{n}"


def work(lw: Longwatch, archives: Archives) -> None:
    lw.work(until_idle=True)
    archives.rest()


def tasks_segment(archives: Archives) -> Path:
    (name,) = [segment.name for segment in archives.segments() if "task" in segment.entries]
    assert archives.folder is not None
    return archives.folder / "segments" / name


def test_the_same_request_is_the_same_task(lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]) -> None:
    before = [lw.submit("count", {"n": 5}, key=key_of(5))]
    for n in (0, 1, 2, 3):
        again = lw.submit("count", {"n": n}, key=key_of(n))
        assert (again.id, again.state, again.result, again.key) == (kept[n].id, "done", [n, n * n], key_of(n))
        assert again.ended_at is not None
        assert lw.wait(again, timeout=1) == lw.wait(again.id, timeout=1) == again
    failed = lw.submit("count", {"n": 4}, key=key_of(4))
    assert (failed.id, failed.state) == (kept[4].id, "failed")
    with pytest.raises(longwatch.TaskFailed, match="no such customer"):
        _ = failed.result
    work(lw, archives)
    assert (RAN, [each.id for each in before]) == ([0, 1, 2, 3, 4, 5], [kept[5].id])
    assert archives.archivists.hot().tasks == 1, "nothing was brought back, and nothing was submitted"


def test_another_request_is_refused_as_ever(lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]) -> None:
    @lw.task("other")
    def other(run: Run, n: int) -> int:
        return n

    for n, kind, arguments in ((1, "count", {"n": 7}), (5, "count", {"n": 7}), (1, "other", {"n": 1})):
        said = f"the key '{key_of(n)}' belongs to {kept[n].id}, submitted as count with other arguments"
        with pytest.raises(KeyConflict, match=said) as raised:
            lw.submit(kind, arguments, key=key_of(n))
        assert type(raised.value) is KeyConflict
    assert archives.archivists.hot().tasks == 1


def test_nobody_looks_into_the_archive_but_for_a_key_that_is_taken(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = Archive.of_key

    def of_key(archive: Archive, key: str) -> Found:
        looked.append(key)
        return real(archive, key)

    monkeypatch.setattr(Archive, "of_key", of_key)
    lw.submit("count", {"n": 8}, key="fresh")
    lw.submit("count", {"n": 8})
    lw.submit("count", {"n": 8}, key="fresh")
    lw.submit("count", {"n": 5}, key=key_of(5))
    assert looked == []
    lw.submit("count", {"n": 2}, key=key_of(2))
    assert looked == [key_of(2)]


def test_a_task_that_was_brought_back_and_ran_again_is_told_as_it_ended_last(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    found = archives.located(heads(archives, kept[4].id), archives.archive.show(kept[4].id).entries)
    assert archives.restore(found, who="ada").tasks == [kept[4].id]

    @lw.task("last")
    def last(run: Run) -> None: ...

    lw.cancel(kept[4].id)
    assert lw.submit("count", {"n": 4}, key=key_of(4)).state == "failed"
    with lw.opened.parts.database.transaction() as tx:
        tx.plain(  # type: ignore[attr-defined]
            f"update task set state = 'done', result = '[4]', ended_ms = ended_ms + 5 where id = '{kept[4].id}'"
        )
        for segment in archives.segments():
            tx.count("retire.keep_restored", task=kept[4].id, segment=segment.name, keep_ms=-1)
    lw.submit("last")
    work(lw, archives)
    archives.round(NOW)
    assert [entry.id for entry in heads(archives, kept[4].id)] == [kept[4].id] * 2
    again = lw.submit("count", {"n": 4}, key=key_of(4))
    assert (again.id, again.state, again.result) == (kept[4].id, "done", [4])


def heads(archives: Archives, task: str) -> list[Entry]:
    return [entry for entry in archives.archive.show(task).entries if entry.kind == "task"]


def test_an_archive_that_is_not_there_is_asked_for(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    assert archives.folder is not None
    away = archives.folder.with_name("away")
    archives.folder.rename(away)
    with pytest.raises(StoreUnavailable) as raised:
        lw.submit("count", {"n": 1}, key=key_of(1))
    assert f"there is no folder {archives.folder}" in raised.value.message
    assert "[archive] to" in raised.value.hint
    assert lw.submit("count", {"n": 9}, key="fresh").state == "ready"
    assert archives.archivists.hot().tasks == 2
    if archives.folder.exists():
        shutil.rmtree(archives.folder)
    away.rename(archives.folder)
    assert lw.submit("count", {"n": 1}, key=key_of(1)).id == kept[1].id


def test_what_cannot_be_used_as_a_folder_is_named(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    assert archives.folder is not None
    archives.close()
    shutil.rmtree(archives.folder)
    archives.folder.write_text("no folder")
    with pytest.raises(StoreUnavailable, match=r"is in the archive, which cannot be read: ") as raised:
        lw.submit("count", {"n": 1}, key=key_of(1))
    assert "Nothing was submitted" in raised.value.hint


@pytest.mark.parametrize("anew", [False, True])
def test_a_segment_that_is_damaged_or_lost_is_named(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]], anew: bool
) -> None:
    """anew: the side index is made after the damage, and knows nothing of what was there."""
    file = tasks_segment(archives)
    whole = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:])
    if anew:
        archives.archive.rebuild_index()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=file.name) as raised:
            lw.submit("count", {"n": 1}, key=key_of(1))
        assert "longwatch archive verify" in raised.value.hint
        file.unlink(missing_ok=True)
    file.write_bytes(whole)
    archives.archive.rebuild_index()
    assert lw.submit("count", {"n": 1}, key=key_of(1)).id == kept[1].id


def test_a_key_whose_segment_was_dropped_by_hand_stays_taken_and_says_so(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    archives.archive.drop(tasks_segment(archives).name, "room")
    with pytest.raises(KeyConflict, match="that is no more in the archive") as raised:
        lw.submit("count", {"n": 1}, key=key_of(1))
    assert "Its segment was dropped" in raised.value.hint
    with pytest.raises(NotFound):
        lw.wait(kept[1].id, timeout=1)


def test_a_task_of_another_day_with_the_same_key_is_another_one(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    """As after a state was replaced by an older one, in which the key was given to a task that the archive does not have."""
    (head,) = heads(archives, kept[1].id)
    with lw.opened.parts.database.transaction() as tx:
        tx.plain(  # type: ignore[attr-defined]
            f"update retired_key set ended_day = {head.at_ms // DAY_MS - 1}"
        )
    with pytest.raises(KeyConflict, match="that is no more in the archive"):
        lw.submit("count", {"n": 1}, key=key_of(1))


def test_a_fleet_that_is_opened_anew_and_an_index_made_anew_find_it(
    place: str, config: longwatch.Config, lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    archives.archive.rebuild_index()
    with longwatch.open(place, config=config) as other:
        assert other.submit("count", {"n": 2}, key=key_of(2)).result == [2, 4]
        assert other.submit("count", {"n": 0}, key=key_of(0)).args == {"n": 0}


def test_what_waits_for_a_task_that_has_left_is_told_how_to_bring_it_back(
    lw: Longwatch, archives: Archives, kept: list[longwatch.Task[Any]]
) -> None:
    again = lw.submit("count", {"n": 2}, key=key_of(2))
    with pytest.raises(NotFound, match=f"no task {again.id} to wait for") as raised:
        lw.submit("count", {"n": 9}, after=[again])
    assert "longwatch archive restore" in raised.value.hint
