"""What a program may do to the ledger. An act reads its choices from numbers, and refers to what there is by them: any
part of a program is a program, so that a failing one can be made shorter."""

from collections.abc import Callable

import msgspec

from longwatch.policy.task import Failed, Fate, Finished, HandedBack, LastStep, Lost, Outcome, State
from longwatch.store.moves import NewTask, Run
from longwatch.store.workers import Kind, Manner
from longwatch.testing.play import KINDS, OWNERS, Handle, Numbers, Play, Side

LEASE_MS = 60_000
FATES: tuple[Fate, ...] = ("cancel", "fail", "ignore")
ENDS: tuple[State, ...] = ("done", "failed", "cancelled")
NAMES = ("a", "b")
PAUSES_MS = (1, 1_000, 20_000, 40_000, 59_999, 60_000, 60_001, 120_000, 86_400_000)

Act = Callable[[Play, Numbers], object]


def submit(play: Play, numbers: Numbers) -> None:
    items = [_new_task(play, numbers) for _ in range(numbers.pick((1, 1, 1, 2, 3)))]
    said = "; ".join(_said(item) for item in items)
    play.both(f"submit {said}", lambda side: side.tasks.submit(items))


def submit_dependants(play: Play, numbers: Numbers) -> None:
    """A chain: each needs the one before it."""
    items = [_new_task(play, numbers, key=None)]
    for _ in range(numbers.pick((1, 2, 3))):
        items.append(_new_task(play, numbers, key=None, after=(items[-1].id,)))
    said = "; ".join(_said(item) for item in items)
    play.both(f"submit {said}", lambda side: side.tasks.submit(items))


def submit_batch(play: Play, numbers: Numbers) -> None:
    """The same batch again, or another one under its name."""
    name, changed = numbers.pick(("june", "july")), numbers.chance(4)
    if name not in play.batches:
        play.batches[name] = tuple(_new_task(play, numbers, key=f"{name}/{place}") for place in range(2))
    items, digest = play.batches[name], "other" if changed else "same"
    batch = (play.new_id("batch"), name, digest)
    play.both(f"submit batch {name} ({digest}) {len(items)}", lambda side: side.tasks.submit(items, batch=batch))


def _new_task(play: Play, numbers: Numbers, *, key: str | None = "any", after: tuple[str, ...] = ()) -> NewTask:
    id = play.new_id("task")
    if not after and play.submitted and numbers.chance(2):
        after = tuple(dict.fromkeys(numbers.recent(play.submitted) for _ in range(numbers.pick((1, 2)))))
    if numbers.chance(40):
        after = ("task_missing",)
    if key == "any":
        key = numbers.pick((None, None, None, "k1", "k2"))
    item = NewTask(
        id=id,
        kind=numbers.pick(KINDS),
        args=numbers.pick(("{}", "{}", "{}", '{"n":1}')),
        agent="main",
        key=key,
        lane=numbers.pick((1, 0, 2)),
        ready_ms=None if not numbers.chance(6) else play.now_ms() + numbers.pick((30_000, -1_000)),
        retries=numbers.pick((0, 1, 2)),
        crash_limit=numbers.pick((3, 1, 2)),
        after=after,
        fate=numbers.pick(FATES),
    )
    play.submitted.append(id)
    return item


def _said(item: NewTask) -> str:
    facts = {name: getattr(item, name) for name in ("kind", "key", "lane", "retries", "crash_limit", "after")}
    return f"{item.id} {facts} {item.fate if item.after else ''}"


def claim(play: Play, numbers: Numbers) -> None:
    owner, kinds = numbers.pick(OWNERS), numbers.pick((KINDS, KINDS, KINDS[:1], (*KINDS, *KINDS)))
    limit, start = numbers.pick((1, 2, 4)), numbers.pick((play.new_id("run"),) * 4 + (None,))
    said = f"claim for {owner}: {limit} of {kinds}, {'starting' if start else 'not starting'}"
    play.meet(
        owner,
        play.both(
            said,
            lambda side: side.runs.claim(owner, kinds=kinds, limit=limit, lease_ms=LEASE_MS, start=start),
        ),
    )


def conclude(play: Play, numbers: Numbers) -> None:
    if not play.handles:
        return
    handle, outcome = _handle(play, numbers), _outcome(numbers)
    all_owners = numbers.chance(6)
    others = [other for other in play.handles if (all_owners or other.owner == handle.owner) and other is not handle]
    claimed = [other for other in others if not other.model.id and not numbers.chance(8)] or others
    then = _crossed(play, numbers, numbers.recent(claimed)) if claimed and not numbers.chance(3) else None
    fresh = play.new_id("run")

    def ask(side: Side) -> object:
        after = (then.of(side, play), fresh) if then else None
        return side.runs.conclude(handle.of(side, play), outcome, then=after, lease_ms=LEASE_MS)

    answers = play.both(f"conclude {_named(handle)} {outcome}{f' then {_named(then)}' if then else ''}", ask)
    started = [getattr(answer, "started", None) for answer in answers]
    if started and isinstance(started[0], Run) and isinstance(started[1], Run):
        play.handles.append(Handle(started[0], started[1], handle.owner))


def _outcome(numbers: Numbers) -> Outcome:
    failed = Failed("went wrong", delay_ms=numbers.pick((0, 1_000, 100_000)), final=numbers.chance(4))
    last = Finished("1", LastStep(numbers.pick(NAMES), numbers.pick(("1", "2"))))
    ways: tuple[Outcome, ...] = (Finished("1"), Finished("2"), last, failed, failed, Lost("no reply"), HandedBack())
    return numbers.pick(ways)


def _handle(play: Play, numbers: Numbers) -> Handle:
    """A run that was given out, mostly one that goes on; now and then one with the fence of another."""
    going = [handle for handle in play.handles if play.ledger.holds(handle.model)]
    return _crossed(play, numbers, numbers.recent(play.handles if numbers.chance(3) or not going else going))


def _crossed(play: Play, numbers: Numbers, handle: Handle) -> Handle:
    if numbers.chance(12):
        other = numbers.pick(play.handles)
        return Handle(
            msgspec.structs.replace(handle.model, fence=other.model.fence),
            msgspec.structs.replace(handle.engine, fence=other.engine.fence),
            handle.owner,
        )
    return handle


def _named(handle: Handle) -> str:
    return f"{handle.model.task.id} under fence {handle.model.fence}"


def hand_back(play: Play, numbers: Numbers) -> None:
    if play.handles:
        some = [_handle(play, numbers) for _ in range(numbers.pick((1, 2)))]
        said = f"hand back {[_named(handle) for handle in some]}"
        play.both(said, lambda side: side.runs.hand_back_claimed([handle.of(side, play) for handle in some]))


def beat(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    known = [handle for handle in play.handles if handle.owner == owner or numbers.chance(8)]
    if numbers.chance(2):
        known = [handle for handle in known if handle.model.id]

    def ask(side: Side) -> set[int]:
        return side.runs.beat(owner, [handle.of(side, play).fence for handle in known], lease_ms=LEASE_MS)

    def shown(fences: set[int], side: Side) -> object:
        return [_named(handle) for handle in known if handle.of(side, play).fence in fences]

    play.both(f"beat {owner} {[_named(handle) for handle in known]}", ask, shown)


def long_run(play: Play, numbers: Numbers) -> None:
    """Runs that go on are beaten past the end of every other lease; then one of them ends."""
    going = [handle for handle in play.handles if play.ledger.holds(handle.model)]
    for owner in sorted({handle.owner for handle in going}):

        def ask(side: Side, owner: str = owner) -> int:
            fences = [handle.of(side, play).fence for handle in going if handle.owner == owner]
            return len(side.runs.beat(owner, fences, lease_ms=LEASE_MS + 40_000))

        play.both(f"beat what {owner} runs", ask)
    _pass(play, 70_000)
    conclude(play, numbers)


def check(play: Play, numbers: Numbers) -> None:
    if play.handles:
        handle = _handle(play, numbers)
        play.both(f"check {_named(handle)}", lambda side: side.runs.check(handle.of(side, play)))


def sweep(play: Play, numbers: Numbers) -> None:
    play.both("sweep", lambda side: side.runs.sweep())


def bury(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"bury {owner}", lambda side: side.runs.bury(owner))


def step(play: Play, numbers: Numbers) -> None:
    if not play.handles:
        return
    handle, name, verb = (
        _handle(play, numbers),
        numbers.pick(NAMES),
        numbers.pick(("begin", "store", "store", "find", "forget")),
    )
    result, sort = numbers.pick(("1", "2")), numbers.pick(("step", "once"))

    def ask(side: Side) -> object:
        run = handle.of(side, play)
        match verb:
            case "begin":
                return side.steps.begin(run, name)
            case "store":
                return side.steps.store(run, name, result, sort=sort)
            case "find":
                return side.steps.find(run, name)
            case _:
                return side.steps.forget(run, name)

    play.both(f"{verb} the step {name} ({result}, {sort}) of {_named(handle)}", ask)


def cancel(play: Play, numbers: Numbers) -> None:
    task = _task(play, numbers)
    play.both(f"cancel {task}", lambda side: side.tasks.cancel(task))


def retry(play: Play, numbers: Numbers) -> None:
    task = _one_that(play, numbers, ("failed", "cancelled", "unknown"))
    play.both(f"retry {task}", lambda side: side.tasks.retry(task))


def resolve(play: Play, numbers: Numbers) -> None:
    task = _one_that(play, numbers, ("unknown",))
    state, result = numbers.pick(ENDS), numbers.pick((None, "7"))
    play.both(f"resolve {task} as {state} {result}", lambda side: side.tasks.resolve(task, state, result=result))


def _task(play: Play, numbers: Numbers) -> str:
    return "task_missing" if not play.submitted or numbers.chance(30) else numbers.recent(play.submitted)


def _one_that(play: Play, numbers: Numbers, states: tuple[State, ...]) -> str:
    """Mostly a task in one of these states."""
    fitting = [task.id for task in play.ledger.tasks.values() if task.state in states]
    return numbers.pick(fitting) if fitting and not numbers.chance(5) else _task(play, numbers)


def enrol(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    pid, boot_id = numbers.pick((7, 8)), play.clock.boot_id()

    def ask(side: Side) -> None:
        side.workers.enrol(owner, agent="main", pid=pid, start_ticks=5, boot_id=boot_id)

    play.both(f"enrol {owner} as {pid}", ask)
    play.both("workers", lambda side: side.workers.all())


def dismiss(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"dismiss {owner}", lambda side: side.workers.dismiss(owner))


def learn_kinds(play: Play, numbers: Numbers) -> None:
    manner = Manner(retries=numbers.pick((0, 2)), required=numbers.pick(((), ("name",))))
    learned = [Kind(numbers.pick(KINDS), numbers.pick(("one", "two")), manner)]
    play.both(f"learn {learned}", lambda side: side.workers.learn_kinds(learned))
    play.both("kinds", lambda side: side.workers.kinds())


def again(play: Play, numbers: Numbers) -> None:
    """The reply of the call before was lost: it is made again."""
    if play.last is not None:
        play.last()


def wait(play: Play, numbers: Numbers) -> None:
    _pass(play, numbers.pick(PAUSES_MS))


def _pass(play: Play, pause_ms: int) -> None:
    play.clock.steady += pause_ms
    play.clock.wall += pause_ms
    play.said.append(f"{pause_ms} ms pass")


def jump(play: Play, numbers: Numbers) -> None:
    """Somebody sets the calendar; nothing may follow from it."""
    play.clock.wall += numbers.pick((86_400_000, -86_400_000, 3_600_000))
    play.said.append("the calendar jumps")


ACTS: dict[Act, int] = {
    submit: 12,
    submit_dependants: 5,
    submit_batch: 2,
    claim: 16,
    conclude: 16,
    hand_back: 3,
    beat: 5,
    long_run: 4,
    check: 2,
    sweep: 3,
    bury: 3,
    step: 10,
    cancel: 3,
    retry: 6,
    resolve: 3,
    enrol: 1,
    dismiss: 1,
    learn_kinds: 1,
    again: 10,
    wait: 8,
    jump: 1,
}
