"""What handlers do to the world outside, written where a killed process cannot take it with it."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longwatch.runtime.storable import to_json


class Effects:
    """A list outside of the fleet: `add` in a handler, in place of the mail that it would send; `all` in the test.

    Handlers of `survives_crashes` run in processes of their own, whose memory dies with them: what they append to a list
    of the test is never seen. A line of a file is.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._at: Callable[[str], None] = lambda place: None

    def add(self, what: Any) -> None:
        """It has happened, and cannot be undone. what: a word, or anything that JSON can say."""
        line = to_json(what, what="an effect")
        self._at(f"this was about to be done: {_told(line)}")
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)
        self._at(f"this had just been done: {_told(line)}")

    def all(self) -> list[Any]:
        """Everything that has happened, in order."""
        return [json.loads(line) for line in self._lines()]

    def count(self, what: Any) -> int:
        """How often it has happened."""
        return self._lines().count(to_json(what, what="an effect"))

    def reset(self) -> None:
        """Nothing has happened."""
        self.file.unlink(missing_ok=True)

    def tell(self, at: Callable[[str], None]) -> None:
        """Call it just before and just after each."""
        self._at = at

    def made(self) -> Counter[str]:
        """How often each thing has happened."""
        return Counter(map(_told, self._lines()))

    def _lines(self) -> list[str]:
        return self.file.read_text("utf-8").splitlines() if self.file.exists() else []


def _told(line: str) -> str:
    return f"effect {line}"
