"""A usual call as its process keeps it until it is written down: in few words of its own, and of a kind.

A kind is what is the same for every call of one caller and task, of one scope and with the same weights: made once, as the
script is asked, as the ledger has its row, and as the journal tells of it. What a call is besides, `known` makes of it when
somebody asks.
"""

import struct
from collections.abc import Sequence
from typing import Any, overload

import msgspec

from longwatch.admission.calls import HOLD_MS, Admitted, CallRequest, whole_ms
from longwatch.admission.keys import APART, Charge
from longwatch.admission.redis.values import Known, Who, who_of
from longwatch.admission.standing import encode
from longwatch.store.journal import NewEntry

OWN = struct.Struct("<ddI").pack  # how far from now the slot may be, now or SERVERS, and how long the id is
SERVERS = -1
SIZE = struct.Struct("<I").pack
LONG = struct.Struct(">BI").pack  # how a word of any length begins, packed

packed = msgspec.msgpack.Encoder().encode

Weighed = tuple[tuple[str, int], ...]
"""Units by dimension, or by meter."""


class State(msgspec.Struct, frozen=True, gc=False):
    """What this process believes of the engine. stamp: of its own state, which every move of that changes. calendar_ms: of
    the budgets; born_us: when it lost its memory, or 0."""

    stamp: int
    generation: str
    rules: int
    calendar_ms: int
    born_us: int


class Kind(msgspec.Struct, frozen=True, gc=False):
    """who: but for the key. meters: those that it weighs on.

    Of the question: begins, what is kept of the call before who it is; who_rest, of that what is behind the key; rest, what
    follows, of which the first `kept` bytes are still of the call. Of the row: named and charged, what stands before and
    behind what is the call's own; weighs, its weights, where the totals go. told: what the journal tells, before and behind
    the key.
    """

    state: State
    who: Who
    owner: str
    hold: Charge
    meters: Weighed
    aside: bool
    begins: bytes
    who_rest: bytes
    kept: int
    rest: bytes
    named: tuple[Any, ...]
    charged: tuple[Any, ...]
    weighs: str
    told: tuple[str, str]

    def question(self, id: str, key: str, *, patience_us: int, now_us: int) -> bytes:
        """now_us: SERVERS, to go by the server's clock."""
        said, name = id.encode(), encode(key)
        row = len(name) + len(self.who_rest) + 1
        size = len(self.begins) + 5 + row + self.kept
        own = OWN(patience_us, now_us, len(said))
        return b"".join((own, said, SIZE(size), self.begins, LONG(0xDB, row), b"[", name, self.who_rest, self.rest))


def kind_of(
    state: State, purses: Sequence[str], asked: CallRequest, *, meters: Weighed, kept: bytes, rest: bytes
) -> Kind:
    """kept: what is kept of the call behind who it is, and before the first total. rest: of the question, behind that."""
    who = who_of(asked, keyed=False)
    hold = Charge(asked.money, asked.calls, asked.tokens)
    begins: dict[str, Any] = {"s": "open", "v": 1, "cal": state.calendar_ms, "ps": purses}
    begins |= {"o": asked.owner, "h": hold, "ch": hold}
    nameless = encode(msgspec.structs.replace(who, key=""))
    told = (
        {"service": who.service, "budget": who.budget},
        {"money": hold.money} | ({"model": who.model} if who.model else {}),
    )
    return Kind(
        state=state,
        who=who,
        owner=asked.owner,
        hold=hold,
        meters=meters,
        aside=asked.aside is not None,
        begins=packed(begins)[1:] + packed("row"),
        who_rest=nameless.removeprefix(b'[""'),
        kept=len(kept),
        rest=kept + rest,
        named=(
            "open",
            who.service,
            who.model,
            who.agent,
            who.budget,
            asked.owner,
            who.task,
            who.run,
            who.step,
            who.lane,
        ),
        charged=(*hold, *hold, APART, 1, None, None),
        weighs=f"{{{','.join(f'{_text(name)}:[{weight},%d]' for name, weight in meters)}}}",
        told=(encode(told[0]).decode()[1:-1], encode(told[1]).decode()[1:]),
    )


def _text(name: str) -> str:
    return encode(name).decode().replace("%", "%%")


class Usual(msgspec.Struct, frozen=True, gc=False):
    """An open call. totals: of the kind's meters, just behind it. Instants are the fleet's."""

    id: str
    key: str
    kind: Kind
    slot_us: int
    admitted_ms: int
    totals: tuple[int, ...]

    def answer(self) -> Admitted:
        money, _, tokens = self.kind.hold
        return Admitted(self.id, self.key, whole_ms(self.slot_us), money, tokens)

    def known(self) -> Known:
        kind = self.kind
        return Known(
            id=self.id,
            who=msgspec.structs.replace(kind.who, key=self.key),
            owner=kind.owner,
            state="open",
            version=1,
            slot_us=self.slot_us,
            admitted_ms=self.admitted_ms,
            calendar_ms=kind.state.calendar_ms,
            until_ms=self.admitted_ms + HOLD_MS,
            ended_ms=None,
            hold=kind.hold,
            told=kind.hold,
            weights={name: (weight, total) for (name, weight), total in zip(kind.meters, self.totals, strict=True)},
            generation=kind.state.generation,
        )

    # -- as it is written down -------------------------------------------------------------------------------------------

    def row(self) -> tuple[Any, ...]:
        """In the order of `book.Written`."""
        kind, at_ms = self.kind, self.admitted_ms
        own = self.slot_us, at_ms, kind.state.calendar_ms, at_ms + HOLD_MS, None, kind.weighs % self.totals
        return (self.id, self.key, *kind.named, *own, *kind.charged)

    def entry(self) -> NewEntry:
        """As `book.told_admitted` tells it."""
        who, (before, behind) = self.kind.who, self.kind.told
        wait_ms = max(0, self.slot_us // 1000 - self.admitted_ms)
        text = f'{{"wait_ms":{wait_ms},{before},"key":{encode(self.key).decode()},{behind}'
        return NewEntry("call.admitted", self.id, who.agent, who.task, text)


@overload
def as_known(call: Known | Usual) -> Known: ...
@overload
def as_known(call: Known | Usual | None) -> Known | None: ...
def as_known(call: Known | Usual | None) -> Known | None:
    return call.known() if isinstance(call, Usual) else call
