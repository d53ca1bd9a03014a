"""A redaction reaches every version of a file of the memory tool, under every name that it had, and the disk."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import warm
from test_redaction import SECRET, residue

import longwatch
from longwatch import Longwatch, Memory, NotFound, Refused


def do(memory: Memory, command: str, **given: object) -> None:
    answer = memory.files.answer({"command": command, **given})
    assert not answer.declined, answer.text


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_nothing_is_left_of_a_file_in_any_file(place: str, tmp_path: Path) -> None:
    with longwatch.open(place) as lw:
        memory = lw.memory("seo")
        do(memory, "create", path="/memories/other.md", file_text="stays")
        do(memory, "create", path="/memories/a.md", file_text=f"the word is {SECRET}\n" * 2_000)
        for number in range(20):
            do(memory, "insert", path="/memories/a.md", insert_line=0, insert_text=f"{number} {SECRET}")
        do(memory, "rename", old_path="/memories/a.md", new_path="/memories/b.md")
        do(memory, "delete", path="/memories/b.md")
        memory.files.restore("/memories/b.md", 1)
        assert residue(tmp_path) != []
        assert memory.files.redact("/memories/b.md", "a password") == 23
        assert residue(tmp_path) == []
        assert [each.path for each in memory.files.list()] == ["/memories/other.md"]
        assert memory.files.show("/memories/other.md").text == "stays"
        assert memory.verify() == ()
    assert residue(tmp_path) == []


def test_versions_stay_with_a_receipt_and_the_name_can_be_used_again(memory: Memory) -> None:
    do(memory, "create", path="/memories/a.md", file_text=SECRET)
    do(memory, "insert", path="/memories/a.md", insert_line=0, insert_text="more")
    assert memory.files.redact("/memories/a.md", "a password") == 2
    assert memory.files.redact("/memories/a.md", "again") == 0, "twice does no harm"
    found = memory.files.versions("/memories/a.md")
    assert [(each.version, each.state, each.bytes, each.sha256) for each in found] == [
        (2, "redacted", 0, ""),
        (1, "redacted", 0, ""),
    ]
    ((_, who, what, note),) = memory.files.receipts("/memories/a.md")
    assert (who, what, note) == ("operator", "redact", "a password; 2 versions")
    with pytest.raises(Refused, match="redacted"):
        memory.files.restore("/memories/a.md", 1)
    do(memory, "create", path="/memories/a.md", file_text="new")
    assert memory.files.show("/memories/a.md").version == 3
    assert memory.verify() == ()
    with pytest.raises(NotFound):
        memory.files.redact("/memories/none.md")


def test_what_had_the_name_at_another_time_is_left_alone(memory: Memory) -> None:
    """a holds the secret, becomes b; then another a is made, and that one is not redacted with b."""
    do(memory, "create", path="/memories/a.md", file_text=SECRET)
    do(memory, "rename", old_path="/memories/a.md", new_path="/memories/b.md")
    do(memory, "create", path="/memories/a.md", file_text="innocent")
    do(memory, "rename", old_path="/memories/b.md", new_path="/memories/c.md")
    assert memory.files.redact("/memories/b.md") == 3, "a's first life, b, and c"
    assert memory.files.show("/memories/a.md").text == "innocent"
    assert memory.files.version("/memories/a.md", 1).state == "redacted"
    assert [each.path for each in memory.files.list()] == ["/memories/a.md"]


def test_an_agent_cannot_redact_a_file(lw: Longwatch, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    do(memory, "create", path="/memories/a.md", file_text="evidence")
    monkeypatch.setenv("LONGWATCH_RUN", "run_1")
    with pytest.raises(Refused, match="redacted by the operator"):
        memory.files.redact("/memories/a.md")
    assert memory.files.show("/memories/a.md").text == "evidence"


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_the_command_line_shows_restores_and_redacts(place: str, memory: Memory) -> None:
    def ask(*words: str, status: int = 0) -> Any:
        command = [sys.executable, "-m", "longwatch", "memory", *words, "--agent", "seo", "--state", place, "--json"]
        done = warm.run(command)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    do(memory, "create", path="/memories/a/n.md", file_text="one")
    do(memory, "str_replace", path="/memories/a/n.md", old_str="one", new_str=SECRET)
    (listed,) = ask("files", "/memories/a")["files"]
    assert (listed["path"], listed["version"], listed["text"]) == ("/memories/a/n.md", 2, None)
    assert ask("file", "show", "/memories/a/n.md", "--version", "1")["text"] == "one"
    versions = ask("file", "versions", "/memories/a/n.md", "--limit", "1")
    assert versions["next"] == 2
    assert ask("file", "restore", "/memories/a/n.md", "1")["version"] == 3
    assert ask("redact", "/memories/a/n.md", "--dry-run")["versions"] == 3
    assert "error" in ask("redact", "/memories/a/n.md", status=2), "not without --yes"
    assert ask("redact", "/memories/a/n.md", "--yes", "--reason", "a password")["redacted"] == 3
    assert ask("files")["files"] == []
    assert "error" in ask("file", "show", "/memories/../etc/passwd", status=1)
