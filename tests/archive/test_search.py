"""What is looked for is found, all of it and nothing else, whatever was damaged; the index can always be made anew."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Generator
from datetime import date, timedelta
from pathlib import Path

import pytest
from archives import START_MS, file_of, flip, made, manifest_of, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatch.store.archive import Archive, Entry, Segment, frames
from longwatch.store.archive.index import Facts

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RAW", 4 << 10)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made_here = opened(tmp_path / "archive")
    for seed in (1, 2, 3):
        made_here.write(made(200, seed=seed), source=str(seed))
    return made_here


def test_a_task_is_found_by_its_id_and_nothing_else_is(archive: Archive) -> None:
    expected = [entry for entry in made(200, seed=2) if entry.task == "task_2_7"]
    assert archive.find(task="task_2_7") == (expected, [])
    assert archive.show("task_2_7").entries == expected
    assert archive.find(task="task_2_70000").entries == archive.show("nothing").entries == []


def test_an_entry_is_shown_by_its_id(archive: Archive) -> None:
    (entry,) = archive.show("call_3_17").entries
    assert entry == made(200, seed=3)[17]


def test_conditions_narrow_each_other(archive: Archive) -> None:
    everything = [entry for seed in (1, 2, 3) for entry in made(200, seed=seed)]
    since, until = START_MS + 30 * HOUR_MS, START_MS + 60 * HOUR_MS
    found = archive.find(agent="agent-1", since_ms=since, until_ms=until, text="alpha", limit=1000)
    expected = [e for e in everything if e.agent == "agent-1" and since <= e.at_ms < until and b"alpha" in e.body]
    assert sorted(found.entries) == sorted(expected) != []
    assert archive.find(kind="log").entries == []


def test_the_newest_are_taken_and_the_oldest_of_them_comes_first(archive: Archive) -> None:
    found = archive.find(limit=7).entries
    times = sorted(entry.at_ms for seed in (1, 2, 3) for entry in made(200, seed=seed))
    assert [entry.at_ms for entry in found] == times[-7:]
    assert archive.find(limit=0).entries == []


@given(st.text(min_size=1, max_size=12), st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_text_is_found_however_it_was_written_down(
    tmp_path_factory: pytest.TempPathFactory, text: str, ascii_only: bool
) -> None:
    with_it = opened(tmp_path_factory.mktemp("archive"))
    body = json.dumps({"deep": [{"said": f"before {text} after"}]}, ensure_ascii=ascii_only).encode()
    entry = Entry("log", "1", START_MS, "a", "t", body)
    with_it.write([entry, *made(3)], source="a")
    assert entry in with_it.find(text=text).entries
    assert with_it.find(text=text + "¬there").entries == []
    with_it.close()


def test_a_rare_text_is_found_in_the_middle_of_a_word(archive: Archive) -> None:
    archive.write([*made(50, seed=9), *made(1, seed=8, text="xx needle-4711yy")], source="needle")
    (entry,) = archive.find(text="dle-4711").entries
    assert entry.id == "call_8_0"


def test_sums_by_agent_and_day_are_those_of_the_entries(archive: Archive) -> None:
    expected: Counter[tuple[int, str, str]] = Counter()
    for entry in (entry for seed in (1, 2, 3) for entry in made(200, seed=seed)):
        for name, amount in (("cost", entry.cost_micros), ("calls", 1), ("errors", int(entry.error))):
            expected[entry.at_ms // DAY_MS, entry.agent, name] += amount
    costs = archive.costs()
    assert sum(cost.cost_micros for cost in costs) == sum(e.cost_micros for s in (1, 2, 3) for e in made(200, seed=s))
    for cost in costs:
        day = next(n for n in range(START_MS // DAY_MS, START_MS // DAY_MS + 20) if _day(n) == cost.day)
        amounts = tuple(expected[day, cost.agent, name] for name in ("cost", "calls", "errors"))
        assert (cost.cost_micros, cost.calls, cost.errors) == amounts
    assert {cost.currency for cost in costs} == {"GBP"}
    (first,) = archive.costs(since_ms=START_MS, until_ms=START_MS + DAY_MS, agent="agent-0")
    assert (first.day, first.calls) == ("2026-06-01", 24)


def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def test_a_dropped_segment_is_found_no_more_and_its_sums_go(archive: Archive) -> None:
    before = archive.costs()
    archive.drop(archive.segments()[0].name, "old")
    assert archive.find(task="task_1_7").entries == []
    assert 3 * sum(cost.calls for cost in archive.costs()) == 2 * sum(cost.calls for cost in before)


def test_damage_is_told_with_what_was_found_beside_it(archive: Archive) -> None:
    archive.find(limit=1)
    victim = archive.segments()[1]
    flip(file_of(archive, victim), 200)
    found = archive.find(limit=1000)
    (finding,) = found.unread
    assert (finding.kind, finding.name) == ("damaged", victim.name)
    assert 500 < len(found.entries) < 600
    file_of(archive, archive.segments()[0]).unlink()
    found = archive.find(limit=1000)
    assert {finding.kind for finding in found.unread} == {"damaged", "missing"}
    assert len(found.entries) > 300


@pytest.mark.parametrize("damage", ["removed", "emptied", "not a database", "one page", "another schema"])
def test_the_index_is_made_anew_when_it_is_not_right(archive: Archive, damage: str, tmp_path: Path) -> None:
    expected = archive.find(task="task_2_7"), archive.costs()
    archive.close()
    path = tmp_path / "archive" / "index.db"
    if damage == "removed":
        path.unlink()
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "not a database":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "one page":
        path.write_bytes(path.read_bytes()[:2048] + b"\xff" * (path.stat().st_size - 2048))
    else:
        data = bytearray(path.read_bytes())
        data[60:64] = (99).to_bytes(4)  # its user_version
        path.write_bytes(data)
    assert (archive.find(task="task_2_7"), archive.costs()) == expected
    assert archive.verify() == []


def test_what_could_not_be_read_when_the_index_was_made_is_told_of_for_ever(archive: Archive) -> None:
    flip(file_of(archive, archive.segments()[1]), 200)
    archive.rebuild_index()
    (finding,) = archive.find(task="task_1_7").unread
    assert (finding.kind, finding.name) == ("damaged", archive.segments()[1].name)
    assert finding.entries > 0


def test_an_index_of_another_process_is_told_by_the_manifest(archive: Archive, tmp_path: Path) -> None:
    other = opened(tmp_path / "archive")
    archive.write(made(10, seed=5), source="new")
    assert len(other.find(task="task_5_0").entries) == 5
    archive.drop(next(segment.name for segment in archive.segments() if segment.source == "new"), "old")
    assert other.find(task="task_5_0").entries == []


def test_who_read_the_manifest_before_another_one_wrote_takes_nothing_out_of_the_index(
    archive: Archive, tmp_path: Path
) -> None:
    slow, fast = opened(tmp_path / "archive"), opened(tmp_path / "archive")
    read_before = slow.manifest()
    fast.write(made(10, seed=5), source="new")
    assert len(fast.find(task="task_5_0").entries) == 5
    slow._index.take_in(read_before, slow._facts)
    assert len(fast.find(task="task_5_0").entries) == 5


def test_two_that_take_in_at_once_lose_nothing(archive: Archive, tmp_path: Path) -> None:
    archive.rebuild_index()
    archive.close()
    (tmp_path / "archive" / "index.db").unlink()
    slow, fast = opened(tmp_path / "archive"), opened(tmp_path / "archive")

    def meanwhile(segment: Segment) -> list[Facts]:
        facts = slow._facts(segment)
        if segment.number == 2:
            fast.write(made(10, seed=5), source="new")
        return facts

    slow._index.take_in(slow.manifest(), meanwhile)
    for each in (slow, fast):
        assert len(each.find(limit=1000).entries) == 610
        assert sum(cost.calls for cost in each.costs()) == 610


def test_a_manifest_that_lost_whole_lines_is_told_by_what_the_index_has_seen(archive: Archive) -> None:
    archive.costs()
    path = manifest_of(archive)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    for _ in range(2):
        assert sorted(finding.kind for finding in archive.verify()) == ["manifest", "unlisted"]
        assert len(archive.find(limit=1000).entries) == 600, "what is there is found, listed or not"


@pytest.fixture
def for_reading(archive: Archive, tmp_path: Path) -> Generator[Path]:
    """The archive's folder, where nothing can be written."""
    archive.rebuild_index()
    archive.close()
    folder = tmp_path / "archive"
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    for options in (["--bind"], ["-o", "remount,bind,ro"]):  # root writes in whatever folder it is
        if subprocess.run(["mount", *options, folder, folder], check=False, capture_output=True).returncode:
            pytest.skip("this root may not mount anything")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_an_archive_that_can_only_be_read_is_searched(for_reading: Path) -> None:
    reader = opened(for_reading)
    assert reader.find(task="task_2_7").entries == [entry for entry in made(200, seed=2) if entry.task == "task_2_7"]
    assert reader.verify() == []
    reader.close()
    assert reader.show("call_3_17").entries == [made(200, seed=3)[17]]
    reader.close()
