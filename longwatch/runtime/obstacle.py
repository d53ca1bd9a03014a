"""What a call that is not admitted waits for, and who has it, in words."""

from longwatch.admission.limiter import Limiter
from longwatch.errors import WaitTimeout
from longwatch.policy.admission import Later
from longwatch.policy.away import is_of_share
from longwatch.policy.scope import gate_of_meter

SHOWN = 3


def obstacle(limiter: Limiter, service: str, later: Later, *, now_ms: int) -> str:
    """now_ms: the fleet's clock."""
    gate = gate_of_meter(later.what)
    if gate is not None:
        return f"{gate} to be called again: {_kept_back(limiter, gate)}"
    if is_of_share(later.what):
        return f"its turn at {later.what}: the admission engine is away, and calls go by a share of every limit"
    if later.reason == "rate":
        return f"its turn at the rate {later.what}"
    place = later.reason == "concurrency"
    found = limiter.open_calls(service=service if place else None, limit=SHOWN + 1)
    who = [f"{call.id} of {call.agent} for {(now_ms - call.admitted_ms) // 1000} s" for call in found[:SHOWN]]
    more = " and others" if len(found) > SHOWN else ""
    what = f"a place at {service}" if place else f"what other calls hold of {later.what}"
    return f"{what}, held by {', '.join(who)}{more}"


def _kept_back(limiter: Limiter, gate: str) -> str:
    found = limiter.gates.find(gate)
    return "it is closed again" if found.state == "closed" else f"it is {found.state} ({found.reason})"


def timed_out(service: str, later: Later, waits_for: str, wait_ms: int | None, *, now_ms: int) -> WaitTimeout:
    """now_ms: the fleet's clock."""
    return WaitTimeout(
        f"{service} did not let the call leave within {wait_ms} ms.\n  it waited for {waits_for}.",
        hint="Wait longer (wait=), or see who is using it: longwatch limit list.",
        retry_after=None if later.at_us is None else max(0, later.at_us // 1000 - now_ms) / 1000,
    )
