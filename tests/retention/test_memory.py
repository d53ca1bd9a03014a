"""What agents remember leaves memory for the archive once a snapshot covers it; what stands, stays; nothing seems lost."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zstandard

import longwatch
from longwatch import KeyConflict, Longwatch, Memory, Run
from longwatch.policy.brief import LATER
from longwatch.policy.retention import Close
from longwatch.runtime.archive import Archives
from longwatch.store import retire
from longwatch.store.left import Leaving
from longwatch.store.redaction import Redaction

NOW = Close(0)
TOLD = 150


@pytest.fixture
def config(config: longwatch.Config) -> longwatch.Config:
    return config | {"memory": {"snapshot_every": 20}}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retire, "PAGE", 16)


def fill(memory: Memory, number: int = TOLD) -> None:
    """Every third place is a fact; lessons, decisions and commitments stand between."""
    memory.charter("Bring readers to the shop, and be honest.")
    for n in range(0, number, 10):
        memory.record("lesson", f"lesson {n}: never promise {n}")
        memory.record("commitment", f"report {n} on Friday", key=f"report-{n}")
        memory.record_many(
            {"kind": ("result", "fact")[m % 3 == 0], "text": f"order {m} was shipped", "task": f"t{m}", "key": f"o{m}"}
            for m in range(n, n + 10)
        )
    memory.compact(everything=True)


@pytest.fixture
def memory(lw: Longwatch) -> Memory:
    made = lw.memory("seo")
    fill(made)
    return made


def hot(archives: Archives, agent: str = "seo") -> dict[str, str]:
    """Ids of what is in memory's tables, and their kinds."""
    return {each.id: each.kind for each in archives.memories.store.range(agent, 1, 1 << 40, limit=10_000)}


def archived(archives: Archives) -> list[dict[str, Any]]:
    return [
        json.loads(entry.body)
        for segment in archives.segments()
        for entry in archives.archive.entries(segment)
        if entry.kind == "record"
    ]


def test_what_is_covered_and_does_not_stand_leaves_and_all_else_stays(
    lw: Longwatch, memory: Memory, archives: Archives
) -> None:
    pinned, closed = memory.pin("r3"), memory.close("r2", "sent")
    young = memory.record("fact", "no snapshot covers this")
    before, every, brief = hot(archives), memory.list(limit=999), memory.brief(3000).text
    archives.round(NOW)
    here, gone = hot(archives), {body["id"] for body in archived(archives)}
    assert set(before) == set(here) | gone
    assert set(here).isdisjoint(gone)
    assert closed.id in gone
    assert {pinned.id, young.id} <= set(here)
    standing = [each for each in every if each.kind in ("lesson", "commitment") and each.state == "live"]
    assert {each.id for each in standing} <= set(here)
    facts = [each.id for each in every if each.kind == "fact" and each.state == "live"]
    assert set(facts[:LATER]) <= set(here), "what a brief reads"
    assert len(gone) > TOLD // 3
    assert memory.brief(3000).text == brief
    assert memory.verify() == memory.verify(whole=True) == ()
    with archives.memories.store.database.read() as tx:
        assert len(tx.all("left.unchecked", agent="", first_place=0, age_ms=0, limit=99)) == 0
    archives.round(NOW)
    assert (len(archived(archives)), hot(archives)) == (len(gone), here)


def test_what_is_young_and_what_no_snapshot_covers_stays(lw: Longwatch, archives: Archives) -> None:
    memory = lw.memory("seo")
    memory.record_many({"kind": "result", "text": f"order {n}", "task": f"t{n}"} for n in range(100))
    archives.round(NOW)
    assert archived(archives) == []
    memory.compact(everything=True)
    archives.round(Close(3_600_000))
    assert archived(archives) == []
    archives.round(NOW)
    assert len(archived(archives)) == 100 - LATER


def test_a_snapshot_that_is_not_what_it_covers_keeps_its_records(memory: Memory, archives: Archives) -> None:
    with archives.memories.store.database.transaction(part="memory") as tx:
        tx.count("memory.redact", seq=5)  # behind its back
    archives.round(NOW)
    first = memory.show("r1"), memory.show("r4")
    assert {each.id for each in first} <= set(hot(archives))
    assert archived(archives) != []
    assert "was changed" in memory.verify()[0]


def test_an_archived_record_is_shown_exported_and_taken_for_what_it_is(
    lw: Longwatch, memory: Memory, archives: Archives
) -> None:
    every: list[str] = []
    memory.export(every.append)
    before = {each.id: each for each in map(memory.show, (f"r{n}" for n in range(1, 60)))}
    archives.round(NOW)
    gone = [each for each in before.values() if each.id not in hot(archives)]
    assert len(gone) > 20
    for each in gone:
        assert memory.show(each.id) == memory.show(each.ref) == each
    after: list[str] = []
    memory.export(after.append)
    assert after == every
    one = gone[0]
    assert one.key is not None
    assert memory.record(one.kind, one.text, task=one.task, key=one.key).id == one.id, "it is what it was"
    with pytest.raises(KeyConflict, match="says something else"):
        memory.record(one.kind, "another", key=gone[1].key)
    assert memory.verify(whole=True) == ()


def test_something_happens_to_an_archived_record(lw: Longwatch, memory: Memory, archives: Archives) -> None:
    archives.round(NOW)
    facts = [body["id"] for body in archived(archives) if body["kind"] == "fact"]
    corrected = memory.correct(facts[0], "it was lost")
    assert (memory.show(facts[0]).state, memory.show(facts[0]).successor) == ("superseded", corrected.id)
    assert memory.pin(facts[1]).pinned
    assert memory.close(facts[2], "no more").state == "closed"
    assert memory.recall("it was lost", limit=1)[0].id == corrected.id
    assert memory.verify() == memory.verify(whole=True) == ()
    archives.round(NOW)
    here = hot(archives)
    assert [each in here for each in facts[:3]] == [False, True, False]
    assert memory.show(facts[0]).successor == corrected.id, "as it was archived last"
    assert [text for _, _, _, text in memory.show(facts[2]).history] == ["no more"]
    assert memory.verify(whole=True) == ()


def test_what_was_closed_does_not_come_back_in_a_brief(lw: Longwatch, archives: Archives) -> None:
    memory = lw.memory("seo")
    for n in range(300):
        memory.record("fact", f"price of {n} is {n} pence", key=f"f{n}", task=f"t{n}")
        memory.record("result", f"shipped {n}", task=f"t{n}")
    memory.compact(everything=True)
    shown = memory.brief(6000)
    told = [each for each in shown.sources if memory.show(each).kind == "fact"]
    for each in told:
        memory.close(each)
    brief = memory.brief(6000).text
    archives.round(NOW)
    assert set(told).isdisjoint(hot(archives))
    assert memory.brief(6000).text == brief
    memory.record_many({"kind": "result", "text": f"n {n}", "task": f"u{n}"} for n in range(200))
    memory.compact()
    assert not [each for each in memory.brief(6000).sources if each in told]


def test_what_the_journal_tells_again_is_not_remembered_again(lw: Longwatch, archives: Archives) -> None:
    memories = archives.memories
    with lw.opened.parts.database.transaction() as tx:
        for n in range(120):
            data = json.dumps({"record": f"rec_{n}", "text": f"said {n}"})
            tx.count("journal.append", kind="note.result", subject=f"t{n}", agent="seo", task=None, data=data)
    memories.catch_up()
    lw.memory("seo").compact(everything=True)
    object.__setattr__(archives.retirement, "drop", kept_all)  # the journal stays
    archives.round(NOW)
    gone = len(archived(archives))
    assert gone == 120 - LATER
    with memories.store.database.transaction(part="memory") as tx:
        tx.count("memory.keep_feed", epoch=0, seq=0)  # another history begins
    memories.catch_up()
    assert memories.store.agent("seo").places == 120
    assert len(hot(archives)) == LATER


def test_damage_in_the_archive_is_told(memory: Memory, archives: Archives) -> None:
    archives.round(NOW)
    (segment,) = [each for each in archives.segments() if "record" in each.entries]
    assert archives.folder is not None
    path = archives.folder / "segments" / segment.name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "are there" in memory.verify()[0]
    path.write_bytes(whole[:100] + b"x" + whole[101:])
    assert memory.verify() == (), "its size is what it was"
    assert "cannot be read in the archive" in memory.verify(whole=True)[0]
    path.write_bytes(whole)
    assert memory.verify(whole=True) == ()
    archives.drop(segment.name, "to make room", who="ada")
    assert memory.verify(whole=True) == (), "dropped by who may"
    with archives.memories.store.database.transaction(part="memory") as tx:
        tx.count("left.drop", listed="[1]")
    assert "1 records" in memory.verify()[0]


def test_recall_reaches_the_archive_where_it_is_asked_to(lw: Longwatch, archives: Archives) -> None:
    memory = lw.memory("seo")
    memory.record_many(
        {"kind": "message", "text": text, "author": who, "thread": "talk", "trust": "own"}
        for who, text in (("ada", "My sister bought a violin."), ("bob", "Does she play well?"), ("ada", "Not yet."))
    )
    fill(memory)
    memory.record_many({"kind": "message", "text": f"hello {n}"} for n in range(2 * LATER))
    memory.compact(everything=True)
    before = memory.recall("whose sister has a violin?", limit=3)
    archives.round(NOW)
    assert memory.show("r1").id not in hot(archives)
    assert "violin" not in " ".join(hit.text for hit in memory.recall("violin"))
    (found, *_) = memory.recall("whose sister has a violin?", limit=3, archive=True)
    assert (found.id, found.context) == (before[0].id, before[0].context)
    assert memory.recall("which violins", archive=True, kinds=["message"])[0].id == found.id
    assert memory.recall("violin", archive=True, kinds=["fact"]) == []
    assert memory.recall("violin", archive=True, until="2020-01-01") == []
    texts = [hit.text for hit in memory.recall("order 7 shipped", limit=50, archive=True)]
    assert "order 7 was shipped" in texts
    assert len(texts) == len(set(texts)), "each once, wherever it is"
    memory.close(found.id, "no matter")
    assert memory.recall("violin")[0].state == "closed"
    assert [hit.state for hit in memory.recall("violin", archive=True) if hit.id == found.id] == ["closed"]
    archives.round(NOW)
    assert memory.recall("violin") == []
    assert [hit.state for hit in memory.recall("violin", archive=True) if hit.id == found.id] == ["closed"]


SECRET = "xyzzyplugh"


def residue(folder: Path) -> list[str]:
    """Files that hold the word, in whatever case, packed or not. By other processes: this one has them open."""
    plain = subprocess.run(["grep", "-rila", SECRET, str(folder)], capture_output=True, text=True, check=False)
    packed = [str(path) for path in folder.rglob("*.zst*") if SECRET in "".join(entry_lines(path)).lower()]
    return plain.stdout.split() + packed


def entry_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        raw = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    return raw.decode("utf-8").splitlines()


def kept_all(*_: object, **__: object) -> int:
    """Nothing leaves."""
    return 0


def dying(*_: object, **__: object) -> None:
    """Dies."""
    raise ZeroDivisionError


def leak(lw: Longwatch) -> None:
    """Tasks that say it in each way there is; and others, so that they may leave."""

    @lw.task()
    def leak(run: Run, customer: str) -> str:
        run.record("fact", f"the word of {customer} is {SECRET}", data={"word": SECRET})
        run.step("note", str, SECRET)
        if customer == "broke":
            raise longwatch.GiveUp(f"{SECRET} is wrong")
        return f"{customer} says {SECRET}"

    @lw.task()
    def other(run: Run) -> None:
        pass

    seo = lw.agent("seo")
    for customer in ("acme", "broke"):
        seo.submit(leak.bind(customer), key=f"leak-{customer}")
    lw.submit(other.bind())
    lw.work(until_idle=True)
    memory = lw.memory("seo")
    memory.close(memory.record("fact", f"forget {SECRET}", key=f"k-{SECRET}", author=SECRET), f"forgot {SECRET}")
    for kind in ("result", "failure", "fact"):
        memory.record_many({"kind": kind, "text": f"{kind} {n}", "task": f"t{n}"} for n in range(LATER))
    memory.compact(everything=True)
    memory.record("lesson", "the newest stays")


@pytest.mark.parametrize("away", ["all of it", "only memory", "only the state", "nothing"])
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_is_redacted_is_in_no_file_wherever_it_was(
    lw: Longwatch, archives: Archives, tmp_path: Path, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leak(lw)
    if away == "only memory":
        object.__setattr__(archives.retirement, "drop", kept_all)
    if away == "only the state":
        monkeypatch.setattr(Leaving, "drop", kept_all)
    if away != "nothing":
        archives.round(NOW)
    memory = lw.memory("seo")
    hits = memory.recall(SECRET, limit=20, archive=True)
    assert len(hits) == 5
    assert residue(tmp_path) != []
    for hit in hits:
        made = memory.redact(hit.id, "asked for by acme")
        (note,) = [note for _, _, what, note in made.history if what == "redact"]
        assert "asked for by acme" in note
        assert (".jsonl" in note or " -> 2026" in note) == (away != "nothing"), note
    assert memory.recall(SECRET, archive=True) == []
    assert memory.verify(whole=True) == ()
    assert archives.archive.verify() == []
    assert residue(tmp_path) == []
    archives.round(NOW)
    assert {memory.show(hit.id).text for hit in hits} == {"[redacted]"}
    assert memory.verify(whole=True) == ()
    assert residue(tmp_path) == []


def test_a_redaction_leaves_every_digest_right_where_what_left_goes_on_over_several_snapshots(
    lw: Longwatch, archives: Archives
) -> None:
    memory = lw.memory("seo")
    memory.record_many({"kind": "result", "text": f"order {n} was shipped", "task": f"t{n}"} for n in range(120))
    memory.compact(everything=True)
    archives.round(NOW)
    for ref in ("r5", "r20", "r21"):
        memory.redact(ref, "a secret")
        assert memory.verify(whole=True) == ()


def test_a_redaction_that_died_is_finished_by_the_next(
    lw: Longwatch, memory: Memory, archives: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.round(NOW)
    gone = next(body["id"] for body in archived(archives) if body["kind"] == "fact")
    monkeypatch.setattr(Redaction, "redact", dying)
    with pytest.raises(ZeroDivisionError):
        memory.redact(gone, "a secret")
    monkeypatch.undo()
    assert memory.show(gone).text.startswith("order"), "it is known to be there"
    assert [body["body"] for body in archived(archives) if body["id"] == gone] == ["[redacted]"]
    made = memory.redact(gone, "a secret")
    assert (made.text, memory.verify(whole=True)) == ("[redacted]", ())
    assert " -> " in made.history[0][3]


def test_where_a_segment_was_dropped_a_redaction_says_no_digest(memory: Memory, archives: Archives) -> None:
    memory.pin("r3")
    archives.round(NOW)
    for segment in archives.segments():
        if "record" in segment.entries:
            archives.drop(segment.name, "to make room", who="ada")
    assert memory.redact("r3", "a secret").text == "[redacted]"
    assert memory.verify(whole=True) == ()


def test_a_task_that_is_restored_leaves_what_is_remembered_of_it_where_it_is(lw: Longwatch, archives: Archives) -> None:
    leak(lw)
    archives.round(NOW)
    gone = [body for body in archived(archives) if body["task"] and body["source"] == "task"]
    head = next(entry for entry in archives.archive.show(gone[0]["task"]).entries if entry.kind == "task")
    entries = archives.archive.show(head.id).entries
    assert "record" in {entry.kind for entry in entries}
    found = list(archives.located([head], entries))
    assert archives.restore(found, who="ada").tasks == [head.id]
    assert lw.get(head.id).state == "failed" or lw.get(head.id).result
    with lw.opened.parts.database.transaction() as tx:
        for name in {name for name, entry in found if entry.kind != "record"}:
            tx.count("retire.keep_restored", task=head.id, segment=name, keep_ms=-1)
    archives.round(NOW)
    with pytest.raises(longwatch.NotFound):
        lw.get(head.id)
    assert lw.memory("seo").verify(whole=True) == ()
    assert len(archived(archives)) == len({body["id"] for body in archived(archives)})
