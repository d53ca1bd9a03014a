"""Calls with one key at a service that remembers keys: the service bills them once, and one of them bears the charge.

A run that was killed between a call and its step's result makes the call again with the same key, and is answered from
memory. Both calls took a place, a slot and a request of the quota; the money and the tokens are of one effect. Which call
bears them is `policy.call.borne`; here is what is read for it, in an open transaction. Calls whose key was never used
before, which are nearly all, cost one look at an index when they are admitted and nothing when they end.
"""

from typing import NamedTuple

from longwatch.admission import refusals
from longwatch.admission.calls import CallRequest
from longwatch.admission.standing import Prepared
from longwatch.db.connection import Row, Transaction
from longwatch.errors import LongwatchError
from longwatch.policy import call as policy
from longwatch.policy.call import MOST_SHARING, State, Told

APART, ALONE, TOGETHER = 0, 1, 2  # call.sharing: nobody remembers the key; its service does; and other calls have it


class Charge(NamedTuple):
    """What a call costs: money in micro-units, calls and tokens as counts."""

    money: int
    calls: int
    tokens: int


def uses(tx: Transaction, prepared: Prepared, request: CallRequest) -> Row | None:
    """Earlier calls with the key: (calls, first_ms). None: the service does not remember it."""
    if prepared.scope.service.key_memory_ms is None or request.key == request.id:
        return None
    return used(tx, request)


def used(tx: Transaction, request: CallRequest) -> Row | None:
    """The same at a service that remembers the key."""
    return tx.one("call.uses", key=request.key, service=request.service, id=request.id, most=MOST_SHARING)


def forgotten(tx: Transaction, prepared: Prepared, request: CallRequest, used: Row | None) -> LongwatchError | None:
    """The refusal of a call that would take effect again, because its service has forgotten its key."""
    memory_ms = prepared.scope.service.key_memory_ms
    if used is None or used.first_ms is None or memory_ms is None:
        return None
    age_ms = tx.now_ms - used.first_ms
    if not policy.forgotten(age_ms=age_ms, memory_ms=memory_ms):
        return None
    return refusals.forgotten(request.key, request.service, age_ms=age_ms, memory_ms=memory_ms)


def sharing(used: Row | None) -> int:
    if used is None or used.calls >= MOST_SHARING:
        return APART
    return TOGETHER if used.calls else ALONE


def join(tx: Transaction, request: CallRequest) -> None:
    """Another call was admitted with the key: when one of them ends, it asks for the others."""
    tx.count("call.join", key=request.key, service=request.service)


def shares(tx: Transaction, row: Row, state: State, told: Charge) -> list[tuple[Row, Charge]]:
    """What every call with the key of this one is charged once this one is known to have cost `told`."""
    rows = tx.all("call.of_key", key=row.key, service=row.service)
    known: list[tuple[State, Charge]] = [
        (state, told) if found.id == row.id else (found.state, Charge(found.told_money, found.calls, found.told_tokens))
        for found in rows
    ]
    money = policy.borne([Told(state, charge.money) for state, charge in known])
    tokens = policy.borne([Told(state, charge.tokens) for state, charge in known])
    return [(found, Charge(money[place], known[place][1].calls, tokens[place])) for place, found in enumerate(rows)]
