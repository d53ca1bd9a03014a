"""What a program may do to batches that set something aside: submit them, make their calls, end them."""

from longwatch.admission.calls import CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.policy.aside import Want
from longwatch.store.moves import NewTask, Task
from longwatch.store.tasks import Submitted
from longwatch.testing.acts import Act
from longwatch.testing.play import OWNERS, Numbers, Play, Side, differ

DIMENSIONS = ("money", "calls", "tokens")
TASKS = 2  # of each batch


def submit(play: Play, numbers: Numbers) -> None:
    """A batch, now and then one that was submitted before."""
    known = list(play.wants)
    batch = numbers.recent(known) if known and numbers.chance(6) else play.new_id("batch")
    wants = play.wants.setdefault(batch, _wants(numbers))
    later = numbers.chance(3)
    said = f"submit {batch}, which sets aside {[tuple(want) for want in wants]}{', later if need be' if later else ''}"
    play.both(said, lambda side: _submit(side, batch, wants, later=later))


def _wants(numbers: Numbers) -> list[Want]:
    budget, agent = numbers.pick((None, "red", "red", "blue")), numbers.pick(("main", "main", "seo"))
    money, calls, tokens = (
        numbers.pick((0, 200, 500, 900, 3_000)),
        numbers.pick((1, 2, 5, 40)),
        numbers.pick((0, 0, 300)),
    )
    wants = [Want("apy" if numbers.chance(16) else "api", None, budget, agent, money, calls, tokens)]
    return wants + ([Want("free", None, budget, agent, 100, 1, 0)] if numbers.chance(4) else [])


def _submit(side: Side, batch: str, wants: list[Want], *, later: bool) -> Submitted:
    items = [
        NewTask(f"{batch}-{place}", "none", "{}", wants[0].agent, budget=wants[0].budget) for place in range(TASKS)
    ]
    return side.tasks.submit(items, batch=(batch, batch, ""), earmark=side.limiter.asides.earmark(wants, later=later))


def call(play: Play, numbers: Numbers) -> None:
    """Calls of a batch, mostly on the account on which something is set aside."""
    if not play.wants:
        return
    batch = numbers.recent(list(play.wants))
    want = numbers.pick(play.wants[batch])
    for _ in range(numbers.pick((1, 1, 2, 4))):
        id, budget = play.new_id("call"), numbers.pick((want.budget, want.budget, want.budget, "red", "blue"))
        request = CallRequest(
            id=id,
            key=numbers.pick((id, id, f"key-of-{batch}")),
            service=want.service,
            agent=numbers.pick((want.agent, want.agent, want.agent, "main")),
            owner=numbers.pick(OWNERS),
            budget=budget,
            weights={"requests": numbers.pick((1, 1, 2))},
            money=numbers.pick((0, 100, 250, 350)),
            tokens=numbers.pick((0, 200)),
            turn=True,
            batch=batch,
        )
        play.requests[id] = request
        said = f"admit {id} of {batch} to {request.service} for {budget}, {request.money} money, key {request.key}"
        _admit(play, said, request)


def _admit(play: Play, said: str, request: CallRequest) -> None:
    play.both(said, lambda side: side.limiter.admit(request))


def end(play: Play, numbers: Numbers) -> None:
    """One of a batch's tasks, or all."""
    if not play.wants:
        return
    batch = numbers.recent(list(play.wants))
    places = numbers.pick(((0, 1), (0, 1), (0,), (1,)))
    play.both(f"tasks {places} of {batch} are cancelled", lambda side: _cancel(side, batch, places))


def _cancel(side: Side, batch: str, places: tuple[int, ...]) -> list[Task]:
    return [side.tasks.cancel(f"{batch}-{place}") for place in places]


def give_back(play: Play, numbers: Numbers) -> None:
    """It may have been done already, by whoever was refused."""
    play.both("what ended batches did not use is given back", _give_back)
    look(play)


def _give_back(side: Side) -> None:
    side.limiter.asides.give_back()


def look(play: Play) -> None:
    """What is left of everything that is set aside. Errors: Disagreement."""
    assert isinstance(play.engine.limiter, Limiter)
    model = play.model_limiter.asides
    left = {name: tuple(model.left(name, dimension) for dimension in DIMENSIONS) for name in model.open}
    engine = {
        row.id: tuple(row.left(dimension) for dimension in DIMENSIONS) for row in play.engine.limiter.asides.all()
    }
    differ("what is set aside", left, engine)


ACTS: dict[Act, int] = {submit: 5, call: 10, end: 2, give_back: 3}
