"""The two programs as columns: how each is set up, read and asked what it believes."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import longwatch
from longwatch.demo import booking, catalogue, stage
from longwatch.demo.column import Column, Ledgers, Name
from longwatch.demo.engines import Engines
from longwatch.demo.programs import Programs
from longwatch.errors import StoreUnavailable
from longwatch.store.look import Look

CHARTER = """\
# {name}

You keep the catalogue of a library of Python modules, together with three colleagues.
Summarise each module in one sentence, pay the registry once for each, open an issue where documentation is missing, and
keep index, ledger and pages in agreement. Spend nothing beyond your budgets. Never register a module twice.
"""


@dataclass
class Longwatch(Column):
    """Four programs, one for each agent, and the processes that they start."""

    engines: Engines = field(default_factory=Engines)

    name: Name = field(default="longwatch", init=False)
    title: str = field(default="Longwatch", init=False)

    @property
    def config(self) -> Path:
        return self.folder / "longwatch.toml"

    def prepare(self, *, live: bool) -> None:
        """Charters, configuration and shares, as files."""
        (self.folder / "charters").mkdir(parents=True)
        for agent in self.modules:
            (self.folder / "charters" / f"{agent}.md").write_text(CHARTER.format(name=agent.capitalize()), "utf-8")
        charters = {agent: f"charters/{agent}.md" for agent in self.modules}
        where = self.engines.write_into(self.folder)
        self.config.write_text(stage.longwatch_toml(charters, self.caps, live=live, engines=where), "utf-8")
        (self.folder / "shares.json").write_text(json.dumps({a: list(m) for a, m in self.modules.items()}), "utf-8")
        self._fleet.opened  # noqa: B018 - whatever is wrong with a server is said before anything is started

    def start(self, started: Programs) -> None:
        each, more = divmod(self.processes, len(self.modules))
        for place, agent in enumerate(self.modules):
            size = each + (place < more)
            shares = str(self.folder / "shares.json")
            started.start("longwatch.demo.agent", str(self.config), agent, str(size), shares)

    def reading(self) -> Mapping[str, str]:
        found = self._fleet.read(*self.pages, root=booking.FOLDER)
        return {page: found.read_text(page, default="") for page in self.pages}

    def own_ledgers(self) -> Ledgers:
        look = Look(self._fleet.opened.parts.database)
        states, paid = look.counts(), look.paid(since_ms=0)
        spent = {
            purse: sum(p.money for p in paid if p.budget == purse) for purse in ("bookings", "summaries", "reviews")
        }
        return Ledgers(states.get("done", 0), states.get("failed", 0), spent)

    @cached_property
    def _fleet(self) -> longwatch.Longwatch:
        """The same fleet, opened by somebody who only looks."""
        return longwatch.open(config=self.config, agent="auditor", budget="main")

    def close(self) -> None:
        if "_fleet" in self.__dict__:
            if self.engines.admission is not None:
                forget(self._fleet)
            self._fleet.close()


def forget(fleet: longwatch.Longwatch) -> None:
    """Leave nothing in a Redis that others may use too."""
    from longwatch.admission.redis import RedisLimiter

    limiter = fleet.opened.parts.calls.limiter
    if isinstance(limiter, RedisLimiter):
        with contextlib.suppress(StoreUnavailable):
            limiter.flush()
            limiter.link.forget()


@dataclass
class HomeMade(Column):
    """One supervisor and its workers."""

    name: Name = field(default="home_made", init=False)
    title: str = field(default="home-made", init=False)

    def prepare(self, *, live: bool) -> None:
        assert not live, "a program without holds is not let near anybody's real money"
        (self.folder / "catalogue").mkdir(parents=True)
        (self.folder / "tasks.json").write_text(json.dumps(self.every), "utf-8")

    def start(self, started: Programs) -> None:
        cap = str(self.caps.reviews)
        started.start("longwatch.demo.homemade", str(self.folder), str(self.processes), cap)

    def reading(self) -> Mapping[str, str]:
        return catalogue.read_all(self.folder / "catalogue")

    def own_ledgers(self) -> Ledgers:
        done, failed = (len(list((self.folder / place).iterdir())) for place in ("done", "failed"))
        try:
            spent: dict[str, int] = {"reviews": json.loads((self.folder / "spent.json").read_text())["micros"]}
        except (ValueError, KeyError):
            spent = {}
        return Ledgers(done, failed, spent)

    def close(self) -> None:
        pass
