"""Calls that nothing but rates limits: kept, told and written down in few words, and as every other call is."""

from typing import Any

import msgspec
import pytest
from test_redis_limiter import Opened, opened

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.keys import APART
from longwatch.admission.redis import RedisLimiter
from longwatch.admission.redis.book import row_of, told_admitted
from longwatch.admission.redis.usual import State, Usual, kind_of
from longwatch.errors import LongwatchError
from longwatch.testing.redis import Server

QUOTED = 'a "quoted" 100%s {name}, ÄÖ\\'
CALLS = (
    CallRequest("call_1", "call_1", "brisk", "seo", "ann"),
    CallRequest("call_2", "a key", "brisk", "seo", "ann", model="m", budget="main", task="t", run="r", step="s"),
    CallRequest(QUOTED, QUOTED, QUOTED, QUOTED, QUOTED, model=QUOTED, budget=QUOTED, task=QUOTED, lane="batch"),
    CallRequest(
        "call_4", "call_4", "brisk", "seo", "ann", weights={"requests": 2, "input_tokens": 70}, money=9, tokens=8
    ),
)


@pytest.fixture
def shop(tmp_path: Any) -> Any:
    server = Server.start()
    found = opened(server, tmp_path)
    yield found
    found.database.close()
    server.stop()


@pytest.mark.parametrize("asked", CALLS, ids=lambda asked: asked.id)
@pytest.mark.parametrize("slot_us", [1_700_000_000_000_123, 1_700_000_007_000_000])
def test_its_row_and_its_entry_are_those_of_the_call_that_it_is(asked: CallRequest, slot_us: int) -> None:
    meters = tuple((f"{asked.service}/{dimension}", weight) for dimension, weight in asked.weights.items())
    kind = kind_of(State(1, "generation", 0, 60_000, 0), (asked.service,), asked, meters=meters, kept=b"", rest=b"")
    usual = Usual(asked.id, asked.key, kind, slot_us, 1_700_000_000_000, tuple(range(7, 7 + len(meters))))
    call = usual.known()
    assert (call.who.key, call.who.task, call.owner) == (asked.key, asked.task, asked.owner)
    assert usual.row() == row_of(call, "open", call.hold, None, sharing=APART, version=1)
    entry, (told,) = usual.entry(), told_admitted(call)
    assert isinstance(entry.data, str)
    assert (*entry[:4], list(msgspec.json.decode(entry.data).items())) == (*told[:4], list(told.data.items()))  # type: ignore[union-attr]


@pytest.mark.parametrize("asked", [CALLS[0], CALLS[1], CALLS[3]], ids=lambda asked: asked.id)
def test_redis_keeps_it_as_it_keeps_a_call_that_was_decided_in_full(shop: Opened, asked: CallRequest) -> None:
    limiter, seen = shop.limiter(), answers(first := shop.limiter())
    first.admit(warm("ann"))
    before = len(seen)
    assert isinstance(first.admit(asked), Admitted)
    assert len(seen) == before + 1
    assert len(seen[-1]) == 2 + 1  # the one rate that there is

    usual = kept(limiter, asked.id)
    limiter.link.numbers = lambda said, *, aside: None  # type: ignore[method-assign]
    again = msgspec.structs.replace(asked, id="again", key="again" if asked.key == asked.id else asked.key)
    assert isinstance(limiter.admit(again), Admitted)
    full = kept(limiter, "again")
    assert (usual.pop("row"), full.pop("row")) == (full_row(asked), full_row(again))
    found, wanted = ({name: said for name, said in call.items() if name not in OWN} for call in (usual, full))
    assert found == {name: said for name, said in wanted.items() if said is not None}
    assert {name: type(usual[name] - full[name]) for name in ("sl", "at", "un", "sq")}.keys() <= usual.keys()
    ((units, total),), ((same, later),) = usual["w"].values(), full["w"].values()
    assert (units, total + units) == (same, later)


def test_a_state_that_has_changed_is_not_decided_by(shop: Opened) -> None:
    one, other = shop.limiter(), shop.limiter()
    seen = answers(other)
    assert isinstance(other.admit(warm("ann")), Admitted)
    assert isinstance(other.admit(CALLS[0]), Admitted)
    assert len(seen[-1]) > 1
    one.rules = 7
    one.announce()
    with pytest.raises(LongwatchError):
        other.admit(msgspec.structs.replace(CALLS[0], id="call_9", key="call_9"))
    assert seen[-1] == [1]
    assert kept(one, "call_9") == {}


OWN = ("sl", "at", "un", "sq", "w")  # of each call its own


def warm(owner: str) -> CallRequest:
    """The engine is filled by whoever asks first."""
    return CallRequest("warm", "warm", "brisk", "seo", owner)


def answers(limiter: RedisLimiter) -> list[Any]:
    """What is answered in few words."""
    ask, seen = limiter.link.numbers, list[Any]()

    def asked(said: bytes, *, aside: bool) -> Any:
        seen.append(ask(said, aside=aside))
        return seen[-1]

    limiter.link.numbers = asked  # type: ignore[method-assign]
    return seen


def kept(limiter: RedisLimiter, call: str) -> dict[str, Any]:
    _, said, _ = limiter._run("list", {"owner": "ann", "ended": True})  # pyright: ignore[reportPrivateUsage]
    calls: dict[str, dict[str, Any]] = {each["id"]: each["c"] for each in said["calls"] or ()}
    return calls.get(call, {})


def full_row(asked: CallRequest) -> str:
    who = asked.key, asked.service, asked.model, asked.agent, asked.budget, asked.task, asked.run, asked.step
    return msgspec.json.encode([*who, asked.lane, False, None, False]).decode()
