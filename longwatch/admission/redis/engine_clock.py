"""The engine's clock, as it is heard.

An answer says when it was given, and is heard later: a little, or, where a hundred threads wait for two cores, very much.
Whoever takes the instant of hearing for that of the answer believes that every slot is later than it is, lets the calls of
a late bunch leave as one, and never sees that they have missed their slots. So the difference between the clocks is taken
from the answer that was heard soonest of those of late; what it may be at least is known too, for no answer is given before
it is asked for.
"""

from dataclasses import dataclass

LASTS_MS = 10_000  # clocks drift by a thousandth of that, at worst


@dataclass
class EngineClock:
    """Safe in threads: one that overtakes another costs an answer that may have been the soonest."""

    _kept: tuple[int, int, int] | None = None  # since when, ms; the least difference since then, and before then, us

    def shift_us(self, said_us: int, *, asked_ms: int, heard_ms: int) -> int:
        """What the engine's clock needs added to read as the fleet's: hardly ever less, and little more.

        said_us: the engine's clock, in between of the instants of the fleet's.
        """
        least_us, most_us = asked_ms * 1000 - said_us, (heard_ms + 1) * 1000 - said_us
        since_ms, newer_us, older_us = self._kept or (heard_ms, most_us, most_us)
        if heard_ms - since_ms >= LASTS_MS:
            since_ms, newer_us, older_us = heard_ms, most_us, newer_us
        newer_us = min(newer_us, most_us)
        if min(newer_us, older_us) < least_us:  # one of the clocks was set
            newer_us = older_us = most_us
        self._kept = since_ms, newer_us, older_us
        return min(newer_us, older_us)
