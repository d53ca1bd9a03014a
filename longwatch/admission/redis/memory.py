"""What Redis has to be told before it may decide: after it was started anew, when a window begins, and when it runs out of
what it was allotted. Each holds the state's lock for as long as it takes, and none is needed for an ordinary decision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from longwatch.admission import asides, task_caps
from longwatch.admission.redis.link import Link
from longwatch.admission.redis.values import Caps, Said, cap_of, said_aside, said_of, text
from longwatch.admission.share import untold
from longwatch.admission.standing import encode, held_by, holding
from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import StoreUnavailable
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.away import is_of_share
from longwatch.policy.scope import TASK, PurseCap
from longwatch.policy.window import LAST_MS, Window
from longwatch.store.journal import Journal

GRACE_MS = 2_000  # after a loss of memory, for every process to write down what it has
SHARE, TIMES = 256, 4  # an allotment is this part of the cap, or so many times what is needed, whichever is more


@dataclass
class Memory:
    """new_token: makes the name of a generation. now: the instants that go with every operation."""

    database: Database
    journal: Journal
    link: Link
    new_token: Callable[[], str]
    now: Callable[[], Said]
    generation: str = ""

    def greet(self, run: str) -> None:
        """A connection was made to this run of the server: see that its memory is the one that the ledger knows."""
        with self.database.read() as tx:
            kept = self._kept(tx)
        if kept and self._is(run, kept):
            self.generation = kept
            return
        with self.database.transaction(part="calls") as tx:
            kept = self._kept(tx)
            if kept and self._is(run, kept):  # another process was faster
                self.generation = kept
            else:
                self._begin(tx, run, fresh=kept is None)

    def _kept(self, tx: Transaction) -> str | None:
        """The generation that the ledger knows; None before there was any, "" when the state was restored since."""
        row = tx.one("allotment.generation")
        if row is None:
            return None
        return str(row.generation) if str(row.generation).endswith(self._epoch(tx)) else ""

    def _epoch(self, tx: Transaction) -> str:
        found = tx.one("fleet.found")
        assert found is not None
        return f"@{found.epoch}"

    def _is(self, run: str, generation: str) -> bool:
        kept: Said = self.link.run("state", self.now()).get("st") or {}
        return bool(kept) and text(kept["run"]) == run and text(kept["gen"]) == generation

    def _begin(self, tx: Transaction, run: str, *, fresh: bool) -> None:
        """Forget everything; only after GRACE_MS is it filled again, and only then are calls admitted."""
        generation = self.new_token() + self._epoch(tx)
        tx.count("allotment.begin", generation=generation)
        if not fresh:
            self.journal.append(tx, "engine.forgot", "redis", place=self.link.place)
            asides.forget(tx, self.journal)
        state = tx.one("fleet.found")
        assert state is not None
        arguments = {"gen": generation, "run": run, "rules": state.rules, "cal": self._calendar(tx), "fresh": fresh}
        self.link.run("found", self.now() | arguments | {"grace": GRACE_MS * 1000})
        self.generation = generation

    def fill(self) -> None:
        """The time for everybody to write down what he has is over: what is not in the ledger now was lost."""
        with self.link.pin():
            with self.database.transaction(part="calls") as tx:
                if self._is_empty(tx):
                    self._park(tx)  # for good, before anybody can be allotted anything again
            with self.database.transaction(part="calls") as tx:
                if self._is_empty(tx):
                    self._fill(tx)

    def _is_empty(self, tx: Transaction) -> bool:
        """Nobody has filled it before: asked while nobody else can, because a transaction has its lock once it has asked."""
        if self._kept(tx) != self.generation:
            return False
        kept: Said = self.link.run("state", self.now()).get("st") or {}
        return bool(kept) and text(kept["gen"]) == self.generation and not kept["ready"]

    def _fill(self, tx: Transaction) -> None:
        shift_us = self.shift_us(tx, self.link.run("state", self.now())["now"])
        calls = [{"id": row.id, "c": said_of(row, shift_us)} for row in tx.all("allotment.open")]
        meters = {
            row.name: [row.free_us - shift_us, row.last_us - shift_us, row.total, 1]
            for row in tx.all("meter.every")
            if not is_of_share(row.name)
        }
        kept = [said_aside(asides.of_row(row)) for row in tx.all("aside.every")]
        self._run("fill", {"calls": calls, "meters": meters, "asides": kept, "horizon": HORIZON_US})

    def shift_us(self, tx: Transaction, now_us: int) -> int:
        """What the engine's clock needs added to read as the fleet's."""
        return 0 if self.now().get("now") is not None else tx.now_ms * 1000 - now_us

    def _park(self, tx: Transaction) -> None:
        """What was allotted and is not in the ledger counts as spent: also what was set aside, of which nobody knows how much
        was drawn."""
        groups, own = tx.several(("call.groups", {}), ("away.groups", {}))
        for row in tx.all("allotment.current", at_ms=self._calendar(tx)):
            lasts = Window(row.starts_ms, row.ends_ms)
            held = self._held(tx, groups, row.purse, row.dimension, lasts)
            if not task_caps.is_of_task(row.purse):
                held -= self._held(tx, own, row.purse, row.dimension, lasts)
            missing = row.amount - row.settled - held
            if missing > 0:
                window = {"purse": row.purse, "ends_ms": row.ends_ms, "dimension": row.dimension, "per": row.per}
                tx.count("allotment.park", amount=missing, **window)
                tx.count("allotment.remember", amount=missing, **window)
                facts = {"dimension": row.dimension, "per": row.per, "amount": missing}
                self.journal.append(tx, "budget.parked", row.purse, **facts)

    def _calendar(self, tx: Transaction) -> int:
        found = tx.one("spend.calendar")
        assert found is not None
        return int(found.at_ms)

    # -- windows ---------------------------------------------------------------------------------------------------------

    def open(self, caps: Caps) -> None:
        """The caps' windows are looked at for the first time."""
        with self.link.pin(), self.database.transaction(part="calls") as tx:
            tx.count("spend.turn", at_ms=caps.calendar_ms)
            groups = tx.all("call.groups")
            windows = [cap_of(*each) | self._opened(tx, groups, *each) for each in caps.windows]
            here = [text(id) for id in self._run("look", {"ids": True})["ids"] or ()]
            rows = tx.all("allotment.several", ids=encode(here).decode()) if here else []
            ended = {
                row.id: (row.money, row.calls, row.tokens)
                for row in rows
                if row.state in ("settled", "unknown") and not row.away
            }
            self._run("open", {"windows": windows, "known": ended})

    def _opened(self, tx: Transaction, groups: Sequence[Row], cap: PurseCap, window: Window) -> Said:
        place: dict[str, str | int] = {
            "purse": cap.purse,
            "ends_ms": window.ends_ms,
            "dimension": cap.dimension,
            "per": cap.cap.window,
        }
        if task_caps.is_of_task(cap.purse):
            row = task_caps.opened(tx, cap)
        else:
            row = tx.one("spend.open", starts_ms=window.starts_ms, **place) or tx.one("allotment.standing", **place)
        assert row is not None
        held = self._held(tx, groups, cap.purse, cap.dimension, window)
        if not task_caps.is_of_task(cap.purse):
            held += self._held(tx, tx.all("aside.open"), cap.purse, cap.dimension, window)
        spent, holds = _untold(tx, cap, window)
        base = int(row.settled) + held - spent - holds
        raised = self._raise(tx, cap, window, base + cap.cap.amount // SHARE)
        return {"spent": row.settled - spent, "ceiling": raised, "beside": (spent, holds)}

    def _held(self, tx: Transaction, groups: Sequence[Row], purse: str, dimension: str, window: Window) -> int:
        """groups: of open calls, or of what batches have set aside."""
        if task_caps.is_of_task(purse):
            of_task = tx.one("task_cap.held", task=task_caps.task_of(purse))
            return 0 if of_task is None else int(getattr(of_task, dimension))
        return held_by(groups, holding(purse, dimension), starts_ms=window.starts_ms, ends_ms=window.ends_ms)[0]

    def _raise(self, tx: Transaction, cap: PurseCap, window: Window, wanted: int) -> int:
        """The new ceiling: it leaves room for what was held beside the engine. A task's cap is that of the state, which a
        person may have moved since it was read."""
        most = cap.cap.amount
        if task_caps.is_of_task(cap.purse) and (kept := task_caps.of_window(tx, cap)) is not None:
            most = kept.cap.amount
        row = tx.one(
            "allotment.raise",
            purse=cap.purse,
            ends_ms=window.ends_ms,
            dimension=cap.dimension,
            per=cap.cap.window,
            starts_ms=window.starts_ms,
            amount=max(0, min(most - sum(_untold(tx, cap, window)), wanted)),
        )
        assert row is not None
        return int(row.amount)

    def allot(self, caps: Caps, low: Sequence[tuple[int, int]], needs: Sequence[int], *, times: int = TIMES) -> None:
        """These windows have reached their ceilings. low: (place from 1, what spent and held come to with the call).

        times: as many calls as these it is to be enough for.
        """
        with self.database.transaction(part="calls") as tx:
            raised: list[Said] = []
            for place, reached in low:
                cap, window = caps.windows[place - 1]
                more = max(cap.cap.amount // SHARE, times * needs[place - 1])
                ceiling = self._raise(tx, cap, window, reached + more)
                if not task_caps.is_of_task(cap.purse):
                    raised.append(cap_of(cap, window) | {"ceiling": ceiling, "beside": _untold(tx, cap, window)})
        if raised:
            self._run("raise", {"windows": raised})
        for task in {task_caps.task_of(caps.windows[place - 1][0].purse) for place, _ in low} & of_tasks(caps):
            self.level(task)

    def level(self, task: str) -> None:
        """What the engine may give out of the task's caps is what the state has of it: told while the state is held, so
        that whoever tells last tells of what was decided last."""
        with self.link.pin(), self.database.transaction(part="calls", durable=False) as tx:
            allotted = {row.dimension: row.amount for row in tx.all("task_cap.allotted", purse=f"{TASK}{task}")}
            windows = [
                cap_of(cap, Window(0, LAST_MS)) | {"ceiling": allotted[cap.dimension]}
                for cap in task_caps.caps_of(tx, task)
                if cap.dimension in allotted
            ]
            self._run("level", {"windows": windows})

    def close(self, purses: Sequence[str]) -> None:
        """Nothing is asked of these any more; the ledger opens them again."""
        self._run("close", {"purses": purses})

    def tell_untold(self, caps: Caps) -> bool:
        """The engine is told what was held and spent beside it; whether that is anything else than it was."""
        with self.database.read() as tx:
            windows = [cap_of(*each) | {"beside": _untold(tx, *each)} for each in caps.windows]
        return bool(self._run("beside", {"windows": windows})["changed"])

    def adopt(self, rules: int) -> bool:
        """Whether these limits are those in force, which Redis then goes by."""
        with self.database.read() as tx:
            row = tx.one("fleet.found")
        if row is None or row.rules != rules:
            return False
        self._run("rules", {"rules": rules})
        return True

    def _run(self, operation: str, arguments: Said) -> Said:
        said = self.link.run(operation, self.now() | {"gen": self.generation} | arguments)
        if text(said["k"]) == "lost":
            self.generation = ""
            raise forgot(self.link)
        return said


def of_tasks(caps: Caps) -> set[str]:
    return {task_caps.task_of(cap.purse) for cap, _ in caps.windows if task_caps.is_of_task(cap.purse)}


def _untold(tx: Transaction, cap: PurseCap, window: Window) -> tuple[int, int]:
    """What was spent and is held of it beside the engine: of a task's caps nothing ever is."""
    if task_caps.is_of_task(cap.purse):
        return 0, 0
    return untold(tx, cap.purse, cap.dimension, cap.cap.window, starts_ms=window.starts_ms, ends_ms=window.ends_ms)


def forgot(link: Link) -> StoreUnavailable:
    """Another process has noticed that Redis lost its memory, before this one did."""
    found = StoreUnavailable(
        f"the admission engine at {link.place} has lost its memory", hint="It is rebuilt from the state: ask again."
    )
    found.waits = True
    return found


def undecided(link: Link, rounds: int) -> StoreUnavailable:
    """Others used up what this process had raised the ceilings for, every time."""
    found = StoreUnavailable(
        f"the admission engine at {link.place} has not decided in {rounds} rounds", hint="Ask again: it is busy."
    )
    found.waits = True
    return found
