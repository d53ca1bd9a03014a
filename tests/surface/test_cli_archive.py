"""The noun archive, from the command line: what it finds, checks, brings back and drops."""

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

import longwatch
from longwatch import Run
from longwatch.db.connection import Value
from longwatch.policy.retention import Close
from longwatch.surface.cli import root
from longwatch.surface.cli_base import run


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A folder with a fleet whose tasks are in its archive, but for the last one; their ids."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longwatch.toml").write_text('[fleet]\nname = "shop"\n[service.api]\n', "utf-8")
    with longwatch.open() as lw:

        @lw.task("invoice")
        def invoice(run: Run, customer: str) -> str:
            with run.call("api", money="0.02 USD"):
                pass
            return f"billed {customer}"

        ids = [lw.submit("invoice", {"customer": name}, key=name).id for name in ("acme", "zenith", "umbra")]
        lw.work(until_idle=True)
        archives = lw.opened.parts.archives
        assert archives is not None
        archives.rest()
        archives.round(Close(0))
    return ids


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    found = run(root, ["archive", *words, "--json"])
    out = capsys.readouterr()
    assert found == status, out
    answer: dict[str, Any] = json.loads(out.out)
    return answer


def test_segments_are_listed_and_shown(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    segments = said(capsys, "list")["segments"]
    assert [each["source"].partition("/")[0] for each in segments] == ["tasks", "journal"]
    assert segments[0]["entries"] == {"call": 2, "task": 2}
    assert said(capsys, "show", segments[0]["name"]) == segments[0]
    assert run(root, ["archive", "list"]) == 0
    assert segments[0]["name"] in capsys.readouterr().out


def test_a_task_is_found_and_shown_whole(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "find", "zenith", "--kind", "task")["entries"]
    assert [each["id"] for each in found] == [shop[1]]
    shown = said(capsys, "show", shop[1])["entries"]
    assert {each["kind"] for each in shown} == {"task", "call", "journal"}
    assert next(each["body"]["result"] for each in shown if each["kind"] == "task") == '"billed zenith"'
    by_task = said(capsys, "find", "--task", shop[1])["entries"]
    assert sorted(each["id"] for each in by_task) == sorted(each["id"] for each in shown)
    (cost,) = [each for each in said(capsys, "find", "--costs")["costs"] if each["calls"]]
    assert (cost["agent"], cost["calls"], cost["cost_micros"], cost["currency"]) == ("main", 2, 40_000, "USD")
    assert said(capsys, "show", "task_none", status=1)["error"]["code"] == "not_found"


def test_a_damaged_byte_is_named(shop: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "verify")["problems"] == []
    name = said(capsys, "list")["segments"][0]["name"]
    file = next(tmp_path.rglob(name))
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    problems = said(capsys, "verify", status=3)["problems"]
    assert {each["segment"] for each in problems} == {name}


def test_a_task_is_brought_back(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "restore", shop[0], status=2)["error"]["code"] == "usage"
    assert said(capsys, "restore", shop[0], "--dry-run")["would_restore"] == [shop[0]]
    assert said(capsys, "restore", shop[0], "--yes")["restored"] == [shop[0]]
    assert said(capsys, "restore", shop[0], "--yes")["here"] == [shop[0]]
    with longwatch.open() as lw:
        assert lw.submit("invoice", {"customer": "acme"}, key="acme").result == "billed acme"


def test_a_restore_says_how_many_entries_it_passed_over(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    entries = said(capsys, "show", shop[0])["entries"]
    places = [each["body"]["seq"] for each in entries if each["kind"] == "journal"]
    with longwatch.open() as lw, lw.opened.parts.database.transaction() as tx:
        other: dict[str, Value] = {
            "at_ms": 1,
            "kind": "note.other",
            "subject": "x",
            "agent": None,
            "task": None,
            "data": "{}",
        }
        for place in places[:2]:
            tx.count("retire.restore_entry", seq=place, **other)
    assert run(root, ["archive", "restore", shop[0], "--yes"]) == 0
    assert "; 2 entries of the journal stay in the archive alone" in capsys.readouterr().out
    assert said(capsys, "restore", shop[1], "--yes")["passed_over"] == 0


def test_a_task_that_is_submitted_again_is_shown_from_the_archive(
    shop: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["task", "submit", "invoice", "customer=acme", "--key", "acme"]
    assert run(root, [*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["id"], made["result"], made["archived"]) == (shop[0], "billed acme", True)
    assert run(root, words) == 0
    assert f"{shop[0]} is done, in the archive: longwatch archive show {shop[0]}" in capsys.readouterr().out


def test_a_task_is_brought_back_with_what_took_it_down(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with longwatch.open() as lw:

        @lw.task("ask")
        def ask(run: Run) -> None:
            raise longwatch.GiveUp("no")

        failed = lw.submit("ask")
        waiting = lw.submit("ask", after=[failed])
        lw.submit("ask")
        lw.work(until_idle=True)
        archives = lw.opened.parts.archives
        assert archives is not None
        archives.rest()
        archives.round(Close(0))
    assert set(said(capsys, "restore", waiting.id, "--yes")["restored"]) == {failed.id, waiting.id}
    with longwatch.open() as lw:
        lw.retry(failed.id)
        assert lw.get(waiting.id).state == "waiting"


def test_a_damaged_task_is_not_brought_back_in_part(
    shop: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "show", shop[0])  # the side index knows where it is
    (file,) = [each for each in (tmp_path / ".longwatch/archive/segments").iterdir() if b"tasks/" in each.read_bytes()]
    damaged = bytearray(file.read_bytes())
    written = zstandard.decompress(bytes(damaged)).decode().splitlines()
    damaged[40] ^= 255
    file.write_bytes(damaged)
    assert "cannot be brought back whole" in said(capsys, "restore", shop[0], "--yes", status=1)["error"]["message"]
    call = next(line.split('"id":"')[1].split('"')[0] for line in written if '"kind":"call"' in line)
    assert "nothing can be read of call_" in said(capsys, "show", call, status=1)["error"]["message"]


def test_what_is_dropped_is_gone_and_what_is_pinned_stays(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tasks, journal = [each["name"] for each in said(capsys, "list")["segments"]]
    assert said(capsys, "pin", tasks)["pinned"]
    assert said(capsys, "drop", journal, status=2)["error"]["code"] == "usage"
    assert said(capsys, "drop", "--older", "1ms", "--dry-run")["would_drop"] == [journal]
    assert said(capsys, "drop", journal, "--yes")["dropped"] == [journal]
    assert "pinned" in said(capsys, "drop", tasks, "--yes", status=1)["error"]["message"]
    assert [each["name"] for each in said(capsys, "list")["segments"]] == [tasks]
    assert said(capsys, "show", shop[1])["entries"][0]["kind"] in ("task", "call")


def test_what_is_due_is_archived_at_once(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with longwatch.open() as lw:

        @lw.task("tidy")
        def tidy(run: Run) -> None: ...

        lw.submit("tidy")
        lw.work(until_idle=True)
    assert said(capsys, "now")["segments"] == []
    made = said(capsys, "now", "--older", "1ms")
    assert len(made["segments"]) == 2
    assert said(capsys, "find", "umbra", "--kind", "task")["entries"][0]["id"] == shop[2]


def test_it_is_exported(shop: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    made = said(capsys, "export", str(tmp_path / "parquet"))
    assert len(made["files"]) == 2
    assert all(Path(file).stat().st_size > 0 for file in made["files"])


def test_doctor_says_when_hosts_have_an_archive_each(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def findings() -> dict[str, str]:
        run(root, ["doctor", "--json"])
        return {each["check"]: each["message"] for each in json.loads(capsys.readouterr().out)["checks"]}

    assert "archive place" not in findings()
    with longwatch.open() as lw, lw.opened.parts.database.transaction() as tx:
        for host in ("here", "there"):
            about: dict[str, str | int | None] = {
                "agent": "ann",
                "pid": 4711,
                "start_ticks": 1,
                "boot_id": host,
                "name": None,
                "schema": 13,
            }
            tx.count("tasks.enrol", owner=host, **about)
    assert findings()["archive place"].startswith("workers are at work on 2 hosts, and the archive is a folder")


def test_who_looks_in_the_state_is_told_of_the_archive(shop: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "show", shop[0])["entries"]
    call = next(each["id"] for each in shown if each["kind"] == "call")
    tried = next(each["body"]["runs"][0]["id"] for each in shown if each["kind"] == "task")
    for words in (["show", call], ["show", tried], ["task", "show", shop[0]], ["journal", "--task", shop[0]]):
        run(root, words)
        told = capsys.readouterr()
        assert "longwatch archive" in told.out + told.err, words
    assert said(capsys, "find", tried)["entries"]
