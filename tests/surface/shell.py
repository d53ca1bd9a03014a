"""A folder with a fleet in it, and the real command line run there as a real process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import warm

ROOT = Path(__file__).parents[2]

SHOP = """\
import time
import longwatch
from longwatch import Run

lw = longwatch.open()

@lw.task()
def greet(run: Run, name: str) -> str:
    return run.step("say", str.title, name)

@lw.task()
def bad(run: Run) -> str:
    raise ValueError("no such customer")

@lw.task()
def odd(run: Run) -> object:
    return object()

@lw.task()
def twice(run: Run) -> str:
    run.step("a", str, 1)
    return run.step("a", str, 2)

def boom() -> None:
    raise OSError("the reply was lost")

@lw.task()
def mail(run: Run) -> None:
    run.once("mail", boom)

def send(note: str) -> None:
    with open("sent.txt", "a") as file:
        file.write(note + "\\n")

@lw.task()
def letter(run: Run, to: str) -> None:
    run.once("send", send, to)

@lw.task(crashes=3)
def slow(run: Run) -> str:
    open("slow.started", "w").close()
    time.sleep(60)
    return "done"
"""


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on standard output; anything more or less is an error."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """`shell("task", "list")` runs `longwatch task list` in the folder. cold: in processes that are started, not forked."""

    folder: Path
    more: dict[str, str] = field(default_factory=dict[str, str])
    cold: bool = False

    def __call__(self, *arguments: str, given: str | None = None) -> Said:
        return self.python("-m", "longwatch", *arguments, given=given)

    def python(self, *arguments: str, given: str | None = None) -> Said:
        command = [sys.executable, *arguments]
        if self.cold:
            ended = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environ,
                input=given,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        else:
            ended = warm.run(command, cwd=self.folder, env=self.environ, input=given)
        return _told(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return self.python_started("-m", "longwatch", *arguments)

    def python_started(self, *arguments: str) -> "subprocess.Popen[str]":
        return warm.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LONGWATCH_", "COV_"))}
        return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | self.more

    def write(self, name: str, text: str) -> Path:
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
        return place

    def tasks(self) -> dict[str, int]:
        """How many tasks stand in which state, by the command line's own word."""
        counts: dict[str, int] = self("status", "--json").json["tasks"]
        return {state: number for state, number in counts.items() if number}


def _told(status: int, out: str, err: str) -> Said:
    assert not any(line.startswith("Traceback") for line in err.splitlines()), err
    return Said(status, out, err)


def shop(folder: Path) -> Shell:
    """A fleet whose module `shop` has been at work once, so that its kinds are known."""
    shell = Shell(folder)
    shell.write("longwatch.toml", '[fleet]\nname = "shop"\nmoney = "20 USD/month"\n')
    shell.write("shop.py", SHOP)
    said = shell("work", "shop", "--until-idle")
    assert said.status == 0, said.err
    return shell
