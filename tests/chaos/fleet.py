"""A fleet of worker processes at work, whoever disturbs it, and what is seen of it from outside.

Each round: orders are submitted, a fault is let loose in the middle of them, and all must end. `judge` looks at the outside
effects, and only then at the ledger.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from proxy import Proxy
from psycopg.rows import dict_row
from speed import Speed

import longwatch
from longwatch.errors import StoreUnavailable
from longwatch.sandbox.client import Sandbox, started
from longwatch.sandbox.quota import Rate
from longwatch.sandbox.settings import Settings, Stripe

WORKER = Path(__file__).with_name("chaos_worker.py")
LEASE_S, PATIENCE_S = 2, 90
RECOVERY_S = LEASE_S + 10
SLOW_S = 5  # whoever works is asked where he stands, for the log
BEFORE, AFTER = 24, 8  # orders of a round: submitted before its fault, and once it is over
UNDISTURBED = 2  # rounds before the first fault
FEE_MICROS = 200_000

CONFIG = """
[fleet]
name = "shop"
currency = "GBP"
root = "{root}"
state = "{state}"
{engine}
lease = "{lease}s"

[service.stripe]
rate = "40/s"
burst = 12
concurrency = {places}

[budget.large]
money = "{large} GBP total"

[budget.small]
money = "{small} GBP total"
"""


def quota() -> Settings:
    """What Stripe's stand-in enforces: the fleet's own limits, and what the ways there may bunch together."""
    rate = Rate(amount=40, per_ms=1_000, burst=16)
    return Settings(stripe=Stripe(requests=rate, endpoint=rate, concurrency=14, latency_ms=10, jitter_ms=30))


def pounds(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000 // 10_000:02}"


@dataclass
class Figures:
    """What a kind of chaos came to. longest: the journal of what ended last in the round that took longest.

    slower: how many times longer than on a machine of its own the last round has taken; slowest: the worst of that.
    """

    rounds: int = 0
    recovered_s: list[float] = field(default_factory=list[float])
    first_s: list[float] = field(default_factory=list[float])
    longest: str = ""
    slower: float = 1.0
    slowest: float = 1.0

    def begin(self) -> None:
        """Forget the rounds so far."""
        self.rounds, self.longest = 0, ""
        self.recovered_s.clear()
        self.first_s.clear()

    def line(self) -> str:
        longest = max(self.recovered_s, default=0.0)
        middle = sorted(self.recovered_s)[len(self.recovered_s) // 2] if self.recovered_s else 0.0
        return (
            f"{self.rounds} rounds; first effect after at most {max(self.first_s, default=0.0):.1f} s, "
            f"all recovered after {middle:.1f} s (half of the rounds) to {longest:.1f} s, "
            f"on a machine up to {self.slowest:.1f} times slower than alone"
        )


@dataclass
class Host:
    """Processes that reach the fleet's servers by one way. command: what a process is started through."""

    name: str
    config: Path
    command: tuple[str, ...] = ()
    workers: "list[subprocess.Popen[str]]" = field(default_factory=list["subprocess.Popen[str]"])


@dataclass
class Fleet:
    """folder: its root, its witnesses and its errors. desk: the config of who submits. caps: of the two purses, in micros.

    killed: whether workers are killed on hosts where nobody else can see it: their calls hold what they hold until
    their deadline, ten minutes, because they may be on their way.
    """

    folder: Path
    sandbox: Sandbox
    chance: random.Random
    desk: Path
    hosts: list[Host]
    caps: dict[str, int]
    edits: bool
    killed: bool = False
    socket: Path | None = None
    before: int = BEFORE
    figures: Figures = field(default_factory=Figures)
    speed: Speed = field(default_factory=Speed)
    orders: int = 0
    lw: longwatch.Longwatch = field(init=False)

    def __post_init__(self) -> None:
        self.lw = longwatch.open(config=str(self.desk), agent="clerk", budget="large")

    # -- people at work --------------------------------------------------------------------------------------------------

    def man(self, host: Host, processes: int) -> None:
        """Start so many workers, and wait until they are at work."""
        for worker in self.start(host, processes):
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n", self.errors()

    def start(self, host: Host, processes: int) -> "list[subprocess.Popen[str]]":
        """Start so many workers. Each says that it is ready."""
        environ = os.environ | {"CHAOS_EDITS": "1" if self.edits else "0", "CHAOS_STRIPE": str(self.socket or "")}
        parts = [str(WORKER), str(host.config), self.sandbox.base_urls["stripe"], str(self.folder / "witness")]
        with (self.folder / "errors.log").open("ab") as errors:
            fresh = [
                subprocess.Popen(
                    [*host.command, sys.executable, *parts],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environ,
                    text=True,
                )
                for _ in range(processes)
            ]
        host.workers += fresh
        return fresh

    def errors(self) -> str:
        return (self.folder / "errors.log").read_text()[-4_000:]

    def stop(self) -> None:
        """Ask all to stop, as a service manager does, and wait for them."""
        workers = [worker for host in self.hosts for worker in host.workers]
        for worker in workers:
            assert worker.stdin is not None
            with suppress(OSError):
                worker.stdin.close()
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(PATIENCE_S)
        dead = [worker.returncode for worker in workers if worker.returncode not in (0, -9)]
        self.end()
        assert not dead, f"{dead}\n{self.errors()}"

    def end(self) -> None:
        for host in self.hosts:
            self.kill(host.workers)

    def kill(self, workers: "list[subprocess.Popen[str]]") -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
        for worker in workers:
            worker.wait(PATIENCE_S)
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    # -- rounds --------------------------------------------------------------------------------------------------------

    def submit(self, orders: int) -> None:
        """Each is submitted until it is known that it was; its key makes it one."""
        for number in range(self.orders, self.orders + orders):
            self._patiently(partial(self.lw.submit, "order", {"number": number}, key=f"order-{number}"))
        self.orders += orders

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except StoreUnavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def counts(self) -> Counter[str]:
        """How many orders are in which state."""

        def look() -> Counter[str]:
            with self.lw.opened.parts.database.read() as tx:
                return Counter({row.state: row.tasks for row in tx.all("look.counts")})

        counted: Counter[str] = self._patiently(look)
        return counted

    def paid(self) -> int:
        return int(self.sandbox.counts()["stripe"]["requests"])

    def ended(self) -> int:
        counts = self.counts()
        return sum(counts[state] for state in ("done", "failed", "cancelled", "unknown"))

    def round(self, fault: "Callable[[], float | None]") -> None:
        """A fault in the middle of a round's orders. It returns when it was over, if that was before it returned."""
        before = self.ended()
        self.speed.slower()
        self.submit(self.before)
        self.until(lambda: self.ended() > before + 2, "nobody begins")
        time.sleep(self.chance.uniform(0, 0.3))
        over = fault() or time.monotonic()
        seen = self.paid()
        self.submit(AFTER)
        self.until(lambda: self.paid() > seen or self.ended() == self.orders, "nobody goes on")
        self.figures.first_s.append(time.monotonic() - over)
        self.until(lambda: self.ended() == self.orders, "not all end")
        took_s = time.monotonic() - over
        if took_s > max(self.figures.recovered_s, default=5.0):
            self.figures.longest = self.slowest()
        self.figures.recovered_s.append(took_s)
        self.figures.slower = self.speed.slower()
        self.figures.slowest = max(self.figures.slowest, self.figures.slower)
        self.figures.rounds += 1

    def until(self, is_so: Callable[[], bool], otherwise: str) -> None:
        ends, asked = time.monotonic() + PATIENCE_S, False
        while not is_so():
            if not asked and time.monotonic() > ends - PATIENCE_S + SLOW_S:
                asked = self.ask_where_they_stand()
            assert time.monotonic() < ends, f"{otherwise}: {self.counts()}, {self.troubles()}\n{self.errors()}"
            time.sleep(0.03)

    def ask_where_they_stand(self) -> bool:
        """Into the log: it takes too long."""
        for worker in self.at_work():
            worker.send_signal(signal.SIGUSR1)
        return True

    def at_work(self) -> "list[subprocess.Popen[str]]":
        """Those that are the workers themselves, and not a program that runs one on another host."""
        return [worker for host in self.hosts if not host.command for worker in host.workers]

    def troubles(self) -> list[str]:
        """Why some of the orders that have not ended were tried in vain."""
        open_ = [row for row in self.rows("task") if row["ended_ms"] is None]
        return [f"{row['state']}, {row['failures']} failures: {row['error']}" for row in open_[:5]]

    def slowest(self) -> str:
        """The journal of the order that ended last."""
        last = max(self.rows("task"), key=lambda row: row["ended_ms"] or 0)["id"]
        told = [row for row in self.rows("record") if last in (row["task"], row["subject"])]
        return "\n".join(f"{row['at_ms'] / 1000:.3f} {row['kind']} {row['data']}" for row in told)

    # -- the auditor -----------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Outside effects first. Everybody has stopped."""
        told = list(self.witnesses())
        wrong = [*self._charges(), *self._limits(), *self._books(), *tills(told), *self._ledger(told)]
        assert not wrong, "\n".join(wrong[:20]) + "\n" + self.errors()

    def witnesses(self) -> Iterator[list[str]]:
        for path in self.folder.glob("witness.*"):
            yield from (line.split() for line in path.read_text().splitlines())

    def charged(self) -> Counter[int]:
        """How often each order was paid for."""
        return Counter(int(made["description"]) for made in self.sandbox.effects()["payment_intents"])

    def _charges(self) -> Iterator[str]:
        yield from (
            f"order {number} was charged {times} times" for number, times in self.charged().items() if times > 1
        )

    def _limits(self) -> Iterator[str]:
        statuses = self.sandbox.counts()["stripe"]["statuses"]
        if not set(statuses) <= {"200", "409"}:
            yield f"Stripe's answers: {statuses}"
        peek = {cap.purse: cap for cap in self.lw.opened.parts.calls.limiter.peek().caps}
        for purse, cap_micros in self.caps.items():
            billed = self.sandbox.bill()["stripe"]["keys"].get(f"sk_test_{purse}", 0)
            kept = peek[f"budget:{purse}"]
            if not billed <= kept.spent + kept.held <= cap_micros:
                yield f"{purse}: billed {billed}, recorded {kept.spent} and held {kept.held}, cap {cap_micros}"
            if kept.held and not self.killed:
                yield f"{purse}: {kept.held} is held by nobody"

    def _books(self) -> Iterator[str]:
        booked = Counter(int(line) for path in self.folder.glob("book-*.txt") for line in path.read_text().split())
        for path in self.folder.glob("book-*.txt"):
            lines, count = len(path.read_text().split()), path.with_name(f"count-{path.name}").read_text()
            if lines != int(count):
                yield f"{path.name} has {lines} lines and its count says {count}"
        for number in range(1, self.orders, 2) if self.edits else ():
            if booked[number] != 1:
                yield f"order {number} was booked {booked[number]} times"

    def _ledger(self, told: Sequence[list[str]]) -> Iterator[str]:
        charged, mailed = self.charged(), Counter(int(words[1]) for words in told if words[0] == "mailed")
        tasks = {json.loads(task["args"])["number"]: task for task in self.rows("task")}
        if len(tasks) != self.orders:
            yield f"{len(tasks)} tasks of {self.orders} orders"
        finished = Counter(row["task"] for row in self.rows("run") if row["outcome"] == "finished")
        refused = {row["task"] for row in self.rows("step") if row["name"] == "pay" and "refused" in row["result"]}
        for number, task in tasks.items():
            story = f"order {number} {task['state']}, {task['failures']} failures, {task['crashes']} crashes"
            if task["state"] not in ("done", "unknown") or (task["state"] == "unknown" and number % 7):
                yield f"lost: {story}: {task['error']}"
            if task["state"] == "done" and (task["result"] != str(number) or finished[task["id"]] != 1):
                yield f"finished {finished[task['id']]} times with {task['result']}: {story}"
            # An attempt that died may have paid, while its call that stays open keeps the next one from fitting.
            at_least = 0 if task["id"] in refused else 1
            if not at_least <= charged[number] <= max(at_least, min(1, task["crashes"])):
                yield f"charged {charged[number]} times: {story}"
            if mailed[number] > 1 or (number % 7 == 0 and task["state"] == "done" and not mailed[number]):
                yield f"mailed {mailed[number]} times: {story}"
        if not self.killed:
            yield from (f"left open: {call}" for call in self.rows("call") if call["state"] == "open")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table of the ledger, through a connection that is none of Longwatch's."""
        with psycopg.Connection[dict[str, Any]].connect(
            self.lw.opened.settings.state, row_factory=dict_row
        ) as connection:
            return connection.execute(f"select * from {table}".encode()).fetchall()


def tills(told: Sequence[list[str]]) -> Iterator[str]:
    """Whoever asked after somebody else had taken the till must not have been told that he holds it."""
    taken: dict[str, list[tuple[int, int]]] = {}
    for words in told:
        if words[0] == "taken":
            taken.setdefault(words[1], []).append((int(words[2]), int(words[3])))
    for words in told:
        if words[0] == "held":
            name, fence, asked = words[1], int(words[2]), int(words[3])
            later = [other for other, at in taken[name] if other > fence and at < asked]
            if later:
                yield f"{name} was held under fence {fence} when {later[0]} had been given"
    for name, fences in taken.items():
        if len({fence for fence, _ in fences}) != len(fences):
            yield f"{name}: a fence was given twice"


@dataclass(frozen=True)
class Way:
    """To a fleet's servers. engine: what decides about calls, "" for the state. command: what is put before a program."""

    state: str
    engine: str = ""
    command: tuple[str, ...] = ()

    def config(self, path: Path, root: Path, caps: dict[str, int], *, places: int) -> Path:
        engine = f'admission = "{self.engine}"' if self.engine else ""
        money = {purse: pounds(micros) for purse, micros in caps.items()}
        path.write_text(
            CONFIG.format(root=root, state=self.state, engine=engine, lease=LEASE_S, places=places, **money)
        )
        return path


def address_of(sandbox: Sandbox) -> tuple[str, int]:
    parts = urlsplit(sandbox.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@contextmanager
def fleet(
    folder: Path,
    *,
    desk: Way,
    hosts: Sequence[Way],
    processes: int,
    rounds: int,
    seed: int,
    edits: bool = True,
    killed: bool = False,
    socket: Path | None = None,
    before: int = BEFORE,
) -> Generator[Fleet]:
    """As many hosts as ways, each with so many workers. desk: the way of who submits and audits. socket: another way to
    Stripe, for workers on other networks.

    The small purse suffices for about two thirds of the orders that it is to pay.
    """
    orders = (rounds + UNDISTURBED) * (before + AFTER)
    caps = {"large": orders * FEE_MICROS, "small": orders * 2 // 9 * FEE_MICROS}
    if killed:
        caps["large"] *= 2
    written = partial(Way.config, root=folder, caps=caps, places=1_000 if killed else 12)
    with started(quota(), folder / "sandbox.log") as sandbox:
        manned = [Host(f"host-{n}", written(way, folder / f"{n}.toml"), way.command) for n, way in enumerate(hosts)]
        book = written(desk, folder / "desk.toml")
        made = Fleet(folder, sandbox, random.Random(seed), book, manned, caps, edits, killed)
        made.socket, made.before = socket, before
        proxy = None if socket is None else Proxy.start(address_of(sandbox), path=str(socket))
        try:
            for host in manned:
                made.man(host, processes)
            yield made
        finally:
            if proxy is not None:
                proxy.stop()
            made.speed.stop()
            made.end()
            made.lw.close()
