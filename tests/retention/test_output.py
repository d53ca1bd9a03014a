"""What workers print is in files while they live, then in the archive, and never in neither."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch import Longwatch
from longwatch.policy.redact import Redactor
from longwatch.policy.retention import Close
from longwatch.runtime.archive import Archives
from longwatch.runtime.output import TIMES, Outputs

NOW = Close(0)
SCRIPT = Path(__file__).with_name("printing.py")
pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


@pytest.fixture
def config(config: longwatch.Config, tmp_path: Path) -> longwatch.Config:
    return config | {"fleet": {"root": str(tmp_path)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".longwatch" / "logs"


def printing(folder: Path, *, size: int = 100, lines: int = 40, lives: float = 0) -> subprocess.Popen[str]:
    asked = [sys.executable, str(SCRIPT), str(folder), str(size), str(lines), str(lives)]
    return subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed(folder: Path, *, lines: int = 40) -> str:
    """A process that prints and ends; what it printed."""
    done = printing(folder, lines=lines)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out, err) == (0, "", "")
    return "".join(f"line {n}\n" for n in range(lines)) + "half a line"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def bodies(archives: Archives) -> list[dict[str, Any]]:
    found = [
        json.loads(entry.body)
        for segment in archives.segments()
        for entry in archives.archive.entries(segment)
        if entry.kind == "log"
    ]
    return sorted(found, key=lambda body: (body["file"], body["start"]))


@pytest.fixture
def child(folder: Path) -> Generator["subprocess.Popen[str]"]:
    """One that has printed all, and of which a child still lives."""
    made = printing(folder, size=1 << 20, lives=600)
    while not any(
        "from a child" in path.read_text() for path in folder.glob("*.log")
    ):  # a draft is about to be renamed
        assert made.poll() is None
    yield made
    subprocess.run(["pkill", "-9", "-P", str(made.pid)], check=False)
    made.kill()
    made.communicate()


def test_what_was_printed_is_in_files_of_a_size_and_then_in_the_archive(
    lw: Longwatch, archives: Archives, folder: Path
) -> None:
    every = printed(folder)
    assert "".join(path.read_text() for path in files(folder)) == every
    assert len(files(folder)) == 4
    assert all(path.stat().st_size < 110 for path in files(folder))
    archives.round(NOW)
    assert files(folder) == []
    assert "\n".join(body["line"] for body in bodies(archives)) == every
    (found,) = archives.archive.find(text="line 17", agent="seo/blog").entries
    assert found.kind == "log"
    archives.round(NOW)
    assert len(bodies(archives)) == 41


def test_what_somebody_still_writes_to_stays_whoever_that_is(
    lw: Longwatch, archives: Archives, folder: Path, child: "subprocess.Popen[str]"
) -> None:
    (path,) = files(folder)
    archives.round(NOW)
    assert (files(folder), bodies(archives)) == ([path], [])
    grandchildren = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout
    child.kill()
    child.communicate()
    archives.round(NOW)
    assert files(folder) == [path], "its own child has it open"
    for pid in grandchildren.split():
        os.kill(int(pid), signal.SIGKILL)
    while not archives.round(NOW).segments or files(folder):
        pass
    assert bodies(archives)[-1]["line"] == "half a linefrom a child"


def test_what_is_young_stays_until_the_disk_is_short_of_room(lw: Longwatch, archives: Archives, folder: Path) -> None:
    printed(folder)
    archives.round(Close(3_600_000))
    assert len(files(folder)) == 4
    for path in files(folder)[:2]:
        before_s = path.stat().st_mtime - 4_000
        os.utime(path, (before_s, before_s))
    archives.round(Close(3_600_000, early=True))
    assert len(files(folder)) == 2


def dying(*_: object) -> None:
    """Dies."""
    raise ZeroDivisionError


def test_whoever_dies_before_he_removes_leaves_it_for_the_next(
    lw: Longwatch, archives: Archives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = printed(folder)
    monkeypatch.setattr(Outputs, "drop", dying)
    with pytest.raises(ZeroDivisionError):
        archives.round(NOW)
    assert "".join(path.read_text() for path in files(folder)) == every
    assert len(bodies(archives)) == 41
    monkeypatch.undo()
    archives.round(NOW)
    assert files(folder) == []
    assert len(bodies(archives)) == 41, "no second copy"


def test_what_is_not_as_it_was_copied_stays(
    lw: Longwatch, archives: Archives, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(folder)
    drop, (first, *others) = Outputs.drop, files(folder)

    def changed(outputs: Outputs, digests: set[bytes]) -> int:
        with first.open("a") as file:
            file.write("and more\n")
        monkeypatch.undo()
        return drop(outputs, digests)

    monkeypatch.setattr(Outputs, "drop", changed)
    archives.round(NOW)
    assert files(folder) == [first]
    archives.round(NOW)
    assert "and more" in {body["line"] for body in bodies(archives)}
    assert files(folder) == []
    assert len(others) == 3


def test_bytes_that_are_no_text_and_lines_without_an_end_are_kept(
    lw: Longwatch, archives: Archives, folder: Path
) -> None:
    folder.mkdir(parents=True)
    content = b"\xff\xfe\n\r\n" + b"x" * 200_000 + b"\n\n\0 sk-ant-abcdefghijklmnop"
    (folder / "process_2.seo.1.log").write_bytes(content)
    archives.round(NOW)
    assert files(folder) == []
    first, second, *long, empty, last = bodies(archives)
    assert (first["base64"], second["line"], empty["line"]) == ("//4=", "\r", "")
    assert "".join(body["line"] for body in long) == "x" * 200_000
    assert last["line"].startswith("\0 [redacted:anthropic-key:")


def test_what_is_far_too_large_and_written_to_is_cut_off(
    folder: Path, child: "subprocess.Popen[str]", place: str
) -> None:
    (path,) = files(folder)
    outputs = Outputs(folder, path.stat().st_size // TIMES, Redactor(b"key"))
    assert Outputs(folder, path.stat().st_size, Redactor(b"key")).cut() == []
    assert outputs.cut() == [path.name]
    assert path.read_text().startswith("longwatch: ")
    assert outputs.cut() == []
