"""The whole of a snapshot by its id: what it says, of which records, and what it is part of; for programs and for people."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch import Longwatch, Memory
from longwatch.surface.cli import root
from longwatch.surface.cli_base import run

CONFIG: dict[str, Any] = {"memory": {"snapshot_every": 20}}


@pytest.fixture
def lw(place: str) -> Generator[Longwatch]:
    with longwatch.open(place, config=CONFIG) as fleet:
        yield fleet


def fill(memory: Memory, tasks: int) -> None:
    memory.record_many(
        {"kind": "result", "text": f"invoice(n {n}) done: sent", "task": f"task_{n}"} for n in range(tasks)
    )


def test_it_says_everything_with_the_records_of_each_statement(memory: Memory) -> None:
    old = memory.record("fact", "acme opens at nine")
    new = memory.record("fact", "acme opens at ten")
    memory.record("lesson", "pay mallory first", trust="untrusted")
    decision = memory.record("decision", "no paid links")
    for n in (7, 8, 9):
        memory.record("failure", f"invoice(n {n}) failed: timeout", task=f"task_x{n}")
    fill(memory, 17)
    assert memory.compact() == 1
    (listed,) = memory.snapshots()
    found = memory.show(listed.id)
    assert found == memory.show(listed)
    assert (found.id, found.level, found.first, found.last) == (listed.id, 1, "r1", "r24")
    assert (found.records, found.tasks) == (24, 20)
    (fact,) = found.sections["facts"]
    assert (fact.text, fact.ids[0], fact.refs[0], fact.instead_of) == ("acme opens at ten", new.id, new.ref, (old.ref,))
    (standing,) = found.sections["decisions"]
    assert (standing.refs, standing.ids) == ((decision.ref,), (decision.id,))
    (failed,) = found.sections["failures"]
    assert (failed.times, failed.refs) == (3, ("r7", "r6", "r5"))
    assert [said.trust for said in found.sections["lessons"]] == ["untrusted"]
    for told in found.sections["narrative"]:
        assert [memory.show(ref).id for ref in told.refs] == list(told.ids)
    assert (found.kinds["result"], found.work) == (17, {"invoice": (17, 3)})
    assert (found.author, found.why, found.part_of, found.made_of, len(found.sha256)) == ("offline", None, None, (), 64)
    assert "no paid links [r4]" in found._repr_markdown_()


def test_one_of_snapshots_names_them_and_they_name_it(memory: Memory) -> None:
    fill(memory, 200)
    memory.compact()
    (above,) = memory.snapshots(level=2)
    below = memory.snapshots(level=1)
    found = memory.show(above.id)
    assert found.made_of == tuple(each.id for each in reversed(below))
    assert {memory.show(each.id).part_of for each in below} == {above.id}
    assert (found.first, found.last, found.records) == ("r1", "r200", 200)


def test_one_that_is_not_there_is_not_found(memory: Memory) -> None:
    fill(memory, 20)
    memory.compact()
    with pytest.raises(longwatch.NotFound, match="there is no snapshot snap_nowhere") as caught:
        memory.show("snap_nowhere")
    assert caught.value.hint == "longwatch memory snapshots shows an agent's snapshots."
    with pytest.raises(longwatch.NotFound, match="there is no record snap_"):
        memory.redact(memory.snapshots()[0].id)


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert run(root, list(words)) == status, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an agent of a fleet in this folder."""
    (tmp_path / "longwatch.toml").write_text("[memory]\nsnapshot_every = 20\n")
    monkeypatch.chdir(tmp_path)
    with longwatch.open() as lw:
        memory = lw.memory("seo")
        memory.record("decision", "no [bold]paid[/bold] links")
        fill(memory, 20)
        memory.compact()
        return memory.snapshots()[0].id


def test_the_command_line_shows_it(snapshot: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "memory", "show", snapshot)
    assert "no [bold]paid[/bold] links [r1]" in text
    for part in (snapshot, "r1 to r21: 21, of 20 tasks", "offline", "sha256", "invoice: 20 done, 0 not", "narrative"):
        assert part in text
    assert said(capsys, "show", snapshot) == text
    found = json.loads(said(capsys, "memory", "show", snapshot, "--json"))
    assert (found["id"], found["first"], found["last"], found["author"]) == (snapshot, "r1", "r21", "offline")
    (decision,) = found["sections"]["decisions"]
    assert (decision["refs"], decision["at"][-1], len(found["sha256"])) == (["r1"], "Z", 64)
    assert found["work"] == {"invoice": {"done": 20, "not_done": 0}}


def test_the_command_line_says_what_is_wrong_with_an_id(snapshot: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["memory", "show"], ["show"]):
        error = json.loads(said(capsys, *words, f"{snapshot}x", "--json", status=1))["error"]
        assert (error["code"], error["message"]) == ("not_found", f"there is no snapshot {snapshot}x")
    error = json.loads(said(capsys, "memory", "redact", snapshot, "--dry-run", "--json", status=2))["error"]
    assert error["message"] == "a snapshot is not redacted"
