"""Where in a run the code is."""

import threading
from dataclasses import dataclass, field

from longwatch.runtime.staging import Staged


@dataclass
class Frame:
    """Where in a run the code is: in a step, or (name "") outside. Counts what it does there, keeps what it staged."""

    step: str
    once: bool = False
    calls: int = 0
    edits: int = 0
    earnings: int = 0
    staged: list[Staged] = field(default_factory=list[Staged])
    guard: threading.Lock = field(default_factory=threading.Lock)

    def next_call(self) -> int:
        with self.guard:
            self.calls += 1
            return self.calls

    def next_edit(self) -> int:
        with self.guard:
            self.edits += 1
            return self.edits

    def next_earning(self) -> int:
        with self.guard:
            self.earnings += 1
            return self.earnings
