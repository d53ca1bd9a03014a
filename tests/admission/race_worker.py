"""One of many processes that spend from one small cap until it is spent. Run: race_worker.py STATE SEED.

Writes "ready", waits for a line, and in the end writes how many calls it made.
"""

import random
import sys
import time

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.admission.postgres import PostgresLimiter
from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import BudgetExceeded
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal

CAP, MOST = 5_000_000, 42_000
LONGEST_S = 60
LIMITS = Limits(
    services={"api": Service("api", concurrency=10)},
    budgets={"race": Budget("race", {"money": (Cap(CAP, "total"),)})},
)


def open_limiter(state: str, world: Machine) -> Limiter:
    """state: a path, or the address of a PostgreSQL."""
    database = PostgresDatabase(state, world) if state.startswith("postgresql:") else SqliteDatabase(state, world)
    migrate(database)
    fleet.enter(database, world, name="race", redaction_key="00")
    journal = Journal(database, Redactor(b"race"))
    if isinstance(database, PostgresDatabase):
        return PostgresLimiter(database, journal, LIMITS)
    return Limiter(database, journal, LIMITS)


def request(world: Machine, owner: str, money: int) -> CallRequest:
    call = world.new_id("call")
    return CallRequest(call, call, "api", "racer", owner, budget="race", money=money)


def main() -> None:
    state, seed = sys.argv[1], int(sys.argv[2])
    world, chance = Machine(), random.Random(seed)
    limiter, owner = open_limiter(state, world), f"owner-{seed}"
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    made, until = 0, time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        asked = request(world, owner, chance.randint(1, MOST))
        try:
            if isinstance(limiter.admit(asked), Admitted):
                made += 1
                time.sleep(chance.uniform(0, 0.02))  # the call itself
                end(limiter, asked, chance)
            else:
                time.sleep(0.005)
        except BudgetExceeded:
            break
    sys.stdout.write(f"{made}\n")


def end(limiter: Limiter, asked: CallRequest, chance: random.Random) -> None:
    ending = chance.random()
    if ending < 0.8:
        limiter.settle(asked.id, owner=asked.owner, money=chance.randint(0, asked.money))
    elif ending < 0.9:
        limiter.release(asked.id, owner=asked.owner)
    else:
        limiter.unknown(asked.id, owner=asked.owner)


if __name__ == "__main__":
    main()
