"""Snapshots: everything is in one and only one, whoever dies; what stands survives; a loss is found and named."""

import signal
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec
import pytest
import warm

import longwatch
from longwatch import Longwatch, Memory
from longwatch.policy.memory import Record
from longwatch.policy.snapshot import Shape
from longwatch.runtime.compaction import Compaction
from longwatch.store.snapshots import Snapshot, Snapshots

CONFIG = {"memory": {"snapshot_every": 20}}


@pytest.fixture
def lw(place: str) -> Generator[Longwatch]:
    with longwatch.open(place, config=CONFIG) as fleet:
        yield fleet


def fill(memory: Memory, tasks: int, *, start: int = 0) -> None:
    memory.record_many(
        {"kind": "result", "text": f"invoice(n {n}) done: sent", "task": f"task_{n}"}
        for n in range(start, start + tasks)
    )


def snapshots(lw: Longwatch) -> Snapshots:
    return Snapshots(lw.opened.parts.memories.store.database)


def tops(lw: Longwatch) -> list[Snapshot]:
    return snapshots(lw).tops("seo")


def execute(lw: Longwatch, sql: str) -> None:
    """Damage done behind Longwatch's back."""
    with lw.opened.parts.memories.store.database.transaction(part="memory") as tx:
        tx.plain(sql)  # type: ignore[attr-defined]


def test_a_snapshot_covers_about_as_many_tasks_as_it_is_told(lw: Longwatch, memory: Memory) -> None:
    fill(memory, 19)
    assert memory.compact() == 0
    memory.record("decision", "no paid links")
    fill(memory, 26, start=19)
    assert memory.compact() == 2
    assert [(each.level, each.first_place, each.last_place, each.tasks) for each in tops(lw)] == [
        (1, 1, 21, 20),
        (1, 22, 41, 20),
    ]
    assert memory.compact() == 0
    assert memory.compact(everything=True) == 1
    assert tops(lw)[-1].last_place == 46
    assert memory.verify() == ()


def test_ten_of_a_level_become_one_of_the_next(lw: Longwatch, memory: Memory) -> None:
    fill(memory, 20 * 123)
    memory.compact()
    found = tops(lw)
    assert [each.level for each in found] == [3, 2, 2, 1, 1, 1]
    assert [each.tasks for each in found] == [2000, 200, 200, 20, 20, 20]
    assert found[0].shape.numbers.work == {"invoice": (2000, 0)}
    assert memory.verify() == ()


def test_what_stands_is_in_snapshots_of_every_level_and_what_was_closed_is_not(lw: Longwatch, memory: Memory) -> None:
    kept = memory.record("commitment", "report on Friday")
    done = memory.record("commitment", "call ada")
    old = memory.record("decision", "pay for links")
    fill(memory, 20 * 5)
    memory.compact()
    memory.close(done)
    memory.record("decision", "no paid links", supersedes=old.id)
    fill(memory, 20 * 6, start=100)
    memory.compact()
    top = tops(lw)[0]
    assert top.level == 2
    assert [item.text for item in top.shape.commitments] == ["report on Friday"]
    assert [item.ids for item in top.shape.commitments] == [(kept.id,)]
    assert [item.text for item in top.shape.decisions] == ["no paid links"]


def test_of_two_facts_that_contradict_each_other_the_newer_is_kept_and_points_to_the_older(
    lw: Longwatch, memory: Memory
) -> None:
    memory.record("fact", "acme pays in 30 days")
    memory.record("fact", "zenith pays in 10 days")
    memory.record("fact", "acme pays in 60 days")
    memory.record("fact", "acme pays in 5 days", trust="untrusted")
    memory.compact(everything=True)
    facts = tops(lw)[0].shape.facts
    assert [(each.text, each.instead_of) for each in facts] == [
        ("zenith pays in 10 days", ()),
        ("acme pays in 60 days", (1,)),
        ("acme pays in 5 days", ()),
    ]


def test_every_item_names_records_that_are_there(lw: Longwatch, memory: Memory) -> None:
    for number in range(60):
        memory.record(("decision", "fact", "failure", "lesson")[number % 4], f"text {number} of {number % 7}")
    fill(memory, 200)
    memory.compact(everything=True)
    for top in tops(lw):
        shape = top.shape
        for items in (shape.decisions, shape.facts, shape.failures, shape.lessons, shape.narrative):
            for item in items:
                assert [memory.show(f"r{place}").id for place in item.places] == list(item.ids)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("delete from memory_record where place = 7", "1 records of r1 to r20"),
        ("delete from memory_record where place = 77", "1 records between r61 and r80 are missing"),
        ("update memory_record set body = 'other' where place = 30", "a record of r21 to r40"),
        (
            "delete from memory_snapshot where first_place = 21 and level = 1",
            "the one before it ends at r20",
        ),
        ("update memory_charter set body = 'be rich'", "its charter is not what was set"),
    ],
)
def test_every_loss_is_found_and_named(lw: Longwatch, memory: Memory, damage: str, found: str) -> None:
    memory.charter("be honest")
    fill(memory, 60)
    memory.compact()
    fill(memory, 20, start=60)
    assert memory.verify() == ()
    execute(lw, damage)
    assert any(found in what for what in memory.verify()), memory.verify()


def test_only_one_process_makes_snapshots_and_an_overtaken_one_writes_nothing(lw: Longwatch, memory: Memory) -> None:
    fill(memory, 40)
    store = snapshots(lw)
    fence = store.take("another process", lease_ms=60_000)
    assert fence is not None
    assert Compaction(lw.opened.parts.memories).step().busy
    assert tops(lw) == []
    store.give_back(fence)
    assert memory.compact() == 2
    late = msgspec.structs.replace(tops(lw)[0], id="snap_late", first_place=41, last_place=60)
    with pytest.raises(longwatch.LeaseLost):
        store.add(late, fence=fence, lease_ms=60_000)
    assert len(tops(lw)) == 2


def test_writers_are_not_kept_out_while_a_snapshot_is_thought_about(lw: Longwatch, memory: Memory) -> None:
    fill(memory, 40)
    compaction = Compaction(lw.opened.parts.memories)
    offline = compaction.summariser

    def slow(records: Sequence[Record]) -> tuple[Shape, str]:
        memory.record("fact", f"written meanwhile, beside {len(records)}")
        return offline(records)

    compaction.summariser = slow
    assert compaction.step(most=2).snapshots == 2
    assert memory.show("r41").text == "written meanwhile, beside 20"
    assert memory.verify() == ()


KILLED = """
import os, signal, sys
import longwatch
from longwatch.runtime.world import Machine

mark, times = sys.argv[2], int(sys.argv[3])
def reach(self, reached):
    global times
    if reached == mark:
        times -= 1
        if times == 0:
            os.kill(os.getpid(), signal.SIGKILL)
Machine.reach = reach
with longwatch.open(sys.argv[1], config={"memory": {"snapshot_every": 20}}) as lw:
    lw.memory("seo").compact()
"""
MARKS = ("memory.read", "memory.summarised", "memory.compacted", "memory.folded", "memory.fold_kept")


def test_whoever_is_killed_at_whatever_step_nothing_is_lost_or_there_twice(place: str, tmp_path: Path) -> None:
    script = tmp_path / "compact.py"
    script.write_text(KILLED)
    with longwatch.open(place, config=CONFIG) as lw:
        fill(lw.memory("seo"), 20 * 25)
        expected = 0
        for number, mark in enumerate(MARKS * 2):
            ended = warm.run(
                [sys.executable, str(script), place, mark, str(1 + number % 3 if "fold" not in mark else 1)],
                timeout=60,
            )
            assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
            expected += ended.returncode == -signal.SIGKILL
            fence = lw.opened.parts.memories.store
            execute(lw, "update memory_compactor set until_ms = 0")  # as if a minute had passed
            assert fence.agent("seo").places == 500 + 100 * number
            assert lw.memory("seo").verify() == (), mark
            fill(lw.memory("seo"), 100, start=500 + 100 * number)
        assert expected >= 8, "the places were reached"
        lw.memory("seo").compact()
        level_one = list(snapshots(lw).of_level("seo", 1))
        assert [each.first_place for each in level_one] == list(range(1, 1501, 20))
        assert lw.memory("seo").verify() == ()


def test_workers_compact_by_themselves(place: str, tmp_path: Path) -> None:
    from longwatch.runtime.upkeep import Upkeep

    with longwatch.open(place, config=CONFIG) as lw:

        @lw.task()
        def noop(run: longwatch.Run, n: int) -> int:
            return n

        seo = lw.agent("seo")
        seo.submit_batch("many", [noop.bind(n=n) for n in range(25)])
        lw.work(until_idle=True)
        execute(lw, "update memory_feed set seq = seq")
        with lw.opened.parts.database.transaction() as tx:
            tx.plain("update fleet set upkeep_ms = 0")  # type: ignore[attr-defined]
        assert Upkeep(lw.opened.parts).step()
        assert [each.tasks for each in tops(lw)] == [20]
