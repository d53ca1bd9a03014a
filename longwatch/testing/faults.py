"""Which faults happen, and when, by seed. Each seed turns half of the kinds off ("swarm"): what a fault hides, its absence
shows.

A fault of a *place* (a rare place in the code, a transaction, a change of a file, a call) comes after a random number of
such places; a fault of *time* comes at a random instant. Both have a mean, below. Nothing here knows what the code
promises.
"""

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence

from longwatch.testing.machine import Machine, Process
from longwatch.testing.outside import Outside
from longwatch.testing.seam import unavailable

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000

# Mean number of places between two faults of a kind, over all processes. Kinds of one group count the same places.
PLACES: dict[str, dict[str, int]] = {
    "rare": {"kill at a rare place": 1_500, "pause at a rare place": 5_000},
    "transaction": {"slow store": 500, "pause before a transaction": 5_000},
    "commit": {"kill before a commit": 2_500},
    "committed": {"kill after a commit": 2_500, "reply of a commit lost": 350},
    "file": {"kill at a file": 900},
    "prepared": {"pause before files are published": 60},
    "call": {
        "service refuses the connection": 150,
        "service answers 5xx": 150,
        "reply of a service lost": 120,
    },
}
# Mean time between two faults of a kind, in simulated milliseconds.
TIMES: dict[str, int] = {
    "kill at random": 5 * HOUR_MS,
    "store unavailable": 9 * HOUR_MS,
    "wall clock jumps": 20 * HOUR_MS,
    "reboot": 60 * HOUR_MS,
    "service outage": 30 * HOUR_MS,
}
STORM = 4.0
# Before the first process after a start, and before the first call ever, there is no other clock to tell right from wrong.
DATED = "select 1 from fleet, calendar where boot_id = ? and at_ms > 0"
# The last look at the clock before a request is sent. Who is stopped behind it sends late, and no code of its own can
# help that: one call of each stopped process may arrive out of turn.
SENDING = "call.leaving"
PREPARED = "edit.prepared"  # the last place at which an edit may lose its lease without noticing it
KINDS: tuple[str, ...] = (*(kind for kinds in PLACES.values() for kind in kinds), *TIMES)


def swarm(seed: int) -> frozenset[str]:
    """The half of the kinds that this seed has."""
    return frozenset(random.Random(f"swarm {seed}").sample(KINDS, len(KINDS) // 2))


def chosen(faults: "str | Sequence[str]", seed: int) -> dict[str, float]:
    """The kinds with how often each comes, 1.0 as its mean says.

    faults: "swarm" (half of the kinds, each at a rate of the seed's own), "all", "storm" (all, four times as often),
    "none", or the kinds themselves, at the rates of a storm. Errors: ValueError for a kind that there is not.
    """
    if faults == "swarm":
        source = random.Random(f"rates {seed}")
        return {kind: source.choice((0.1, 0.25, 0.5, 1.0)) for kind in KINDS if kind in swarm(seed)}
    if isinstance(faults, str) and faults in ("all", "storm", "none"):
        often = {"all": 1.0, "storm": STORM, "none": 0.0}[faults]
        return {kind: often for kind in KINDS if often}
    kinds = [faults] if isinstance(faults, str) else list(faults)
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"there are no faults called {sorted(unknown)}: swarm, all, storm, none, {', '.join(KINDS)}")
    return {kind: STORM for kind in KINDS if kind in kinds}


CALL_FATES = {
    "service refuses the connection": "refused",
    "service answers 5xx": "5xx",
    "reply of a service lost": "lost",
}


class Group:
    """Faults that count the same places, of which there are many: a place where nothing happens costs next to nothing."""

    def __init__(self, means: dict[str, int], kinds: dict[str, float], source: random.Random) -> None:
        """kinds: those that happen at all, and how often, 1.0 as their means say."""
        self._means = {kind: mean / kinds[kind] for kind, mean in means.items() if kind in kinds}
        self._random, self._visits = source, 0
        self._turns = sorted((self._gap(kind), kind) for kind in self._means)
        self._first: float = self._turns[0][0] if self._turns else math.inf

    def visit(self) -> str:
        """One more place: the kind of fault whose turn it is there, or ""."""
        self._visits += 1
        return self._strike() if self._visits > self._first else ""

    def stop(self) -> None:
        self._first = math.inf

    def _strike(self) -> str:
        _, kind = heapq.heappop(self._turns)
        heapq.heappush(self._turns, (self._visits + self._gap(kind), kind))
        self._first = self._turns[0][0]
        return kind

    def _gap(self, kind: str) -> int:
        """Until the next one; often close behind the last, because the second fault finds what the first left."""
        if self._random.random() < 0.8:
            return int(self._random.expovariate(1 / self._means[kind]))
        return self._random.randrange(12)


class Mix:
    """testing.machine.Fate, and the service's: strikes until `stop`. counts: faults that happened, by kind."""

    def __init__(
        self, machine: Machine, outside: Outside, kinds: dict[str, float], *, seed: int, lease_ms: int
    ) -> None:
        self.machine, self.outside, self.kinds, self.lease_ms = machine, outside, kinds, lease_ms
        self.random = random.Random(f"faults {seed}")
        self.counts: Counter[str] = Counter()
        self.stopped = False
        self.away_until_ms = 0
        self._groups = {name: Group(means, kinds, self.random) for name, means in PLACES.items()}
        self._rare, self._transaction = self._groups["rare"].visit, self._groups["transaction"].visit
        self._commit, self._committed = self._groups["commit"].visit, self._groups["committed"].visit

    def begin(self) -> None:
        """Start the faults of time."""
        for kind, mean_ms in TIMES.items():
            if kind in self.kinds:
                self._schedule(kind, mean_ms)

    def stop(self) -> None:
        """Nothing goes wrong from now on."""
        self.stopped = True
        for group in self._groups.values():
            group.stop()
        self.away_until_ms = 0
        self.outside.recover()

    # -- places ----------------------------------------------------------------------------------------------------------

    def at_place(self, process: Process, place: str) -> None:
        if place.startswith("file."):
            self._strike_at(self._groups["file"].visit(), process, place)
            return
        if place == PREPARED:
            self._strike_at(self._groups["prepared"].visit(), process, place)
        self._strike_at(self._rare(), process, place)

    def before_transaction(self, process: Process) -> None:
        if process.critical:
            return
        self._strike_at(self._transaction(), process, "a transaction")
        if process.driver.now_ms < self.away_until_ms:
            raise unavailable("is away", landed=False)

    def at_commit(self, process: Process) -> None:
        self._strike_at(self._commit(), process, "before a commit")

    def after_commit(self, process: Process) -> None:
        self._strike_at(self._committed(), process, "after a commit")

    def _strike_at(self, kind: str, process: Process, place: str) -> None:
        """kind: the fault whose turn it is; "" nearly always."""
        if not kind:
            return
        if kind.startswith("pause"):
            if process.critical or place == SENDING:
                return
            longest = self.random.choice((1.3, 1.3, 5))
            self.counts[kind] += 1
            process.pause(int(self.lease_ms * self.random.uniform(0.7, longest)))
            return
        self.counts[kind] += 1
        if kind == "slow store":
            process.driver.wait_until(process.driver.now_ms + int(10 ** self.random.uniform(1, 4)))
        elif kind == "reply of a commit lost":
            self.machine.note(f"reply lost to {process.name}")
            raise unavailable("lost a reply", landed=True)
        else:
            process.kill(f"at {place}")

    # -- services ----------------------------------------------------------------------------------------------------------

    def of_call(self, service: str) -> str:
        """What becomes of a call: "", "refused", "5xx" or "lost" (its reply, after the effect)."""
        kind = self._groups["call"].visit()
        if not kind:
            return ""
        self.counts[kind] += 1
        return CALL_FATES[kind]

    # -- time ----------------------------------------------------------------------------------------------------------------

    def _schedule(self, kind: str, mean_ms: int) -> None:
        driver = self.machine.driver

        def strike() -> None:
            if self.stopped:
                return
            self.counts[kind] += 1
            self._strike(kind)
            self._schedule(kind, mean_ms)

        driver.at(driver.now_ms + int(self.random.expovariate(self.kinds[kind] / mean_ms)) + 1, strike)

    def _set_right(self) -> None:
        self.machine.jumped_ms = 0

    def _strike(self, kind: str) -> None:
        now_ms = self.machine.driver.now_ms
        match kind:
            case "kill at random":
                if self.machine.processes:
                    self.random.choice(self.machine.processes).kill("at random")
            case "store unavailable":
                self.away_until_ms = now_ms + int(10 ** self.random.uniform(2.5, 5.3))
                self.machine.note(f"store away until {self.away_until_ms}")
            case "wall clock jumps" if self.machine.rows(DATED, self.machine.boot_id()):
                self.machine.jumped_ms = self.random.randrange(-DAY_MS, DAY_MS)
                self.machine.note(f"wall clock off by {self.machine.jumped_ms}")
                self.machine.driver.at(now_ms + self.random.randrange(4 * HOUR_MS), self._set_right)
            case "reboot":
                self.machine.reboot()
            case "wall clock jumps":
                pass
            case _:
                self.outside.fail(self.random.randrange(5 * SECOND_MS, 10 * MINUTE_MS))
