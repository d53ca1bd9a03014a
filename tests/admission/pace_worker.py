"""One of many processes that share a rate. Run: pace_worker.py STATE AMOUNT BURST CALLS.

Writes "ready", waits for a line, makes its calls one after the other, and writes the microsecond at which each one left.
"""

import sys
import time

from longwatch.admission.limiter import Limiter
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.policy.limits import Limits, Rate, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.calls import Caller, Calls
from longwatch.runtime.loop import Threads
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal


def main() -> None:
    path, amount, burst, calls = sys.argv[1], *(int(word) for word in sys.argv[2:])
    world = Machine()
    database = SqliteDatabase(path, world)
    migrate(database)
    fleet.enter(database, world, name="pace", redaction_key="00")
    limits = Limits(services={"api": Service("api", rates={"requests": Rate(amount, 1_000, burst)})})
    making = Calls(world, Threads(world.steady_ms), Limiter(database, Journal(database, Redactor(b"pace")), limits))
    caller = Caller("agent", world.new_id("owner"))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    left: list[int] = []
    for _ in range(calls):
        with making.call("api", caller=caller):
            left.append(time.monotonic_ns() // 1000)
    sys.stdout.write(" ".join(map(str, left)) + "\n")


if __name__ == "__main__":
    main()
