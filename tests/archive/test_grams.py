"""What a frame is said not to hold, it does not hold: no text that is there is ever passed over."""

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from archives import Clock, opened
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.recall import query_of
from longwatch.store.archive import Archive, Entry, frames
from longwatch.store.archive.entry import line_of
from longwatch.store.archive.grams import Needed, grams_of, hashes_of, may_hold, words_of
from longwatch.store.archive.index import Index
from longwatch.store.archive.recall import FRAMES, Asked
from longwatch.store.archive.search import spellings

LETTERS = st.text(st.sampled_from("abZ019 -_'\"\\/\n\té😀\u2028"), max_size=40)


def entry(text: str) -> Entry:
    return Entry("log", "l/1", 1, "seo", "task_1", json.dumps({"line": text}, ensure_ascii=len(text) % 2 == 0).encode())


@given(LETTERS, st.integers(0, 40), st.integers(0, 40), st.lists(LETTERS, max_size=5))
def test_every_part_of_a_text_may_be_where_it_is(text: str, start: int, size: int, others: list[str]) -> None:
    raw = b"".join(line_of(entry(each)) for each in [*others, text])
    part = text[start : start + size]
    assert not part or Needed(spellings(part)).may_be_in(grams_of(raw))


@given(st.sets(st.text(min_size=1, max_size=12), min_size=1, max_size=200))
def test_every_word_of_a_record_may_be_where_it_is(words: set[str]) -> None:
    bits = words_of(words)
    assert all(may_hold(bits, hashes_of(word)) for word in words)


def test_most_frames_are_passed_over() -> None:
    dice = random.Random(5)
    said = ["order", "customer", "parcel", "letter"]
    bits = [grams_of(b"".join(line_of(entry(f"{dice.choices(said, k=9)} {n}")) for n in range(500))) for _ in range(20)]
    for text in ("zqx-rare-4711", "refund", "violin", "who? nobody"):
        needed = Needed(spellings(text))
        assert not any(map(needed.may_be_in, bits)), text
    assert all(Needed(spellings("customer', 'parcel")).may_be_in(each) for each in bits)
    assert all(Needed(spellings("4711")).may_be_in(each) for each in bits), "digits are all alike"


def record(place: int, text: str, *, kind: str = "result", agent: str = "seo") -> Entry:
    body = {"place": place, "kind": kind, "agent": agent, "body": text, "author": None, "at_ms": place}
    return Entry(
        "record", f"rec_{place}", place, agent, "", json.dumps(body, separators=(",", ":")).encode(), place=place
    )


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """More frames than one question may read."""
    monkeypatch.setattr(frames, "RAW", 64 << 10)
    archive, dice = opened(tmp_path / "archive"), random.Random(7)
    said = "order customer parcel letter price week month bank report card".split()  # noqa: SIM905
    rare = {400: "my sister bought a violin", 5_000: "two boats were painted", 5_001: "mostly green"}
    for part in range(4):
        places = range(1 + part * 2_000, 2_001 + part * 2_000)
        archive.write(
            (record(n, rare.get(n, " ".join(dice.choices(said, k=50)))) for n in places), source=f"records/1/{part}"
        )
    assert len(archive.place.sizes()) == 4
    return archive


def asked(question: str, **about: object) -> Asked:
    return Asked("seo", query_of(question).forms, **about)  # type: ignore[arg-type]


def test_a_rare_word_is_found_wherever_it_is_and_with_what_stands_beside(remembered: Archive) -> None:
    for question, place in (("violins", 400), ("the painting of a boat", 5_000), ("parcel violin", 400)):
        found = remembered.recall(asked(question), limit=5)
        assert place in found.likeliest, question
        assert {place - 1, place + 1} <= {each.place for each in found.entries}
    assert remembered.recall(asked("zebra"), limit=5).entries == []
    assert remembered.recall(asked("violin")._replace(agent="other"), limit=5).entries == []


def test_words_that_are_everywhere_are_found_in_what_is_newest(remembered: Archive) -> None:
    found = remembered.recall(asked("order parcel"), limit=20)
    assert len(found.likeliest) == 20
    assert min(found.likeliest) > 8_000 - FRAMES * 160
    assert found.having["order"] > 7_000, "told from what was read"


def test_only_of_the_time_and_the_kinds_asked_for(remembered: Archive) -> None:
    remembered.write([record(50_000, "we decided on a violin", kind="decision")], source="records/1/9")
    remembered.write([record(50_001, "a violin was paid", kind="call")], source="records/1/10")
    assert remembered.recall(asked("violin"), limit=9).likeliest == {400, 50_000}
    assert remembered.recall(asked("violin", kinds=["decision"]), limit=9).likeliest == {50_000}
    assert 50_000 not in remembered.recall(asked("violin", until_ms=3_000), limit=9).likeliest


def test_what_is_redacted_is_in_no_bits(remembered: Archive) -> None:
    def gone(entry: Entry) -> Entry:
        return record(entry.place, "[redacted]")

    remembered.redact(gone, ids=["rec_400"], reason="asked for", who="ada")
    assert remembered.recall(asked("violin"), limit=5).likeliest == set()
    index = Index(remembered.place.index, Clock())
    every = {(spot.name, spot.start) for spot in index.all()}
    assert index.without(Needed(spellings("violin"))) == every
    index.close()
    assert remembered.find(text="violin").entries == []


def test_an_index_from_before_there_were_bits_is_made_anew(remembered: Archive) -> None:
    remembered.close()
    with closing(sqlite3.connect(remembered.place.index)) as file, file:
        file.executescript("drop table frame_places; drop table frame_bits; pragma user_version = 1")
    assert remembered.recall(asked("violin"), limit=5).likeliest == {400}
    assert [entry.place for entry in remembered.records("seo", 399, 401).entries] == [399, 400, 401]
    assert len(remembered.find(text="my sister").entries) == 1
    assert remembered.verify() == []


def test_of_several_copies_of_a_record_the_last_one_counts(remembered: Archive) -> None:
    remembered.write([record(400, "my sister sold it")], source="records/1/9")
    assert b"sold" in remembered.records("seo", 400, 400).entries[0].body
    found = remembered.recall(asked("sister"), limit=5)
    assert [b"sold" in entry.body for entry in found.entries if entry.place == 400] == [True]
