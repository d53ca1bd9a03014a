"""Limits under load: many processes against a server with a hard quota, beside what else is in use, in the same run.

The server is the sandbox on a loopback port: a token bucket of 50 a second, read by real HTTP. Every repeat runs everybody
once, in turn, so that all see the same machine. Longwatch runs on each of its engines. What cannot run here (a package that
is not installed) is named in the table.

share    200 calls by 15 processes, burst 50        strict   the same with a burst of 5
long     3,000 calls, burst 50                      half     one process has half of the work
outage   529 to everything for 15 s                 urgent   an urgent call while 1,000 of the lane batch wait
heavy    a weight of 50,000 tokens beside one of 1  killed   a race for a small cap, some killed between hold and settle

Bars: 0 x 429; the total at most 1.03 x what is possible at best (1.05 with a strict burst); the last process done at most
1.1 x the first with an equal share; p99 of the wait as the best rival's that uses the limit and is never refused; those of the
others stand in their modules.

    python -m bench limits [--scenarios share,strict] [--repeats 3] [--only spacing,Longwatch] [--rounds 200] ...
"""

import argparse
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import _limits_heavy as heavy
from bench import _limits_killed as killed
from bench import _limits_outage as outage
from bench import _limits_pace as pace
from bench import _limits_urgent as urgent
from bench import harness
from bench._limits_crew import shared
from bench._limits_rivals import RIVALS, Place, Rival, Servers, limited, versions
from longwatch.sandbox.client import Sandbox, started

RATE, STRICT = 50, 5  # calls per second; a burst below the number of processes
Report = tuple[Sequence[str], Sequence[Sequence[object]], Mapping[str, bool], Mapping[str, object]]
"""Columns and rows of the table, the bars, and what is kept."""


@dataclass(frozen=True)
class Bench:
    """What all scenarios share. tell: what is going on, for whoever looks on."""

    given: argparse.Namespace
    sandbox: Sandbox
    servers: Servers
    rivals: list[Rival]
    tell: Callable[[str], None]

    @contextmanager
    def place(self, rival: Rival, service: str = "stripe", **told: Any) -> Generator[Place]:
        api = self.sandbox.base_urls[service]
        with self.servers.place(rival, api, **{"processes": self.given.processes, **told}) as place:
            yield place

    def repeated(self, rivals: Sequence[Rival], measure: Callable[[Rival], Any]) -> dict[str, list[Any]]:
        """Everybody once, in turn, as often as asked."""
        found: dict[str, list[Any]] = {rival.name: [] for rival in rivals}
        for repeat in range(self.given.repeats):
            for rival in rivals:
                self.tell(f"{rival.name}, {repeat + 1} of {self.given.repeats}")
                found[rival.name].append(measure(rival))
        return found

    @property
    def ours(self) -> list[Rival]:
        return [rival for rival in self.rivals if rival.ours]


# -- scenarios -----------------------------------------------------------------------------------------------------------


def paced(bench: Bench, shares: Sequence[int], *, burst: int, equal: bool = True) -> Report:
    def once(rival: Rival) -> pace.Round:
        with bench.place(rival, **limited(RATE, burst)) as place:
            return pace.measure(bench.sandbox, rival, place, shares)

    found = bench.repeated(bench.rivals, once)
    least_s = max(1, sum(shares) - burst) / RATE
    rows = [pace.row(name, rounds, least_s) for name, rounds in found.items()]
    bars = pace.bars(rows, strict=burst < bench.given.processes, equal=equal)
    kept = {name: [asdict(one) for one in rounds] for name, rounds in found.items()}
    return pace.COLUMNS, [pace.values(one) for one in rows], bars, {"rounds": kept}


def share(bench: Bench) -> Report:
    return paced(bench, shared(bench.given.calls, bench.given.processes), burst=RATE)


def strict(bench: Bench) -> Report:
    return paced(bench, shared(bench.given.calls, bench.given.processes), burst=STRICT)


def long(bench: Bench) -> Report:
    return paced(bench, shared(bench.given.long_calls, bench.given.processes), burst=RATE)


def half(bench: Bench) -> Report:
    much = bench.given.half_calls // 2
    rest = shared(bench.given.half_calls - much, bench.given.processes - 1)
    return paced(bench, [much, *rest], burst=RATE, equal=False)


def away(bench: Bench) -> Report:
    """Who has no state stands in the place of a rival with files."""
    rivals = [Rival(name, RIVALS["spacing"].turns) for name in outage.HOMEMADE] + bench.ours

    def once(rival: Rival) -> outage.Row:
        with bench.place(rival, "anthropic", services=outage.SERVICES) as place:
            return outage.measure(
                bench.sandbox, rival.name, place, tasks=bench.given.tasks, outage_s=bench.given.outage_s
            )

    rows = [one for rounds in bench.repeated(rivals, once).values() for one in rounds]
    return outage.COLUMNS, [one.values() for one in rows], outage.bars(rows), {"rows": [asdict(one) for one in rows]}


def in_line(bench: Bench) -> Report:
    waiting, seconds = bench.given.waiting, bench.given.urgent_s

    def once(rival: Rival) -> urgent.Row:
        made: list[urgent.Made] = []
        for with_urgent in (False, True):
            with bench.place(rival, **limited(RATE, STRICT)) as place:
                made.append(urgent.run(bench.sandbox, place, waiting=waiting, seconds=seconds, with_urgent=with_urgent))
        return urgent.row(rival.name, place, *made, seconds=seconds)

    rows = [one for rounds in bench.repeated(bench.ours, once).values() for one in rounds]
    return (
        urgent.COLUMNS,
        [one.values() for one in rows],
        urgent.bars(rows, rate=RATE),
        {"rows": [asdict(one) for one in rows]},
    )


def weighed(bench: Bench) -> Report:
    def once(rival: Rival) -> tuple[float, float]:
        with bench.place(rival, services=heavy.SERVICES) as place:
            return heavy.measure(rival.name, place, bench.given.admits)

    found = bench.repeated([rival for rival in bench.rivals if heavy.runs(rival)], once)
    rows = [heavy.row(name, rounds) for name, rounds in found.items()]
    return heavy.COLUMNS, [one.values() for one in rows], heavy.bars(rows), {"rows": [asdict(one) for one in rows]}


def raced(bench: Bench) -> Report:
    found: dict[str, list[killed.Round]] = {rival.name: [] for rival in bench.ours}
    first, last = bench.given.seed, bench.given.seed + bench.given.rounds
    for begins in range(first, last, killed.TOGETHER):
        seeds = range(begins, min(begins + killed.TOGETHER, last))
        for rival in bench.ours:
            bench.tell(
                f"{rival.name}, rounds {seeds[0] - first + 1} to {seeds[-1] - first + 1} of {bench.given.rounds}"
            )

            def places(rival: Rival = rival) -> AbstractContextManager[Place]:
                return bench.servers.place(rival, bench.sandbox.base_urls["stripe"])

            found[rival.name] += killed.measure(bench.sandbox, places, seeds, bench.given.processes)
    rows = [killed.values(name, rounds) for name, rounds in found.items()]
    bars = {what: met for name, rounds in found.items() for what, met in killed.bars(name, rounds).items()}
    kept = {name: [asdict(one) for one in rounds] for name, rounds in found.items()}
    return killed.COLUMNS, rows, bars, {"seed": first, "rounds": kept}


SCENARIOS: dict[str, tuple[str, Callable[[Bench], Report]]] = {
    "share": ("{calls} calls, burst 50", share),
    "strict": ("{calls} calls, burst 5", strict),
    "long": ("{long_calls} calls, burst 50", long),
    "half": ("{half_calls} calls, burst 50, half of them one process's", half),
    "outage": ("{outage_s:g} s of 529 under {tasks} tasks", away),
    "urgent": ("urgent calls while {waiting} of the batch wait", in_line),
    "heavy": ("a decision by its weight", weighed),
    "killed": ("a race for a small cap, some killed", raced),
}


# -- the run -------------------------------------------------------------------------------------------------------------


def chosen(only: str) -> tuple[list[Rival], list[str]]:
    """Those who run, and those who cannot and why. only: beginnings of names."""
    named = [rival for rival in RIVALS.values() if rival.name.startswith(tuple(only.split(",")))]
    missing = [f"{rival.name}: not run, there is no {rival.missing()} here" for rival in named if rival.missing()]
    return [rival for rival in named if not rival.missing()], missing


def show(name: str, title: str, bench: Bench, report: Report, missing: Sequence[str]) -> bool:
    """Print and keep it; whether all bars are met."""
    columns, rows, bars, kept = report
    load = os.getloadavg()[0]
    absent = [(why, *[""] * (len(columns) - 1)) for why in missing]
    harness.table(f"{name}: {title}, {bench.given.processes} processes, load {load:.1f}", columns, [*rows, *absent])
    for what, met in bars.items():
        print(f"  {'met   ' if met else 'MISSED'} {what}")
    figures = {"given": vars(bench.given), "columns": columns, "rows": rows, "bars": bars, "not_run": missing, **kept}
    packages = dict.fromkeys(package for rival in bench.rivals for package in rival.packages)
    harness.keep(f"limits_{name}", figures, *packages, folder=Path(bench.given.results))
    return all(bars.values())


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench limits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="of these, with commas between")
    parser.add_argument("--only", default="", help="beginnings of rivals' names, with commas between")
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls", type=int, default=200, help="of share and strict")
    parser.add_argument("--long-calls", type=int, default=3_000)
    parser.add_argument("--half-calls", type=int, default=600)
    parser.add_argument("--tasks", type=int, default=300, help="under the outage")
    parser.add_argument("--outage-s", type=float, default=15.0)
    parser.add_argument("--waiting", type=int, default=1_000, help="calls of the batch")
    parser.add_argument("--urgent-s", type=float, default=20.0, help="how long urgent calls are made")
    parser.add_argument("--admits", type=int, default=20, help="decisions of each weight")
    parser.add_argument("--rounds", type=int, default=5, help="races with killed processes")
    parser.add_argument("--seed", type=int, default=1, help="of who is killed where")
    parser.add_argument("--results", default=str(harness.RESULTS), help="the folder of the figures")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.scenarios.split(",") if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    return given


@contextmanager
def told(name: str) -> Generator[Callable[[str], None]]:
    """What is going on, with the time it has taken, for as long as it goes on."""
    looks = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*looks, console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task(name, total=None)
        yield lambda what: progress.update(shown, description=f"{name}: {what}")


def main(arguments: list[str] | None = None) -> int:
    given = options(arguments)
    rivals, missing = chosen(given.only)
    print(versions(rivals))
    servers, good = Servers(), True
    try:
        with started() as sandbox:
            for name in given.scenarios.split(","):
                title, run = SCENARIOS[name]
                with told(name) as tell:
                    bench = Bench(given, sandbox, servers, rivals, tell)
                    report = run(bench)
                good &= show(name, title.format(**vars(given)), bench, report, missing)
    except KeyboardInterrupt:
        return 130
    finally:
        servers.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
