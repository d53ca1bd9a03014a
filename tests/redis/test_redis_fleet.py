"""Redis that decides for whole programs: who else may decide, and what a program leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

import longwatch
from longwatch import ConfigError
from longwatch.testing.redis import Server

PROGRAM = """
import sys
import longwatch
folder, admission = sys.argv[1:]
config = {"fleet": {"root": folder}, "service": {"api": {"rate": "1/min", "burst": 1}}}
lw = longwatch.open(f"{folder}/s.db", admission=admission, config=config)
try:
    with lw.call("api", wait="0s"):
        print("left")
except longwatch.WaitTimeout:
    print("waits")
"""


def run(folder: Path, admission: str) -> str:
    command = [sys.executable, "-c", PROGRAM, str(folder), admission]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_program_that_ends_without_closing_has_written_its_calls_down(own_server: Server, tmp_path: Path) -> None:
    assert run(tmp_path, own_server.url) == "left"
    own_server.kill()
    own_server.launch()
    with longwatch.open(tmp_path / "s.db", admission="", config={"fleet": {"root": str(tmp_path)}}) as lw:
        entries = [entry.kind for entry in lw.opened.parts.journal.after(0)]
    assert {"call.admitted", "call.settled"} <= set(entries)


def test_a_rate_outlives_the_change_of_the_engine_that_decides(own_server: Server, tmp_path: Path) -> None:
    told = [run(tmp_path, admission) for admission in (own_server.url, "", own_server.url, "")]
    assert told == ["left", "waits", "waits", "waits"]


def test_nobody_decides_by_another_engine_while_workers_are_at_work(own_server: Server, tmp_path: Path) -> None:
    with longwatch.open(tmp_path / "s.db", admission=own_server.url, config={"fleet": {"root": str(tmp_path)}}) as lw:
        lw.opened.parts.enrol("worker_1", "main")
        with pytest.raises(ConfigError, match="another admission engine"):
            longwatch.open(tmp_path / "s.db", admission="", config={"fleet": {"root": str(tmp_path)}})
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), ""], capture_output=True, text=True, check=False, timeout=60
        )
        assert "fleet admission redis -> by the state" in told.stderr
        lw.opened.parts.dismiss("worker_1")
