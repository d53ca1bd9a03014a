"""Whether a request that was answered with an error, or not at all, is made again; and when."""

from typing import NamedTuple

from longwatch.policy.answer import Verdict
from longwatch.policy.backoff import Backoff

LONGEST_MS = 60_000  # whoever is asked to wait longer decides by himself
BACKOFF = Backoff(first_ms=500, most_ms=8_000)
AGAIN = ("limited", "overloaded", "busy")


class Try(NamedTuple):
    """tries: made so far. most: that may follow the first. left_ms: of the caller's time to wait, None: no end.

    repeatable: the service knows a repetition by its key, or nothing changes however often it is done.
    """

    tries: int
    most: int
    left_ms: int | None
    repeatable: bool


def again_ms(tried: Try, verdict: Verdict | None, *, unsent: bool, fraction: float) -> int | None:
    """How long to wait before the next try; None: there is none. verdict: of the answer, None: there was no answer.

    unsent: it is proven that nothing was sent. fraction: random in [0, 1).
    """
    if tried.tries > tried.most or not _may_be_made_again(tried, verdict, unsent=unsent):
        return None
    asked_ms = None if verdict is None else verdict.again_ms
    wait_ms = BACKOFF.delay_ms(tried.tries, fraction=fraction) if asked_ms is None else asked_ms
    if wait_ms > LONGEST_MS or (tried.left_ms is not None and wait_ms > tried.left_ms):
        return None
    return wait_ms


def _may_be_made_again(tried: Try, verdict: Verdict | None, *, unsent: bool) -> bool:
    if verdict is None:
        return unsent or tried.repeatable
    return verdict.kind in AGAIN and (verdict.certain or tried.repeatable)
