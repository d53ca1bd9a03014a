"""What goes to the script and what comes back, in its own shapes: names are short, because they travel with every call."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from longwatch.admission.asides import Aside
from longwatch.admission.calls import HOLD_MS, CallRequest, Weights, Word, weights_of
from longwatch.admission.in_force import InForce
from longwatch.admission.keys import Charge
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Row
from longwatch.policy import meter
from longwatch.policy.admission import HORIZON_US, HORIZONS_US, SOONEST_US, Later, Shut, Spent
from longwatch.policy.breaker import is_shut
from longwatch.policy.budget import Standing
from longwatch.policy.limits import Rate
from longwatch.policy.meter import Meter
from longwatch.policy.scope import Gauge, PurseCap, purses_of
from longwatch.policy.window import Window, window_of

DIMENSIONS = ("money", "calls", "tokens")  # places of a charge
Said = dict[str, Any]

encoder = msgspec.json.Encoder()


class Who(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a call is of: Redis carries it for whoever has to write the call down, and does not look at it."""

    key: str
    service: str
    model: str | None
    agent: str
    budget: str | None
    task: str | None
    run: str | None
    step: str | None
    lane: str
    keyed: bool  # its service remembers its key, as the limits were when it was admitted
    instead_of: str | None = None  # the model that was asked for
    capped: bool = False  # its task has caps of its own

    @property
    def own_task(self) -> str | None:
        return self.task if self.capped else None


_who = msgspec.json.Decoder(Who)


def who_of(asked: CallRequest, *, keyed: bool) -> Who:
    return Who(
        asked.key,
        asked.service,
        asked.model,
        asked.agent,
        asked.budget,
        asked.task,
        asked.run,
        asked.step,
        asked.lane,
        keyed,
        asked.instead_of,
        asked.capped,
    )


def pack(who: Who) -> str:
    return encoder.encode(who).decode()


class Heard(NamedTuple):
    """What a person has said of a call; what it was charged before, and how it stood."""

    word: Word
    before: int
    state: str


class Move(NamedTuple):
    """For the journal: what happened to the call, how it then stood, and what it cost. heard: by a person's word."""

    name: str
    state: str
    money: int
    heard: Heard | None = None


class Known(msgspec.Struct, frozen=True, gc=False):
    """A call as the engine has it. Instants are the fleet's: slot in microseconds, the others in milliseconds.

    told: what it costs by itself. aside: what it draws on. generation: of the engine's memory, if this process was told of
    the admission.
    moves: those that the ledger has not been told of.
    """

    id: str
    who: Who
    owner: str
    state: str
    version: int
    slot_us: int
    admitted_ms: int
    calendar_ms: int
    until_ms: int
    ended_ms: int | None
    hold: Charge
    told: Charge
    weights: Weights
    moves: tuple[Move, ...] = ()
    generation: str = ""
    aside: str | None = None

    def who_row(self) -> Who:
        """What of a row tells the scope of a call."""
        return self.who

    def after(self, before: "Known | None") -> "Known":
        """With the moves that the ledger has not been told of yet."""
        if before is None:
            return self
        return replace(self, moves=before.moves + self.moves, generation=before.generation)


def known(id: str, said: Said, shift_us: int, *moves: Move) -> Known:
    """A call as the script gives it. shift_us: what its clock needs added to read as the fleet's."""
    shift_ms = shift_us // 1000
    ended_ms = said.get("en")
    return Known(
        id=id,
        who=_who.decode(said["row"]),
        owner=text(said["o"]),
        state=text(said["s"]),
        version=said["v"],
        slot_us=said["sl"] + shift_us,
        admitted_ms=said["at"] + shift_ms,
        calendar_ms=said["cal"],
        until_ms=said["un"] + shift_ms,
        ended_ms=None if ended_ms is None else ended_ms + shift_ms,
        hold=Charge(*said["h"]),
        told=Charge(*said["ch"]),
        weights=weights(said["w"]),
        moves=moves,
        aside=name(said.get("as")),
    )


CANONICAL = {"settled": "settle", "released": "release", "unknown": "lose"}


def listed(said: Said, shift_us: int) -> Known:
    """A call of a listing. Of one that has ended nobody has told the ledger how: in the end, as it stands."""
    call = known(text(said["id"]), said["c"], shift_us)
    if call.state == "open":
        return call
    return replace(call, moves=(Move(CANONICAL[call.state], call.state, call.told.money),))


def later(said: Said, shift_us: int) -> Later | Shut:
    """A wait, or a gate that only a person opens."""
    at_us, what = said.get("at"), text(said["what"])
    if at_us is not None and is_shut(at_us):
        return Shut(what)
    reason: Literal["rate", "concurrency", "budget"] = said["reason"]
    return Later(None if at_us is None else at_us + shift_us, reason, what)


def weights(said: Any) -> Weights:
    """An empty table is an empty list in Lua."""
    return {text(name): (units, total) for name, (units, total) in said.items()} if said else {}


def name(said: str | bytes | None) -> str | None:
    return None if said is None else text(said)


def account(budget: str | None, agent: str) -> str:
    """Whose money it is, to be compared."""
    return encoder.encode((budget, agent)).decode()


def text(said: str | bytes) -> str:
    return said if isinstance(said, str) else said.decode()


def said_of(row: Row, shift_us: int) -> Said:
    """A call of the ledger, as the script has it. shift_us: what its clock needs added to read as the fleet's."""
    shift_ms = shift_us // 1000
    who = Who(
        row.key, row.service, row.model, row.agent, row.budget, row.task, row.run, row.step, row.lane, row.sharing > 0
    )
    return {
        "s": row.state,
        "o": row.owner,
        "v": row.version,
        "sl": row.slot_us - shift_us,
        "at": row.admitted_ms - shift_ms,
        "cal": row.calendar_ms,
        "un": row.until_ms - shift_ms,
        "en": None if row.ended_ms is None else row.ended_ms - shift_ms,
        "sq": 0,
        "h": [row.held_money, row.held_calls, row.held_tokens],
        "ch": [row.money, row.calls, row.tokens],
        "w": weights_of(row),
        "ps": purses_of(service=row.service, budget=row.budget, agent=row.agent, task=row.task),
        "row": pack(who),
        "as": row.aside,
    }


def said_aside(kept: Aside) -> Said:
    """Something set aside, as the script has it."""
    return {
        "id": kept.id,
        "ps": purses_of(service=kept.service, budget=kept.budget, agent=kept.agent),
        "cal": kept.calendar_ms,
        "a": (kept.money, kept.calls, kept.tokens),
        "u": (kept.used_money, kept.used_calls, kept.used_tokens),
        "o": account(kept.budget, kept.agent),
    }


def asked_of(force: InForce, prepared: Prepared, request: CallRequest, *, dry: bool) -> Said:
    """The question, but for the caps."""
    scope = prepared.scope
    return {
        "id": request.id,
        "owner": request.owner,
        "rules": force.rules,
        "turns": force.turns_ms,
        "until_us": None if request.until_ms is None else request.until_ms * 1000,
        "most": scope.service.concurrency,
        "gauges": [gauge(each, w=request.weights.get(each.dimension, 0)) for each in scope.gauges],
        "ps": scope.purses,
        "h": (request.money, request.calls, request.tokens),
        "row": pack(who_of(request, keyed=is_keyed(prepared, request))),
        "hold": HOLD_MS,
        "as": request.aside,
        "acc": account(request.budget, request.agent),
        "horizon": HORIZON_US,
        "near": HORIZONS_US[request.lane],
        "soonest": SOONEST_US,
        "dry": dry,
    }


def admitted_of(prepared: Prepared, request: CallRequest, said: Said, shift_us: int, *, generation: str) -> Known:
    """A call that the script has admitted, now or before."""
    hold, shift_ms = Charge(*said["h"]), shift_us // 1000
    return Known(
        id=request.id,
        who=who_of(request, keyed=is_keyed(prepared, request)),
        owner=request.owner,
        state="open",
        version=1,
        slot_us=said["sl"] + shift_us,
        admitted_ms=said["at"] + shift_ms,
        calendar_ms=said["cal"],
        until_ms=said["un"] + shift_ms,
        ended_ms=None,
        hold=hold,
        told=hold,
        weights=weights(said["w"]),
        generation=generation,
        aside=name(said.get("as")),
    )


# -- limits ----------------------------------------------------------------------------------------------------------------


def gauge(of: Gauge, **more: int) -> Said:
    """A rate as a fraction in lowest terms: p microseconds for q units. b: units that may leave at once. ap: how far apart."""
    return {"n": of.meter} | _figures(of.rate) | more


@lru_cache(maxsize=1024)
def _figures(rate: Rate) -> Said:
    per_us = rate.per_ms * 1000
    common = gcd(per_us, rate.amount)
    return {
        "p": per_us // common,
        "q": rate.amount // common,
        "b": meter.usable_burst(rate),
        "ap": meter.apart_us(rate, 1),
        "most": meter.ceiling(rate),
    }


@dataclass(frozen=True)
class Caps:
    """The caps of a scope as the script wants them, at one minute of the budgets' calendar."""

    calendar_ms: int
    windows: tuple[tuple[PurseCap, Window], ...]
    said: tuple[Said, ...]

    def needing(self, needs: Mapping[str, int]) -> list[Said]:
        """With what a call has to hold of each, by dimension."""
        return [said | {"need": needs[cap.dimension]} for (cap, _), said in zip(self.windows, self.said, strict=True)]


def caps_at(prepared: Prepared, calendar_ms: int) -> Caps:
    windows = tuple((cap, window_of(calendar_ms, cap.cap.window, prepared.zone)) for cap in prepared.scope.caps)
    return Caps(calendar_ms, windows, tuple(cap_of(cap, window) for cap, window in windows))


def cap_of(cap: PurseCap, window: Window) -> Said:
    return {
        "n": cap.purse,
        "w": f"{cap.dimension}/{cap.cap.window}/{window.ends_ms}",
        "d": DIMENSIONS.index(cap.dimension) + 1,
        "from": window.starts_ms,
        "to": window.ends_ms,
        "cap": cap.cap.amount,
    }


def is_heavy(prepared: Prepared, weights: Mapping[str, int]) -> bool:
    """Whether the call leaves a meter in debt, which nobody could tell from the clock alone."""
    return any(weights.get(found.dimension, 0) > meter.usable_burst(found.rate) for found in prepared.scope.gauges)


def is_keyed(prepared: Prepared, request: CallRequest) -> bool:
    """Whether other calls may have its key, and its service bill them once."""
    return prepared.scope.service.key_memory_ms is not None and request.key != request.id


def meters_of(said: Any, shift_us: int) -> dict[str, Meter]:
    """Meters as the fleet's clock reads; one that was never used stays so."""
    found: dict[str, list[int]] = said or {}
    return {
        text(name): Meter(free + shift_us if free else 0, last + shift_us if last else 0, total)
        for name, (free, last, total) in found.items()
    }


def spent(caps: Caps, said: Said) -> Spent:
    place: int = said["i"]
    cap, window = caps.windows[place - 1]
    figures = said["spent"], said["held"], said["places"], said["aside"]
    return Spent(Standing(cap.purse, cap.dimension, cap.cap, window.starts_ms, window.ends_ms, *figures), said["need"])
