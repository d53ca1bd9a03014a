"""Plays demos as a person does: as a process, by the command line."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILLABLE = ": kill -9 any of these"
SMALL = ["--only", "--tasks", "24", "--processes", "4", "--agents", "2"]


@dataclass(frozen=True)
class Played:
    """A demo that has ended. data: what --json said."""

    folder: Path
    status: int
    data: dict[str, Any]
    said: str


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "longwatch", "demo", "--json", "--folder", str(folder), *words]


def play_with_a_person_who_kills(folder: Path, *words: str) -> Played:
    """As soon as the demo tells the pids of its workers, somebody takes it at its word."""
    demo = subprocess.Popen(command(folder, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    assert demo.stderr is not None
    said = ""
    for line in iter(demo.stderr.readline, ""):
        said += line
        if KILLABLE in line:
            os.kill(int(line.partition(KILLABLE)[0].split()[-1]), signal.SIGKILL)
    answer = demo.stdout.read()
    demo.wait(timeout=20)
    demo.stdout.close()
    demo.stderr.close()
    return Played(folder, demo.returncode, json.loads(answer), said)


def play(folder: Path, *words: str, timeout_s: float = 170, environ: dict[str, str] | None = None) -> Played:
    done = subprocess.run(
        command(folder, *words),
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {})},
        timeout=timeout_s,
    )
    assert done.stdout.count("\n") == 1, f"not one line: {done.stdout!r}\n{done.stderr}"
    return Played(folder, done.returncode, json.loads(done.stdout), done.stderr)
