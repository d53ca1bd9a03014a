"""What was redacted is nowhere: not in memory, its index, its snapshots, the journal or the task, nor on the disk."""

import subprocess
from pathlib import Path

import pytest

import longwatch
from longwatch import Longwatch, Memory, NotFound, Refused, Run

SECRET = "xyzzyplugh"


def residue(folder: Path) -> list[str]:
    """Files that hold the word, in whatever case. By another process: this one has them open."""
    found = subprocess.run(["grep", "-rila", SECRET, str(folder)], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_nothing_is_left_of_it_in_any_file(place: str, tmp_path: Path) -> None:
    folder = tmp_path
    with longwatch.open(place, config={"memory": {"snapshot_every": 20}}) as lw:

        @lw.task()
        def leak(run: Run, customer: str) -> str:
            run.record("fact", f"the word of {customer} is {SECRET}", data={"word": SECRET})
            return run.step("say", str, f"{customer} says {SECRET}")

        task = lw.agent("seo").submit(leak.bind("acme"))
        lw.work(until_idle=True)
        memory = lw.memory("seo")
        memory.record("lesson", f"never say {SECRET}", key=SECRET)
        memory.close(memory.record("commitment", f"forget {SECRET}"), f"forgot {SECRET}")
        memory.record_many({"kind": "result", "text": f"n {n} done", "task": f"t{n}"} for n in range(19 + 20 * 9))
        memory.compact()
        assert len(memory.recall(SECRET)) == 4
        for hit in memory.recall(SECRET):
            memory.redact(hit.id, "asked for by acme")
        assert memory.recall(SECRET) == []
        assert memory.verify() == ()
        assert SECRET not in memory.brief().text
        assert lw.get(task.id).args == {}
        assert residue(folder) == []
    assert residue(folder) == []


def test_a_receipt_says_who_and_why_and_the_place_stays(memory: Memory) -> None:
    before = memory.record("fact", f"the word is {SECRET}", author="bob")
    memory.record("fact", "another")
    made = memory.redact(before, "a secret")
    assert (made.id, made.state, made.text, made.data, made.author) == (before.id, "redacted", "[redacted]", None, None)
    ((_, who, what, note),) = made.history
    assert (who, what, note) == ("operator", "redact", "a secret")
    assert memory.redact(before, "again").history == made.history, "twice does no harm"
    assert [each.ref for each in memory.list()] == ["r2", "r1"]
    assert memory.recall("word another")[0].text == "another"
    with pytest.raises(NotFound):
        memory.redact("rec_none")


def test_snapshots_of_every_level_are_in_order_afterwards(place: str) -> None:
    with longwatch.open(place, config={"memory": {"snapshot_every": 20}}) as lw:
        memory = lw.memory("seo")
        memory.record("fact", f"the word is {SECRET}")
        memory.record_many({"kind": "result", "text": f"n {n} done", "task": f"t{n}"} for n in range(200))
        memory.compact()
        assert SECRET in memory.brief().text
        history = memory.redact("r1", "a secret").history
        assert "->" in history[0][3], "the digests that changed"
        assert memory.verify() == ()
        assert SECRET not in memory.brief().text


def test_an_agent_cannot_redact(lw: Longwatch, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    made = memory.record("fact", "evidence")
    monkeypatch.setenv("LONGWATCH_RUN", "run_1")
    with pytest.raises(Refused, match="redacted by the operator"):
        memory.redact(made)
    assert memory.show(made.id).text == "evidence"
