"""One program in play: the model and an engine side by side, asked the same, and their answers laid next to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any, TypeVar, cast

import msgspec

from longwatch.admission import limiter
from longwatch.admission.calls import CallRequest
from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import LongwatchError
from longwatch.policy import admission
from longwatch.policy.aside import Want
from longwatch.policy.lease import Holder
from longwatch.policy.limits import Limits
from longwatch.policy.redact import Redactor
from longwatch.store import edits, fleet, leases, runs, steps, tasks, workers
from longwatch.store.journal import Journal
from longwatch.store.leases import Names
from longwatch.store.moves import NewTask, Run, Step, Task
from longwatch.testing.invariants import MANY, Watch
from longwatch.testing.model import leases as leases_model
from longwatch.testing.model import ledger
from longwatch.testing.model import limiter as limiter_model
from longwatch.testing.model.state import Ledger

T = TypeVar("T")
START_MS = 1_800_000_000_000
OWNERS = ("ann", "bob", "cid")
KINDS = ("pay", "mail")


class Disagreement(AssertionError):
    """The engine does not do what the model says."""


@dataclass
class HandClock:
    """Stands still until it is moved."""

    steady: int = START_MS
    wall: int = START_MS
    boot: int = 1

    def steady_ms(self) -> int:
        return self.steady

    def wall_ms(self) -> int:
        return self.wall

    def boot_id(self) -> str:
        return f"boot-{self.boot}"


@dataclass(frozen=True)
class Beside:
    """A state whose calls are admitted by an engine beside it. limiter: over the state, with these limits."""

    database: Database
    limiter: Callable[[Database, Journal, Limits], limiter.Limiter]


MakeEngine = Callable[[HandClock], Database | Beside]
"""Opens a new, empty, migrated state that takes its time from the clock."""


@dataclass(frozen=True)
class Side:
    """The methods under comparison: the model's, or those of the stores over an engine."""

    tasks: tasks.Tasks | ledger.Tasks
    runs: runs.Runs | ledger.Runs
    steps: steps.Steps | ledger.Steps
    workers: workers.Workers | ledger.Workers
    leases: leases.LeaseStore | leases_model.LeaseStore
    edits: edits.EditStore | leases_model.EditStore
    limiter: limiter.Limiter | limiter_model.Limiter


@dataclass
class Handle:
    """A run as each side gave it out; their fences may differ."""

    model: Run
    engine: Run
    owner: str

    def of(self, side: "Side", play: "Play") -> Run:
        return self.model if side is play.model else self.engine


@dataclass
class Numbers:
    """The choices of one act, in order. When they run out, the first option is chosen."""

    left: list[int]

    def pick(self, options: Sequence[T]) -> T:
        return options[(self.left.pop(0) if self.left else 0) % len(options)]

    def chance(self, one_in: int) -> bool:
        return self.pick(range(one_in)) == one_in - 1

    def recent(self, options: Sequence[T]) -> T:
        """Mostly one of the last four."""
        return self.pick(options if self.chance(4) else options[-4:])


@dataclass
class Play:
    """The state of one program: both sides, and what its acts have to refer to."""

    make_engine: MakeEngine
    limits: Limits
    clock: HandClock = field(default_factory=HandClock)
    said: list[str] = field(default_factory=list[str])
    handles: list[Handle] = field(default_factory=list[Handle])
    submitted: list[str] = field(default_factory=list[str])
    asked: dict[str, tuple[Names, Holder]] = field(default_factory=dict[str, tuple[Names, Holder]])  # by lease
    fences: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])  # lease, model's, engine's
    requests: dict[str, CallRequest] = field(default_factory=dict[str, CallRequest])
    standing: dict[str, CallRequest] = field(default_factory=dict[str, CallRequest])  # in line, or once were
    batches: dict[str, tuple[NewTask, ...]] = field(default_factory=dict[str, tuple[NewTask, ...]])
    wants: dict[str, list[Want]] = field(default_factory=dict[str, list[Want]])  # by batch
    capped: list[str] = field(default_factory=list[str])  # tasks with caps of their own
    last: Callable[[], object] | None = None
    made: int = 0

    def __post_init__(self) -> None:
        made = self.make_engine(self.clock)
        self.database = made.database if isinstance(made, Beside) else made
        self._limiter = made.limiter if isinstance(made, Beside) else limiter.Limiter
        fleet.enter(self.database, self.clock, name="conformance", redaction_key="key")
        self.journal = Journal(self.database, Redactor(b"key"))
        self.engine = self._engine(self.limits)
        self.ledger = Ledger(self.now_ms)
        self.model_leases = leases_model.LeaseStore(self.now_ms, self.clock.boot_id, self.ledger.next_fence)
        self.model_limiter = limiter_model.Limiter(self.now_ms, self.clock.wall_ms, self.limits)
        self.model_limiter.asides.unended = self._unended
        self.model = Side(
            ledger.Tasks(self.ledger),
            ledger.Runs(self.ledger),
            ledger.Steps(self.ledger),
            ledger.Workers(self.ledger),
            self.model_leases,
            leases_model.EditStore(self.model_leases),
            self.model_limiter,
        )
        self.watch = Watch(self.database)

    def _unended(self, batch: str) -> bool:
        return any(task.batch == batch and task.ended_ms is None for task in self.ledger.tasks.values())

    def _engine(self, limits: Limits) -> Side:
        kept = (self.database, self.journal)
        held = leases.LeaseStore(*kept)
        return Side(
            tasks.Tasks(*kept),
            runs.Runs(*kept),
            steps.Steps(*kept),
            workers.Workers(*kept),
            held,
            edits.EditStore(*kept, held),
            self._limiter(*kept, limits),
        )

    def now_ms(self) -> int:
        return self.clock.steady + self.database.offset_ms

    def close(self) -> None:
        self.engine.limiter.close()
        self.database.close()

    def new_id(self, sort: str) -> str:
        self.made += 1
        return f"{sort}_{self.made}"

    # -- asking both -------------------------------------------------------------------------------------------------

    def both(self, said: str, ask: Callable[[Side], T], shown: Callable[[T, Side], object] | None = None) -> list[T]:
        """Ask the model and the engine; their answers, none when both refused. Errors: Disagreement.

        shown: the form in which the answers are compared.
        """
        self.last = lambda: self.both(f"again: {said}", ask, shown)
        shown = shown or (lambda answer, _: plain(answer, self.now_ms()))
        self.said.append(said)
        by_model, seen_model = answer_of(ask, shown, self.model)
        by_engine, seen_engine = answer_of(ask, shown, self.engine)
        self.said[-1] = f"{said} -> {short(seen_model)}"
        if seen_model != seen_engine:
            raise Disagreement("\n".join(["the answers differ", *difference(seen_model, seen_engine)]))
        return [*by_model, *by_engine]

    def meet(self, owner: str, answers: list[list[Run]]) -> None:
        """Keep the runs that both sides gave out."""
        if answers:
            for by_model, by_engine in zip(*answers, strict=True):
                self.handles.append(Handle(by_model, by_engine, owner))

    def compare(self) -> None:
        """Every task as it stands. Errors: Disagreement, Broken."""
        now_ms = self.now_ms()
        engine = {id: plain(task, now_ms) for id, task in self.watch.look().items()}
        model = {id: plain(task, now_ms) for id, task in self.ledger.tasks.items()}
        differ("the tasks", model, engine)

    def compare_closely(self) -> None:
        """Every need, run and step as well. Errors: Disagreement, Broken."""
        self.compare()
        with self.database.read() as tx:
            needs = {(id, row.id): (row.fate, bool(row.met)) for id, row in self._rows(tx, "look.needs_of")}
            told = {(id, row.id): row.outcome for id, row in self._rows(tx, "look.runs_of")}
            parts = {(id, row.name): (row.sort, row.result) for id, row in self._rows(tx, "look.steps_of")}
        differ("the needs", {pair: (need.fate, need.met) for pair, need in self.ledger.needs.items()}, needs)
        differ("the runs", {(run.task, run.id): run.outcome for run in self.ledger.attempts.values()}, told)
        differ("the steps", {pair: (part.sort, part.result) for pair, part in self.ledger.steps.items()}, parts)
        self.watch.look_closely()

    def _rows(self, tx: Transaction, statement: str) -> list[tuple[str, Row]]:
        return [(id, row) for id in self.ledger.tasks for row in tx.all(statement, task=id, limit=MANY)]


def answer_of(ask: Callable[[Side], T], shown: Callable[[T, Side], object], side: Side) -> tuple[list[T], object]:
    """[the answer] and how it is compared; [] and the error's class and code when it was refused."""
    try:
        answer = ask(side)
    except LongwatchError as error:
        return [], f"{type(error).__name__} ({error.code})"
    return [answer], shown(answer, side)


def differ(what: str, model: dict[Any, Any], engine: dict[Any, Any]) -> None:
    for key in [*model, *engine]:
        if model.get(key) != engine.get(key):
            raise Disagreement("\n".join([f"{what} differ at {key}", *difference(model.get(key), engine.get(key))]))


def difference(model: object, engine: object) -> list[str]:
    """Both in full, or where two mappings of the same keys differ."""
    if isinstance(model, dict) and isinstance(engine, dict):
        one, other = cast("dict[str, object]", model), cast("dict[str, object]", engine)
        return [
            f"  {name}: model {one[name]!r}, engine {other.get(name)!r}" for name in one if one[name] != other.get(name)
        ]
    return [f"  model  {model}", f"  engine {engine}"]


def plain(value: Any, now_ms: int) -> object:
    """A form in which the answers of two sides can be equal: no fences, no order numbers, no words of errors."""
    match value:
        case Task():
            facts = msgspec.structs.asdict(value)
            facts["state"] = (
                "due" if value.state in ("scheduled", "ready") and value.ready_ms <= now_ms else value.state
            )
            facts["error"] = value.error is not None
            return {name: fact for name, fact in facts.items() if name not in ("seq", "fence")}
        case Run():
            return (value.id, value.task.id, value.until_ms, value.blank, value.capped)
        case Step():
            return (value.name, value.sort, value.state, value.result)
        case runs.Concluded():
            state = "open" if value.state in ("scheduled", "ready") else value.state
            return (state, plain(value.started, now_ms), value.runnable)
        case admission.Later():
            return tuple(value)
        case list() | tuple():
            return [plain(item, now_ms) for item in cast("Sequence[object]", value)]
        case dict():
            return {name: plain(item, now_ms) for name, item in cast("dict[str, object]", value).items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return [plain(getattr(value, name), now_ms) for name in value.__dataclass_fields__]
        case _:
            return value


def short(seen: object) -> str:
    text = str(seen)
    return text if len(text) <= 160 else text[:157] + "..."
