"""What the calls did to the world: every charge, issue and answer, in the order in which it was made.

This is the outside that an auditor looks at: two charges for one order are two rows here, whatever the client believes.
Each kind keeps the last EFFECTS_MAX rows; `total` goes on counting.
"""

from collections import deque
from typing import Any

EFFECTS_MAX = 500_000

KINDS = ("charges", "payment_intents", "customers", "issues", "comments")


class Effects:
    """Rows by kind, and how often each distinct prompt was answered."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[dict[str, Any]]] = {kind: deque(maxlen=EFFECTS_MAX) for kind in KINDS}
        self._answers: dict[tuple[str, str, str], int] = {}
        self.total = 0

    def add(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        """Returns the row, whose status may yet change."""
        self.total += 1
        added = {"order": self.total, **row}
        self._rows[kind].append(added)
        return added

    def answered(self, service: str, model: str, digest: str) -> None:
        """A model answered the prompt with this sha256. Prompts beyond EFFECTS_MAX distinct ones are only totalled."""
        self.total += 1
        place = (service, model, digest)
        if place in self._answers or len(self._answers) < EFFECTS_MAX:
            self._answers[place] = self._answers.get(place, 0) + 1

    def report(self) -> dict[str, Any]:
        answers = [
            {"service": service, "model": model, "sha256": digest, "count": count}
            for (service, model, digest), count in self._answers.items()
        ]
        return {"total": self.total, "answers": answers, **{kind: list(rows) for kind, rows in self._rows.items()}}
