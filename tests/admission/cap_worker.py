"""One of several processes that make calls of one task, until somebody kills it.

Run: cap_worker.py STATE ADMISSION TASK FILE SEED. What leaves is written to the file, as the provider would have it, before
the call is settled.
"""

import os
import random
import sys
import time

import longwatch
from longwatch import Refused
from longwatch.runtime.calls import Caller

MOST = 60_000


def main() -> None:
    state, admission, task, sent, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    lw = longwatch.open(state, admission=admission)
    parts, owner = lw.opened.parts, lw.opened.owner
    caller = Caller("main", owner, task=task, capped=("money",))
    bill = os.open(sent, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sys.stdout.write(f"{owner}\n")
    sys.stdout.flush()
    while True:
        most = chance.randint(1, MOST)
        try:
            with parts.calls.call("stripe", caller=caller, money=f"0.{most:06d} USD", wait_ms=20) as call:
                cost = chance.randint(1, most)
                os.write(bill, f"{cost}\n".encode())
                time.sleep(chance.uniform(0, 0.02))  # here it is killed, mostly
                if chance.random() < 0.8:
                    call.settle(money=f"0.{cost:06d} USD")
        except Refused:
            time.sleep(0.02)


if __name__ == "__main__":
    main()
