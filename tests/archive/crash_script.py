"""Kills itself, as `kill -9` does, before the n-th thing that it asks of the disk; half of what is to be written may be out.

    python crash_script.py FOLDER ACT

Makes FOLDER/0, FOLDER/1, ... each a copy of FOLDER/start, killed a step later than the one before, until one lives through it.
Each dies in a process of its own. Prints what the steps were.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from archives import made, opened

from longwatch.store.archive import Archive, Entry, frames, places

ASKED = ("open", "fsync", "rename", "ftruncate", "pwrite", "close")


class Dying:
    """The module `os`, which ends the process at the n-th of what changes the disk, or is about to."""

    def __init__(self, n: int, told: int) -> None:
        self._left, self._told = n, told

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ASKED:
            return real

        def asked(*values: Any, **named: Any) -> Any:
            os.write(self._told, f"{name}\n".encode())
            if self._left == 0:
                if name == "pwrite":
                    os.pwrite(values[0], values[1][: len(values[1]) // 2], values[2])
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
            return real(*values, **named)

        return asked


def act(archive: Archive, what: str) -> None:
    first = archive.segments()[0]
    if what == "write":
        archive.write(made(120, seed=7), source="new")
    elif what == "drop":
        archive.drop(first.name, "old")
    elif what == "pin":
        archive.pin(first.name)
    else:
        archive.redact(clean, text="gamma", reason="asked for", who="me")


def clean(entry: Entry) -> Entry:
    return entry._replace(body=json.dumps({"was": "[gone]"}).encode())


def main(folder: Path, what: str) -> None:
    frames.RAW = 4 << 10
    steps: list[str] = []
    for n in range(300):
        here = folder / str(n)
        shutil.copytree(folder / "start", here)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            setattr(places, "os", Dying(n, writer))  # noqa: B010 - to the checkers it is a module
            act(opened(here), what)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as told:
            steps = told.read().split()
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.WIFSIGNALED(status), f"step {n} ended with {status}"
    sys.stdout.write(json.dumps(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
