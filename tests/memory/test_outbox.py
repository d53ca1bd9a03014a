"""What runs do and note reaches memory through the journal: under the fence, in order, once, whoever dies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import warm

import longwatch
from longwatch import ConfigError, Longwatch, Run

SCRIPT = """
import os, signal, sys
import longwatch
lw = longwatch.open(sys.argv[1], agent="seo")

@lw.task(crashes=5)
def work(run: longwatch.Run, n: int) -> int:
    run.record("decision", f"chose {n}", data={"n": n})
    if n % 3 == 0 and run.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    run.record("fact", f"chose {n}")
    return n * n

if __name__ == "__main__":
    for n in range(12):
        lw.submit(work.bind(n=n), key=f"t{n}")
    lw.work(until_idle=True)
"""


def test_the_ends_of_tasks_are_remembered(lw: Longwatch) -> None:
    @lw.task()
    def invoice(run: Run, customer: str) -> dict[str, str]:
        if customer == "nobody":
            raise longwatch.GiveUp("no such customer")
        return {"charge": f"ch_{customer}"}

    seo = lw.agent("seo")
    done = seo.submit(invoice.bind("acme"))
    seo.submit(invoice.bind("nobody"))
    lw.work(until_idle=True)
    failure, result = lw.memory("seo").list()
    assert (result.kind, result.text, result.task) == ("result", "invoice(customer acme) done: charge ch_acme", done.id)
    assert result.data == {"args": {"customer": "acme"}, "result": {"charge": "ch_acme"}}
    assert (failure.kind, failure.text) == ("failure", "invoice(customer nobody) failed: GiveUp: no such customer")


def test_catching_up_does_not_run_after_a_fleet_that_tells_faster(lw: Longwatch) -> None:
    memories, database = lw.opened.parts.memories, lw.opened.parts.database
    steps = 0

    def tell() -> None:
        nonlocal steps
        steps += 1
        assert steps < 9
        with database.transaction() as tx:
            data = json.dumps({"record": f"rec_{steps}", "text": f"said {steps}"})
            tx.count("journal.append", kind="note.result", subject="t", agent="seo", task=None, data=data)

    tell()
    assert memories.catch_up(still=tell) == 1
    assert steps == 2
    assert memories.catch_up() == 1


def test_inside_a_run_memory_belongs_to_the_run(lw: Longwatch) -> None:
    @lw.task()
    def decide(run: Run) -> None:
        old = run.record("decision", "pay for links")
        lw.memory().record("decision", "no paid links", supersedes=old.id)
        lw.memory().close(run.record("commitment", "tell ada").id, "told")

    task = lw.agent("seo").submit(decide.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).error is None
    memory = lw.memory("seo")
    assert [(each.text, each.task, each.source) for each in memory.list(kind="decision")] == [
        ("no paid links", task.id, "run")
    ]
    ((_, who, _, _),) = memory.show(memory.list(kind="commitment", state="closed")[0].id).history
    assert who.startswith("seo run_")


def test_a_run_that_was_overtaken_remembers_nothing(lw: Longwatch) -> None:
    caught: list[str] = []

    @lw.task()
    def slow(run: Run) -> None:
        lw.cancel(run.task)
        try:
            run.record("decision", "too late")
        except longwatch.LeaseLost as error:
            caught.append(error.code)

    lw.agent("seo").submit(slow.bind())
    lw.work(until_idle=True)
    assert caught == ["lease_lost"]
    assert lw.memory("seo").list() == []


def test_an_unknown_kind_fails_the_task_at_once(lw: Longwatch) -> None:
    @lw.task(retries=3)
    def wrong(run: Run) -> None:
        run.record("decison", "x")

    task = lw.submit(wrong.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).failures == 1
    assert ConfigError.__name__ in str(lw.get(task.id).error)


def test_every_note_and_end_is_remembered_once_whoever_is_killed(place: str, tmp_path: Path) -> None:
    script = tmp_path / "agents.py"
    script.write_text(SCRIPT)
    kills = 0
    for _ in range(20):
        ended = warm.run([sys.executable, str(script), place], timeout=60)
        kills += ended.returncode == -signal.SIGKILL
        if ended.returncode == 0:
            break
    assert kills == 4
    with longwatch.open(place) as lw:
        memory = lw.memory("seo")
        texts = sorted(each.text for each in memory.list(kind="decision", limit=100))
        assert texts == sorted(f"chose {n}" for n in range(12))
        assert len(memory.list(kind="fact", limit=100)) == 12
        assert len(memory.list(kind="result", limit=100)) == 12
        assert [each.ref for each in reversed(memory.list(limit=100))] == [f"r{n}" for n in range(1, 37)]


def test_processes_that_catch_up_at_once_add_nothing_twice(place: str, tmp_path: Path) -> None:
    script = tmp_path / "agents.py"
    script.write_text(SCRIPT.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass"))
    warm.run([sys.executable, str(script), place], timeout=60, check=True)
    reader = f"import longwatch; print(len(longwatch.open({place!r}).memory('seo').list(limit=1000)))"
    readers = [warm.Popen([sys.executable, "-c", reader], stdout=subprocess.PIPE) for _ in range(4)]
    assert {each.communicate(timeout=60)[0].strip() for each in readers} == {"36"}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_memory_is_made_when_it_is_first_used(place: str) -> None:
    with longwatch.open(place) as lw:
        lw.submit_batch("none", [])
        assert not os.path.exists(place + ".memory")
        lw.memory().record("fact", "x")
        assert oct(os.stat(place + ".memory").st_mode & 0o777) == "0o600"
