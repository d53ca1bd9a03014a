"""Virtual time: a heap of wake times is the clock, and exactly one thread of the simulated world runs at any instant.

Every thread of a simulated process is a real thread, so that the real code runs unchanged; it runs only while it has the
baton. A thread that waits puts its wake time on the heap, takes the earliest entry off it, sets the clock to that, and
hands the baton to whoever it belongs to. Nothing else decides the order, so one seed gives one history.

An entry of the heap may also be an event: a plain function, run by whoever is handing over. The world outside, the
faults and the auditor are made of events; an event never waits.

A process that is killed gets `Killed` raised in each of its threads, and whatever its clean-up code then tries (time,
state, files) raises it again: the dead write nothing. Files are watched by an audit hook, which is also a place where a
process may die: before any rename, removal or new folder below the simulated root.
"""

import contextvars
import heapq
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

NEVER_MS = 1 << 60
STACK_BYTES = 1 << 19
STUCK_S = 60  # of real time without a hand-over: somebody blocks outside of virtual time
WRITES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"})


class Killed(BaseException):
    """The simulated process is dead; its threads unwind, and can do nothing more."""


class Stuck(RuntimeError):
    """A thread of the simulated world waits for something that is not virtual."""


class Owner(Protocol):
    """What a thread belongs to: a simulated process."""

    name: str
    dead: bool
    paused_until_ms: int

    def touch(self, event: str, path: str) -> None:
        """The process is about to change something in the file system."""
        ...


class Strand:
    """One thread of a simulated process. It waits for its baton; `token` tells its valid heap entry from stale ones."""

    __slots__ = ("baton", "done", "ident", "joiners", "name", "owner", "token", "waiting")

    def __init__(self, name: str, owner: Owner | None, baton: threading.Lock) -> None:
        self.name, self.owner, self.baton = name, owner, baton
        self.token, self.waiting, self.done, self.ident = 0, False, False, 0
        self.joiners: list[Strand] = []


class Carrier:
    """A real thread that carries one strand after the other: to start one costs as much as ten hand-overs."""

    def __init__(self, run: "Callable[[Carrier, Strand, Callable[[], None]], None]") -> None:
        self.baton = held_lock()
        self._run = run
        self._next: tuple[Strand, Callable[[], None]] | None = None
        old = threading.stack_size(STACK_BYTES)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        threading.stack_size(old)

    def take(self, name: str, owner: Owner, work: Callable[[], None]) -> Strand:
        """A strand that this thread will run when it gets the baton."""
        strand = Strand(name, owner, self.baton)
        self._thread.name = f"{owner.name}/{name}"
        self._next = strand, work
        return strand

    def dismiss(self) -> None:
        """End the idle thread."""
        self._next = None
        self.baton.release()

    def _carry(self) -> None:
        self.baton.acquire()
        while self._next is not None:
            strand, work = self._next
            strand.ident = threading.get_ident()
            contextvars.Context().run(self._run, self, strand, work)
            self.baton.acquire()


def held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


Event = Callable[[], object]
Entry = tuple[int, int, "Strand | Event", int]


class Driver:
    """The clock of one simulated world, and who has the baton. Made, run and ended by one real thread."""

    def __init__(self, *, root: str = "\0") -> None:
        """root: the folder below which changes of files are watched."""
        self.now_ms, self.root, self.switches = 0, root, 0
        self._heap: list[Entry] = []
        self._order = 0
        self._main = Strand("driver", None, held_lock())
        self._main.ident = threading.get_ident()
        self.running: Strand | None = self._main
        self.failure: BaseException | None = None
        self._living = 0
        self._idle: list[Carrier] = []
        self._ending = False

    # -- events and threads --------------------------------------------------------------------------------------------

    def at(self, at_ms: int, event: Event) -> None:
        """Run the event at the instant, in the order of asking among those of one instant."""
        self._order += 1
        heapq.heappush(self._heap, (max(at_ms, self.now_ms), self._order, event, 0))

    def start(self, name: str, owner: Owner, work: Callable[[], None]) -> Strand:
        """A new thread of `owner`, which runs as soon as it gets the baton."""
        carrier = self._idle.pop() if self._idle else Carrier(self._run)
        strand = carrier.take(name, owner, work)
        strand.waiting = True
        self._living += 1
        self._push(strand, self.now_ms)
        return strand

    def _run(self, carrier: "Carrier", strand: Strand, work: Callable[[], None]) -> None:
        try:
            if strand.owner is None or not strand.owner.dead:
                work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - the driver's own thread raises it
            self.failure = self.failure or error
        strand.done = True
        for joiner in strand.joiners:
            self.wake(joiner)
        self._living -= 1
        self._idle.append(carrier)
        self._hand_over(self._next())

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait_until(self, at_ms: int) -> None:
        """The calling thread waits for the instant, or until `wake`. Errors: Killed when its process has died."""
        strand = self.running
        assert strand is not None, "an event cannot wait"
        if strand.owner is not None and strand.owner.dead:
            raise Killed
        self._push(strand, max(at_ms, self.now_ms))
        strand.waiting = True
        following = self._next()
        if following is strand:
            self.running = strand
        else:
            self._hand_over(following)
            self._take_baton(strand)
        if strand.owner is not None and strand.owner.dead:
            raise Killed

    def wake(self, strand: Strand) -> None:
        """Let a waiting thread go on now."""
        if strand.waiting:
            self._push(strand, self.now_ms)

    def join(self, strand: Strand, until_ms: int) -> None:
        """The calling thread waits until the other has ended, or until the instant."""
        while not strand.done and self.now_ms < until_ms:
            assert self.running is not None
            strand.joiners.append(self.running)
            self.wait_until(until_ms)

    def run_until(self, at_ms: int) -> None:
        """Let the world go on until the instant. Errors: whatever a thread or an event of the world raised."""
        self.wait_until(at_ms)
        if self.failure is not None:
            raise self.failure

    def end(self) -> None:
        """Wait for the last thread; every process must be dead or on its way out. Errors: Stuck."""
        self._ending = True
        while self._living:
            before = self._living
            self.wait_until(self.now_ms + 1)
            if self._living == before and not any(isinstance(entry[2], Strand) for entry in self._heap):
                raise Stuck(f"{self._living} threads are left that nobody will ever wake")
        for carrier in self._idle:
            carrier.dismiss()
        self._idle.clear()

    # -- the baton -----------------------------------------------------------------------------------------------------

    def _push(self, strand: Strand, at_ms: int) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at_ms, self._order, strand, strand.token))

    def _next(self) -> Strand:
        """Run events up to the next thread that may go on; that thread."""
        self.running = None
        while True:
            if self.failure is not None and not self._ending:
                return self._stop()
            if not self._heap:
                return self._stop()
            at_ms, _, what, token = heapq.heappop(self._heap)
            if isinstance(what, Strand):
                if token != what.token or what.done:
                    continue
                owner = what.owner
                if owner is not None and owner.paused_until_ms > at_ms and not owner.dead:
                    self._push(what, owner.paused_until_ms)
                    continue
                self.now_ms = at_ms
                what.token += 1
                what.waiting = False
                return what
            self.now_ms = at_ms
            try:
                what()
            except BaseException as error:  # noqa: BLE001 - the driver's own thread raises it
                self.failure = self.failure or error

    def _stop(self) -> Strand:
        """The driver's own thread goes on: nobody else will, or somebody has failed."""
        self._main.token += 1
        self._main.waiting = False
        return self._main

    def _hand_over(self, strand: Strand) -> None:
        self.switches += 1
        self.running = strand
        strand.baton.release()

    def _take_baton(self, strand: Strand) -> None:
        if strand is not self._main:
            strand.baton.acquire()
            return
        seen = -1
        while not strand.baton.acquire(timeout=STUCK_S):
            if self.switches == seen:
                raise Stuck(f"no hand-over for {STUCK_S} s; {_stacks()}")
            seen = self.switches


def _stacks() -> str:
    import traceback

    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"-- {names.get(ident)}\n{''.join(traceback.format_stack(frame)[-6:])}" for ident, frame in frames.items()
    )


# -- files ---------------------------------------------------------------------------------------------------------------

_watched: list[Driver] = []
_hooked = False


def watch(driver: Driver) -> None:
    """Let this driver's processes meet their fate at changes of files, and stop the dead from making any."""
    global _hooked
    _watched[:] = [driver]
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)


def unwatch() -> None:
    _watched.clear()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or (event not in WRITES and event != "open"):
        return
    driver = _watched[0]
    strand = driver.running
    if strand is None or strand.owner is None or strand.ident != threading.get_ident():
        return
    if strand.owner.dead:
        raise Killed
    if event == "open":
        return
    for argument in arguments[:2]:
        if isinstance(argument, str) and argument.startswith(driver.root):
            strand.owner.touch(event, argument[len(driver.root) :])
            return
