"""What a call that is not admitted waits for, and who has it, in words."""

from longwatch.admission.limiter import Limiter
from longwatch.policy.admission import Later

SHOWN = 3


def obstacle(limiter: Limiter, service: str, later: Later, *, now_ms: int) -> str:
    """now_ms: the fleet's clock."""
    if later.reason == "rate":
        return f"its turn at the rate {later.what}"
    place = later.reason == "concurrency"
    found = limiter.open_calls(service=service if place else None, limit=SHOWN + 1)
    who = [f"{call.id} of {call.agent} for {(now_ms - call.admitted_ms) // 1000} s" for call in found[:SHOWN]]
    more = " and others" if len(found) > SHOWN else ""
    what = f"a place at {service}" if place else f"what other calls hold of {later.what}"
    return f"{what}, held by {', '.join(who)}{more}"
