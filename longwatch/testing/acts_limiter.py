"""What a program may do to calls: under rates, concurrency, a quota, budgets, and limits that change meanwhile."""

import msgspec

from longwatch.admission.calls import HOLD_MS, CallRequest, Word
from longwatch.policy.limits import Budget, Cap, Limits, Override, Rate, Service
from longwatch.testing.acts import Act
from longwatch.testing.play import OWNERS, START_MS, Numbers, Play, differ

HOUR_MS = 3_600_000
API = Service(
    "api",
    rates={"requests": Rate(5, 1_000, 5), "input_tokens": Rate(6_000, 60_000, 500)},
    concurrency=4,
    quota=Cap(12, "day"),
    models={"big-*": {"requests": Rate(1, 1_000, 3)}},
    key_memory_ms=24 * HOUR_MS,
)
RED = Budget(
    "red", caps={"money": (Cap(600, "hour"), Cap(2_500, "total")), "calls": (Cap(8, "hour"),)}, warn=(0.5, 1.0)
)
BLUE = Budget("blue", caps={"tokens": (Cap(450, "day"),)})
NARROW = Limits(
    timezone="Europe/London",
    fleet_money=(Cap(6_000, "month"),),
    services={"api": API, "free": Service("free", key_memory_ms=2 * HOUR_MS)},
    budgets={"red": RED, "blue": BLUE},
    agents={"seo": Budget("seo", caps={"money": (Cap(1_500, "week"),)})},
    overrides=(
        Override("red", Cap(900, "day"), START_MS + 60 * HOUR_MS),  # a window that the config has no cap for
        Override("red", Cap(1_400, "hour"), START_MS + 26 * HOUR_MS),
        Override("red", Cap(9_000, "total")),
    ),
)
WIDE = Limits(
    timezone="Europe/London",
    services={"api": Service("api", rates={"requests": Rate(50, 1_000, 50)}), "free": Service("free")},
    budgets={"red": Budget("red", caps={"money": (Cap(4_000, "hour"),)}, warn=(0.5,))},
)


def admit(play: Play, numbers: Numbers) -> None:
    known = play.requests and numbers.chance(6)
    request = numbers.recent(list(play.requests.values())) if known else _request(play, numbers)
    play.requests[request.id] = request
    said = (
        f"admit {request.id} to {request.service} {dict(request.weights)} for {request.budget}, {request.money} money"
    )
    play.both(f"{said}, {request.tokens} tokens, key {request.key}", lambda side: side.limiter.admit(request))


def _request(play: Play, numbers: Numbers) -> CallRequest:
    id, day = play.new_id("call"), play.now_ms() // (24 * HOUR_MS)
    weights = {"requests": numbers.pick((1, 1, 1, 2, 6))}
    if numbers.chance(3):
        weights["input_tokens"] = numbers.pick((10, 300, 600, 7_000))
    if numbers.chance(40):
        weights["input_token"] = 1
    return CallRequest(
        id=id,
        key=numbers.pick((id, "key-1", f"key-of-{day}", f"key-of-{day}")),
        service=numbers.pick(("api", "api", "api", "api", "free", "apy")),
        agent=numbers.pick(("main", "main", "main", "seo")),
        owner=numbers.pick(OWNERS),
        model=numbers.pick((None, None, "big-1")),
        instead_of=numbers.pick((None, None, None, "bigger-1")),
        budget=numbers.pick((None, "red", "red", "red", "blue")),
        task=numbers.pick((None, "task_1")),
        weights=weights,
        money=numbers.pick((0, 100, 250, 350, 350, 1_100)),
        tokens=numbers.pick((0, 200, 200)),
        until_ms=numbers.pick((None, None, play.now_ms(), play.now_ms() + 500)),
        once=numbers.chance(8),
        past=numbers.pick((None, None, None, "api")),
        turn=numbers.chance(3),
    )


def repeat(play: Play, numbers: Numbers) -> None:
    """A call that was made before is made again, by another process, with the key that it had then."""
    keyed = [request for request in play.requests.values() if request.key != request.id]
    if not keyed:
        return
    first, free = numbers.recent(keyed), {"requests": 1}
    request = msgspec.structs.replace(
        first, id=play.new_id("call"), owner=numbers.pick(OWNERS), weights=free, until_ms=None
    )
    play.requests[request.id] = request
    play.both(f"repeat {first.id} as {request.id} of {request.owner}", lambda side: side.limiter.admit(request))
    end = numbers.pick(("settle", "correct", "unknown", "the first", "open"))
    if end in ("settle", "correct"):
        _settle(play, request, numbers.pick((None, 50, 300)))
    if end == "correct":
        _settle(play, request, 0)
    if end == "the first":
        _settle(play, first, numbers.pick((None, 50)))
    if end == "unknown":
        play.both(f"nobody knows of {request.id}", lambda side: side.limiter.unknown(request.id, owner=request.owner))


def _settle(play: Play, request: CallRequest, money: int | None) -> None:
    play.both(
        f"settle {request.id}: {money} money",
        lambda side: side.limiter.settle(request.id, owner=request.owner, money=money),
    )


def settle(play: Play, numbers: Numbers) -> None:
    call, owner = _call(play, numbers)
    money, tokens = numbers.pick((None, 0, 50, 300, 900, -1)), numbers.pick((None, None, 150))
    used = numbers.pick((None, None, {"requests": 1}, {"input_tokens": 5}, {"requests": 0, "input_tokens": 900}))
    play.both(
        f"settle {call} of {owner}: {money} money, {tokens} tokens, {used}",
        lambda side: side.limiter.settle(call, owner=owner, money=money, tokens=tokens, used=used),
    )


def release(play: Play, numbers: Numbers) -> None:
    call, owner = _call(play, numbers)
    play.both(f"release {call} of {owner}", lambda side: side.limiter.release(call, owner=owner))


def lose(play: Play, numbers: Numbers) -> None:
    call, owner = _call(play, numbers)
    play.both(f"nobody knows of {call} of {owner}", lambda side: side.limiter.unknown(call, owner=owner))


def reconcile(play: Play, numbers: Numbers) -> None:
    """A person says what a call cost, mostly of one that nobody knows about, and now and then says it twice."""
    unknown = [call for call, kept in play.model_limiter.calls.items() if kept.state == "unknown"]
    call = numbers.recent(unknown) if unknown and not numbers.chance(4) else _call(play, numbers)[0]
    money = numbers.pick((None, 0, 50, 300, 1_000, 1_000, -1))
    word = Word(money, "ada", "bill.csv:2", correct=numbers.chance(3))
    for _ in range(numbers.pick((1, 1, 2))):
        play.both(f"{call} is reconciled: {word}", lambda side: side.limiter.reconcile(call, word))


def reslot(play: Play, numbers: Numbers) -> None:
    call, owner = _call(play, numbers)
    play.both(f"another slot for {call} of {owner}", lambda side: side.limiter.reslot(call, owner=owner))


def _call(play: Play, numbers: Numbers) -> tuple[str, str]:
    """Mostly a call that was asked for, and its owner."""
    if not play.requests or numbers.chance(30):
        return "call_missing", numbers.pick(OWNERS)
    request = numbers.recent(list(play.requests.values()))
    return request.id, numbers.pick(OWNERS) if numbers.chance(12) else request.owner


def beat(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"beat the calls of {owner}", lambda side: side.limiter.beat(owner))


def expire(play: Play, numbers: Numbers) -> None:
    limit = numbers.pick((500, 1))
    play.both(f"expire {limit} calls", lambda side: side.limiter.expire(limit=limit))


def bury(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"bury {owner} as a caller", lambda side: side.limiter.bury(owner))


def adopt(play: Play, numbers: Numbers) -> None:
    """The other limits, now and then as of a change that is not the last one."""
    limits, name = (WIDE, "wide") if play.model_limiter.limits is NARROW else (NARROW, "narrow")
    rules = int(numbers.chance(6))
    play.both(f"adopt the {name} limits{', outdated' if rules else ''}", lambda side: side.limiter.adopt(limits, rules))


def look(play: Play, numbers: Numbers) -> None:
    """Every call, every meter, and what every window has spent. Errors: Disagreement."""
    for call in play.requests:
        play.both(f"find {call}", lambda side, call=call: side.limiter.find(call))  # type: ignore[misc]
    service = numbers.pick((None, "api"))
    play.both(f"open calls of {service}", lambda side: side.limiter.open_calls(service=service))
    play.both("calls of task_1", lambda side: list(side.limiter.of_task("task_1")))
    with play.database.read() as tx:
        meters = {row.name: (row.free_us, row.last_us, row.total) for row in tx.all("meter.every")}
        windows = tx.all("spend.every", minute_ms=0)
    model = play.model_limiter
    differ("the meters", {name: tuple(found) for name, found in model.meters.items()}, meters)
    places = {(row.purse, row.dimension, row.per): row for row in windows}
    engine = {place: row.settled for place, row in places.items()}
    spent = {place: model.spent(row.purse, row.dimension, row.starts_ms, row.ends_ms) for place, row in places.items()}
    differ("what is spent", spent, engine)


def moment(play: Play, numbers: Numbers) -> None:
    """From less than a slot to more than a hold, a day and a month."""
    pauses_ms = (
        1,
        100,
        400,
        400,
        1_000,
        2_000,
        60_000,
        HOLD_MS - 1,
        HOLD_MS,
        HOUR_MS,
        25 * HOUR_MS,
        25 * HOUR_MS,
        31 * 24 * HOUR_MS,
    )
    pause_ms = numbers.pick(pauses_ms)
    play.clock.steady += pause_ms
    play.clock.wall += pause_ms
    play.said.append(f"{pause_ms} ms pass")


ACTS: dict[Act, int] = {
    admit: 24,
    repeat: 8,
    settle: 8,
    release: 4,
    lose: 2,
    reconcile: 4,
    reslot: 1,
    beat: 2,
    expire: 2,
    bury: 2,
    adopt: 5,
    look: 3,
    moment: 10,
}
