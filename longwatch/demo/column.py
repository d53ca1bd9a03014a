"""One column of the report: a program at work against its own stand-in services, with faults, watched from outside."""

import json
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from longwatch.demo import catalogue, marks, stage
from longwatch.demo.director import Director, Outage
from longwatch.demo.programs import Programs, programs
from longwatch.demo.services import REVIEW_MODEL
from longwatch.demo.stage import Purses
from longwatch.demo.trace import Event, Trace
from longwatch.sandbox import Fault as Struck
from longwatch.sandbox import Sandbox

LOOK_S = 0.25
LONGEST_S = 240.0

Name = Literal["home_made", "longwatch"]


@dataclass(frozen=True)
class Ledgers:
    """What a program says of itself. spent: micro-dollars by purse, where it keeps count."""

    done: int
    failed: int
    spent: dict[str, int]


@dataclass
class Column(ABC):
    """modules: by agent. counts, bill, effects: of the stand-ins, at the end. readings: (all, flawed) of the catalogue."""

    folder: Path
    modules: Mapping[str, Sequence[str]]
    processes: int
    caps: Purses
    sandbox: Sandbox
    seed: int
    trace: Trace = field(default_factory=Trace)
    readings: int = 0
    flawed: int = 0
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict[str, Any])
    bill: dict[str, Any] = field(default_factory=dict[str, Any])
    effects: dict[str, Any] = field(default_factory=dict[str, Any])
    ledgers: Ledgers = field(default_factory=lambda: Ledgers(0, 0, {}))
    texts: dict[str, str] = field(default_factory=dict[str, str])
    outage_s: float = 0.0

    name: Name = field(init=False)
    title: str = field(init=False)

    @property
    def every(self) -> list[str]:
        """All modules, in the order of the alphabet."""
        return sorted(module for share in self.modules.values() for module in share)

    @property
    def pages(self) -> list[str]:
        """Every file of the catalogue."""
        letters = sorted({module[0].lower() for module in self.every})
        return [catalogue.INDEX, catalogue.LEDGER, *(f"letters/{letter}.md" for letter in letters)]

    def run(self, environ: Mapping[str, str], tell: Callable[["Column"], None]) -> None:
        """Do all of it, telling how it stands a few times a second."""
        faults, outages = stage.plan(self.seed, len(self.every))
        with tempfile.TemporaryDirectory(prefix="longwatch-demo-") as place:
            path, workers = Path(place) / "marks", min(self.processes, len(self.every))
            with programs({**environ, marks.VARIABLE: str(path)}, self.folder / "log.txt") as started:
                with Director(path, self.trace, workers, faults, outages, self._outage, started.owns) as director:
                    self._work(started, director, tell)

    def _work(self, started: Programs, director: Director, tell: Callable[["Column"], None]) -> None:
        began = time.monotonic()
        self.start(started)
        while started.running() and time.monotonic() - began < LONGEST_S:
            if director.began is not None:
                self._look(director)
            tell(self)
            time.sleep(LOOK_S)
        self.seconds = time.monotonic() - began
        self.trace.ended_s = director.now_s()
        self._look(director)
        tell(self)

    def conclude(self) -> None:
        """Everything there is to know afterwards, kept beside the catalogue as well."""
        self.ledgers = self.own_ledgers()
        self.texts = catalogue.read_all(self.folder / "catalogue")
        self.counts, self.bill, self.effects = self.sandbox.counts(), self.sandbox.bill(), self.sandbox.effects()
        for name in ("counts", "bill", "effects"):
            (self.folder / f"{name}.json").write_text(json.dumps(getattr(self, name), indent=1) + "\n", "utf-8")

    def _look(self, director: Director) -> None:
        """One reading of the catalogue by somebody who only looks, and one of the bill."""
        now_s = director.now_s()
        flawed = bool(catalogue.flaws(self.reading()))
        self.readings += 1
        self.flawed += flawed
        self.trace.tell(Event(now_s, "torn" if flawed else "sound"))
        self.counts, self.bill = self.sandbox.counts(), self.sandbox.bill()
        self.trace.spent.append((now_s, self.bill["anthropic"]["models"].get(REVIEW_MODEL, 0)))

    def _outage(self, outages: Sequence[Outage]) -> None:
        """Outages are added to those that still go on."""
        known = [self._fault(outage) for outage in outages]
        going_on = [fault for fault in self.sandbox.set_faults() if fault["seconds"]]
        kept = [{key: value for key, value in fault.items() if key not in ("seen", "hits")} for fault in going_on]
        self.sandbox.faults([*kept, *known])
        self.outage_s += sum(outage.seconds for outage in outages)

    def _fault(self, outage: Outage) -> Struck:
        return Struck(service=outage.service, kind="status", status=outage.status, seconds=outage.seconds)

    # -- what the two differ in ----------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, *, live: bool) -> None:
        """Write what the program starts from. live: Claude is the real one."""

    @abstractmethod
    def start(self, started: Programs) -> None: ...

    @abstractmethod
    def reading(self) -> Mapping[str, str]:
        """The catalogue as somebody reads it while it is written."""

    @abstractmethod
    def own_ledgers(self) -> Ledgers: ...

    @abstractmethod
    def close(self) -> None: ...


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would point a program at another fleet."""
    return {name: value for name, value in environ.items() if not name.startswith("LONGWATCH_")}


def inherited() -> dict[str, str]:
    return clean(os.environ)
