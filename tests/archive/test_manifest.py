"""The manifest: nothing in it can be changed, put in or taken out unseen; a line that was never finished is none."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from archives import file_of, flip, made, manifest_of, opened
from crash_script import clean

from longwatch.errors import LongwatchError, NotFound, StoreUnavailable
from longwatch.store.archive import Archive, Entry
from longwatch.store.archive.manifest import START, line_of_move, read_manifest


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made_here = opened(tmp_path / "archive")
    for seed in (1, 2, 3):
        made_here.write(made(30, seed=seed), source=str(seed))
    return made_here


def test_each_line_follows_from_the_one_before(archive: Archive) -> None:
    first, second, third = archive.segments()
    archive.pin(second.name, "a court asked for it", who="jo")
    archive.drop(first.name, "older than 26 weeks", who="retention")
    moves = archive.manifest().moves
    assert [move.before for move in moves] == [START, *(move.chain for move in moves[:-1])]
    assert [(move.n, move.move) for move in moves] == [(1, "add"), (2, "add"), (3, "add"), (4, "pin"), (5, "drop")]
    assert (moves[4].sha256, moves[4].reason, moves[4].who) == (first.sha256, "older than 26 weeks", "retention")
    assert third.chain == moves[2].chain


def test_chain_and_hashes_can_be_checked_by_whoever_has_read_how(archive: Archive) -> None:
    before = "0" * 64
    for n, line in enumerate(manifest_of(archive).read_bytes().splitlines(), start=1):
        text, chain = line[:-76], json.loads(line)["chain"]
        assert line[-76:] == f',"chain":"{chain}"}}'.encode()
        assert hashlib.sha256(text).hexdigest() == chain
        move = json.loads(line)
        assert (move["n"], move["before"]) == (n, before)
        before = chain
        path = manifest_of(archive).parent / "segments" / move["segment"]["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == move["segment"]["sha256"]


def test_any_changed_byte_of_it_is_found_and_named_with_its_line(archive: Archive) -> None:
    path = manifest_of(archive)
    whole = path.read_bytes()
    newlines = [at for at, byte in enumerate(whole) if byte == 10]
    for at in [*range(0, len(whole), 7), *newlines]:
        flip(path, at)
        findings = [finding for finding in archive.verify() if finding.kind == "manifest"]
        assert findings, f"byte {at} was changed, and nobody noticed"
        lines = {whole.count(b"\n", 0, at) + 1, whole.count(b"\n", 0, at)}
        assert lines & {finding.at for finding in findings}, f"byte {at}: {findings}"
        assert len(archive.segments()) >= (1 if at in newlines else 2), f"byte {at}: the rest cannot be read any more"
        path.write_bytes(whole)
    assert archive.verify() == []


@pytest.mark.parametrize("what", ["taken out", "twice", "swapped", "first"])
def test_lines_taken_out_put_in_or_moved_are_found(archive: Archive, what: str) -> None:
    path = manifest_of(archive)
    one, two, three = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        {
            "taken out": one + three,
            "twice": one + two + two + three,
            "swapped": two + one + three,
            "first": two + three,
        }[what]
    )
    assert "manifest" in {finding.kind for finding in archive.verify()}


def test_a_line_that_somebody_made_up_does_not_follow(archive: Archive) -> None:
    manifest = archive.manifest()
    forged = msgspec.structs.replace(manifest.moves[2], segment=manifest.segments[manifest.moves[0].name])
    path = manifest_of(archive)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], line_of_move(forged), *lines[2:]]))
    assert [line for line, _ in archive.manifest().faults][:1] == [2]


def test_nothing_is_written_behind_a_broken_line(archive: Archive) -> None:
    flip(manifest_of(archive), 50)
    before = manifest_of(archive).read_bytes()
    with pytest.raises(
        StoreUnavailable, match=r"line 1 of the manifest of .* is broken: its hash is not that of its text"
    ):
        archive.write(made(5, seed=9), source="new")
    assert manifest_of(archive).read_bytes() == before
    assert len(archive.segments()) == 2


def test_a_torn_last_line_is_no_line_and_is_taken_off(archive: Archive) -> None:
    path = manifest_of(archive)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for left in range(len(last)):
        path.write_bytes(whole[: len(whole) - len(last) + left])
        assert len(archive.segments()) == 2
        assert archive.manifest().faults == []
        assert archive.manifest().torn == left
    path.write_bytes(whole[:-20])
    archive.rebuild_index()
    assert {finding.kind for finding in archive.verify()} == {"manifest", "unlisted"}
    archive.write(made(30, seed=3), source="3")
    assert path.read_bytes() == whole, "what was taken up is not what would have been written"
    assert archive.verify() == []


def test_a_name_that_leads_elsewhere_is_a_fault_and_never_a_path(archive: Archive) -> None:
    manifest = archive.manifest()
    n, before = manifest.head
    evil = msgspec.structs.replace(manifest.moves[0], n=n + 1, before=before, name="../../../etc/passwd", segment=None)
    with manifest_of(archive).open("ab") as file:
        file.write(line_of_move(evil))
    assert "which no segment is called" in archive.manifest().faults[0][1]


def test_a_pinned_segment_is_not_dropped_until_it_is_unpinned(archive: Archive) -> None:
    name = archive.segments()[0].name
    assert archive.pin(name).pinned
    assert archive.pin(name).pinned
    with pytest.raises(LongwatchError, match="is pinned"):
        archive.drop(name, "old")
    archive.unpin(name)
    assert archive.drop(name, "old").dropped
    assert archive.drop(name, "old").dropped, "twice does harm"
    assert len(archive.segments()) == 2
    with pytest.raises(NotFound):
        archive.pin(name)
    with pytest.raises(NotFound):
        archive.drop("20260601-0123456789abcdef.jsonl.zst", "old")


def test_a_source_that_was_dropped_is_not_written_again(archive: Archive) -> None:
    archive.drop(archive.segments()[0].name, "old")
    assert archive.write(made(30, seed=1), source="1").dropped
    assert len(archive.segments()) == 2


def test_one_writes_at_a_time_and_the_other_is_told(archive: Archive, tmp_path: Path) -> None:
    other = opened(tmp_path / "archive")

    def meanwhile() -> list[Entry]:
        with pytest.raises(StoreUnavailable, match="somebody writes the archive"):
            other.write(made(5), source="other")
        assert len(other.segments()) == 3, "readers wait for writers"
        return made(10, seed=9)

    archive.write((entry for entries in [meanwhile] for entry in entries()), source="slow")
    assert len(other.segments()) == 4


def test_a_redaction_leaves_the_text_in_no_file_and_the_chain_says_who_why_and_from_what_to_what(
    archive: Archive, tmp_path: Path
) -> None:
    archive.write([*made(30, seed=4), *made(2, seed=5, text="my-secret-4711")], source="5")
    old = archive.segments()[-1]
    archive.pin(old.name)
    receipt = archive.redact(clean, text="my-secret-4711", reason="a customer asked", who="jo")
    new = archive.segments()[-1]
    assert (receipt.replaced, receipt.entries) == ({old.name: new.name}, 2)
    assert (new.source, new.number, new.entries, new.pinned) == (old.source, old.number, old.entries, True)
    move = archive.manifest().moves[-1]
    facts = (move.move, move.name, move.sha256, move.reason, move.who)
    assert facts == (
        "redact",
        old.name,
        old.sha256,
        "a customer asked",
        "jo",
    )
    assert [entry.body for entry in archive.show("call_5_1").entries] == [b'{"was": "[gone]"}']
    assert archive.find(text="my-secret").entries == []
    assert all(
        b"4711" not in b"".join(entry.body for entry in archive.entries(segment)) for segment in archive.segments()
    )
    assert not file_of(archive, old).exists()
    archive.close()
    assert not [path for path in (tmp_path / "archive").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert archive.redact(clean, text="my-secret-4711", reason="", who="jo").entries == 0
    assert archive.redact(clean, ids=["call_1_3"], reason="", who="jo").entries == 1
    assert archive.verify() == []


def test_what_is_damaged_is_not_redacted_behind_anybodys_back(archive: Archive) -> None:
    segment = archive.segments()[0]
    flip(file_of(archive, segment), 60)
    with pytest.raises(StoreUnavailable, match="are not what was written"):
        archive.redact(clean, text="nowhere", reason="", who="jo")
    assert archive.segments()[0] == segment


def test_a_line_of_json_without_an_end_is_no_move() -> None:
    assert read_manifest(b"{}\n").faults == [(1, "it does not end with a chain")]
    assert read_manifest(b"").moves == []
