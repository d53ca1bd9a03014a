"""Redis or Valkey as the admission engine of a fleet.

What is contended with every decision (meters, places, what purses hold and have spent) is in Redis, and one script decides
in one round trip. The state of the fleet stays the ledger: every call is written there too, in batches, by the process
that made it. Redis gives out no more than the state allows it: for each window of a purse an *allotment*, a ceiling on
what may be spent and held, is raised in the state, durably, before it is raised in Redis.

What is lost, when:

- Redis loses its memory: nothing. Processes write down what they have; after GRACE_MS the rest is rebuilt from the ledger,
  and meters begin spent, behind every slot given before. What was allotted and is not in the ledger by then counts as
  spent: calls that nobody wrote down cannot cost more.
- A process dies: nothing. Its calls are in Redis; whoever buries it, or finds its silence, writes them down.
- Both at one instant: the records of the calls of the last FLUSH_MS. Their money is in the allotment, and counts as spent.
- Redis is away: calls go by the share of every limit that is kept in the state, or wait for as long as they may where
  there is none. Calls that Redis has admitted are settled when it is back.
"""

from longwatch.admission.redis.limiter import RedisLimiter
from longwatch.admission.redis.link import SHORT_S, TIMEOUT_S, Link

__all__ = ["SHORT_S", "TIMEOUT_S", "Link", "RedisLimiter"]
