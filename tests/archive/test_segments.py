"""A segment holds what it was given, byte for byte; any reader of zstd reads it; damage is named, and costs one frame."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard
from archives import file_of, flip, made, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatch.errors import NotStorable, StoreUnavailable
from longwatch.store.archive import Archive, Entry, Finding, frames
from longwatch.store.archive.frames import read_table, walk


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return opened(tmp_path / "archive")


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RAW", 4 << 10)


def test_what_was_written_is_read_again_whole_and_listed(archive: Archive) -> None:
    entries = made(500)
    segment = archive.write(entries, source="calls/1-500")
    assert sorted(archive.entries(segment)) == sorted(entries)
    assert archive.segments() == [segment]
    assert (segment.entries, segment.count, segment.source) == ({"call": 500}, 500, "calls/1-500")
    assert (segment.from_ms, segment.to_ms) == (entries[0].at_ms, entries[-1].at_ms)
    assert archive.verify() == []


def test_entries_of_one_agent_keep_their_order(archive: Archive) -> None:
    entries = made(500)
    segment = archive.write(entries, source="a")
    for agent in {entry.agent for entry in entries}:
        found = [entry for entry in archive.entries(segment) if entry.agent == agent]
        assert found == [entry for entry in entries if entry.agent == agent]


def test_a_source_is_written_once(archive: Archive) -> None:
    first = archive.write(made(50), source="a")
    assert archive.write(iter(()), source="a") == first, "it read entries of a source that it has"
    assert archive.segments() == [first]
    assert archive.write(made(50), source="b").sha256 != first.sha256, (
        "another source is another file, whatever is in it"
    )


def test_any_reader_of_zstd_gives_all_lines_and_nothing_else(archive: Archive) -> None:
    entries = made(300)
    segment = archive.write(entries, source="a")
    data = file_of(archive, segment).read_bytes()
    assert len(list(walk(data))) > 5, "one frame shows nothing"
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        lines = reader.read().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(entry.id for entry in entries)
    assert {json.dumps(json.loads(line)["body"]).encode() for line in lines} == {entry.body for entry in entries}
    if zstdcat := shutil.which("zstdcat"):
        shown = subprocess.run([zstdcat, str(file_of(archive, segment))], capture_output=True, check=True)
        assert shown.stdout.splitlines() == lines


def test_the_seek_table_leads_to_every_frame(archive: Archive) -> None:
    data = file_of(archive, archive.write(made(300), source="a")).read_bytes()
    table = read_table(lambda start, size: data[start : start + size], len(data))
    assert [(frame.start, frame.size) for frame in table.frames] == list(walk(data))
    assert table.source == "a"


def test_memory_is_bounded_however_many_agents_there_are(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "HELD", 16 << 10)
    entries = made(600, agents=200)
    segment = archive.write(entries, source="a")
    data = file_of(archive, segment).read_bytes()
    table = read_table(lambda start, size: data[start : start + size], len(data))
    assert len(table.frames) > 10, "everything waited to the end"
    assert sorted(archive.entries(segment)) == sorted(entries)


@given(
    ids=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=20, unique=True),
    text=st.text(max_size=200),
    at_ms=st.integers(1 - (1 << 62), (1 << 62) - 1),
)
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, ids: list[str], text: str, at_ms: int) -> None:
    archive = opened(tmp_path_factory.mktemp("archive"))
    for ascii_only in (True, False):
        body = json.dumps({"text": text}, ensure_ascii=ascii_only).encode(errors="replace")
        entries = [Entry("call", name, at_ms, text, name, body, 3) for name in ids]
        segment = archive.write(entries, source=str(ascii_only))
        assert list(archive.entries(segment)) == entries
    assert archive.verify() == []
    assert [(cost.calls, cost.cost_micros) for cost in archive.costs()] == [(2 * len(ids), 6 * len(ids))]
    assert len(archive.find(task=ids[0], agent=text).entries) == 2
    archive.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b'{"a":1}{}', b'{"a":', b'{"a":1}\n', b'{\r"a":1}', b'{"a":"\xff"}', b'{"a":NaN}', b"\x00" * 20],
)
def test_a_body_that_is_no_line_of_json_is_refused_and_leaves_nothing(archive: Archive, body: bytes) -> None:
    with pytest.raises(NotStorable, match="call bad cannot be archived"):
        archive.write([*made(100), Entry("call", "bad", 0, "", "", body)], source="a")
    assert (archive.segments(), archive.verify()) == ([], [])


def test_a_time_that_is_none_is_refused(archive: Archive) -> None:
    with pytest.raises(NotStorable, match="is no time in milliseconds"):
        archive.write([Entry("call", "bad", 1 << 70, "", "", b"{}")], source="a")


def test_a_segment_of_nothing_is_refused(archive: Archive) -> None:
    with pytest.raises(ValueError, match="a segment needs entries"):
        archive.write([], source="a")
    assert archive.verify() == []


def test_an_entry_of_ten_megabytes_is_one_like_any_other(archive: Archive) -> None:
    entries = [*made(20), Entry("log", "big", 5, "a", "", json.dumps({"text": "é\U0001f600x" * 1_500_000}).encode())]
    segment = archive.write(entries, source="a")
    assert sorted(archive.entries(segment)) == sorted(entries)


# -- damage --------------------------------------------------------------------------------------------------------------


def test_one_damaged_byte_anywhere_is_found_and_costs_at_most_its_frame(archive: Archive) -> None:
    entries = made(400)
    segment = archive.write(entries, source="a")
    path = file_of(archive, segment)
    whole = path.read_bytes()
    places = list(walk(whole))
    largest = 1 + max(
        frame.entries for frame in read_table(lambda start, size: whole[start : start + size], len(whole)).frames
    )
    for at in [*range(0, len(whole), len(whole) // 150), len(whole) - 1]:
        flip(path, at)
        findings = archive.verify()
        assert findings, f"byte {at} of {len(whole)} was changed, and nobody noticed"
        assert {finding.name for finding in findings} == {segment.name}
        told: list[Finding] = []
        read = list(archive.entries(segment, damaged=told.append))
        assert set(read) <= set(entries)
        assert len(read) >= len(entries) - largest, f"byte {at}: {len(read)} of {len(entries)} entries are left"
        assert len(read) == len(entries) or told, f"byte {at}: entries are missing, and nobody was told"
        path.write_bytes(whole)
    assert len(places) > 5
    assert archive.verify() == []


def test_without_being_told_of_damage_reading_ends_with_an_error(archive: Archive) -> None:
    segment = archive.write(made(400), source="a")
    flip(file_of(archive, segment), 100)
    with pytest.raises(StoreUnavailable, match="are not what was written"):
        list(archive.entries(segment))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_half_written_segment_is_named_and_its_whole_frames_are_read(archive: Archive, share: float) -> None:
    entries = made(400)
    other = archive.write(made(50, seed=2), source="b")
    segment = archive.write(entries, source="a")
    path = file_of(archive, segment)
    path.write_bytes(path.read_bytes()[: int(segment.bytes * share)])
    (finding,) = archive.verify()
    assert (finding.kind, finding.name) == ("half written", segment.name)
    read = list(archive.entries(segment, damaged=lambda finding: None))
    assert len(read) == segment.count - finding.entries
    assert len(read) >= share * len(entries) - 60
    assert len(list(archive.entries(other))) == 50


def test_bytes_at_the_end_of_a_segment_are_found(archive: Archive) -> None:
    segment = archive.write(made(100), source="a")
    with file_of(archive, segment).open("ab") as file:
        file.write(b"x")
    (finding,) = archive.verify()
    assert (finding.kind, finding.name) == ("damaged", segment.name)


def test_a_missing_segment_is_named_and_the_others_are_read(archive: Archive) -> None:
    gone, other = archive.write(made(80), source="a"), archive.write(made(50, seed=2), source="b")
    file_of(archive, gone).unlink()
    (finding,) = archive.verify()
    assert (finding.kind, finding.name, finding.entries) == ("missing", gone.name, 80)
    assert list(archive.entries(gone, damaged=lambda finding: None)) == []
    assert len(list(archive.entries(other))) == 50
