"""What a program may do to tasks with caps of their own: submit them, make their calls, move the caps, end them."""

from longwatch.admission.calls import CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.store.moves import NewTask
from longwatch.testing.acts import Act
from longwatch.testing.play import OWNERS, Numbers, Play, Side, differ

DIMENSIONS = ("money", "calls", "tokens")


def submit(play: Play, numbers: Numbers) -> None:
    """A task with caps on money, calls, tokens, or several of them."""
    task, caps = play.new_id("capped"), _caps(numbers)
    play.capped.append(task)
    play.model_limiter.task_caps.kept[task] = dict(caps)
    item = NewTask(task, "none", "{}", "main", budget="red", caps=caps)
    play.both(f"submit {task} with caps {caps}", lambda side: side.tasks.submit([item]))


def _caps(numbers: Numbers) -> tuple[tuple[str, int], ...]:
    amounts = {
        "money": numbers.pick((400, 900, 5_000, None)),
        "calls": numbers.pick((None, None, 3, 40)),
        "tokens": numbers.pick((None, None, 500)),
    }
    caps = tuple((dimension, amount) for dimension, amount in amounts.items() if amount is not None)
    return caps or (("money", 700),)


def call(play: Play, numbers: Numbers) -> None:
    """Calls of one of them, now and then of a batch that has something set aside, or with a key of another call."""
    if not play.capped:
        return
    task = numbers.recent(play.capped)
    for _ in range(numbers.pick((1, 2, 3))):
        id = play.new_id("call")
        batch = numbers.recent(list(play.wants)) if play.wants and numbers.chance(3) else None
        request = CallRequest(
            id=id,
            key=numbers.pick((id, id, f"key-of-{task}", "key-1")),
            service=numbers.pick(("free", "free", "api")),
            agent=numbers.pick(("main", "main", "seo")),
            owner=numbers.pick(OWNERS),
            budget=numbers.pick((None, "red", "red", "blue")),
            task=task,
            weights={"requests": numbers.pick((1, 1, 2))},
            money=numbers.pick((0, 100, 250, 350)),
            tokens=numbers.pick((0, 200)),
            once=numbers.chance(8),
            turn=True,
            batch=batch,
            capped=True,
        )
        play.requests[id] = request
        _admit(play, f"admit {id} of {task} to {request.service}, {request.money} money, key {request.key}", request)


def _admit(play: Play, said: str, request: CallRequest) -> None:
    play.both(said, lambda side: side.limiter.admit(request))


def settle(play: Play, numbers: Numbers) -> None:
    """One of their calls ends, for more or less than it holds."""
    calls = [id for id, request in play.requests.items() if request.capped]
    if not calls:
        return
    id, money = numbers.recent(calls), numbers.pick((None, 0, 50, 300, 900))
    owner = play.requests[id].owner
    play.both(f"settle {id}: {money} money", lambda side: side.limiter.settle(id, owner=owner, money=money))


def move(play: Play, numbers: Numbers) -> None:
    """A person moves caps, up or down; now and then one that the task does not have, which moves none."""
    if not play.capped:
        return
    task, names, amount = (
        numbers.recent(play.capped),
        numbers.pick((("money",), ("money", "calls"), ("calls",), ("tokens",))),
        numbers.pick((0, 300, 1_000, 9_000)),
    )
    amounts = dict.fromkeys(names, amount)
    said = f"move the caps of {task}: {amounts}"
    play.both(said, lambda side: side.limiter.task_caps.move(task, amounts, by="a person"))


def end(play: Play, numbers: Numbers) -> None:
    """One of them is cancelled, or run again; and windows of those that have ended are closed."""
    if not play.capped:
        return
    task, again = numbers.recent(play.capped), numbers.chance(3)
    play.both(f"{'retry' if again else 'cancel'} {task}", lambda side: _end(side, task, again=again))


def _end(side: Side, task: str, *, again: bool) -> object:
    ended = side.tasks.retry(task) if again else side.tasks.cancel(task)
    side.limiter.task_caps.close_over()
    return ended


def look(play: Play, numbers: Numbers) -> None:
    """Every cap, with what is spent and held of it; and which windows are open. Errors: Disagreement."""
    for task in play.capped:
        play.both(f"the caps of {task}", lambda side, task=task: list(side.limiter.task_caps.all(task)))  # type: ignore[misc]
    limiter = play.engine.limiter
    assert isinstance(limiter, Limiter)
    limiter.task_caps.close_over()
    with play.database.read() as tx:
        here = {str(row.purse).removeprefix("task:") for row in tx.all("spend.every", minute_ms=0)}
    ended = {task.id: "open" for task in play.ledger.tasks.values() if task.ended_ms is not None and task.id in here}
    differ("open windows of tasks that have ended", {}, ended)


ACTS: dict[Act, int] = {submit: 3, call: 10, settle: 4, move: 3, end: 2, look: 3}
