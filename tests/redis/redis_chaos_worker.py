"""One of many processes that pay through one fleet. Run: redis_chaos_worker.py CONFIG URL SECONDS.

Writes "ready", waits for a line, pays until its time is over or the budget is spent, and writes what came of it as JSON.
"""

import json
import sys
import time
from collections import Counter

import httpx

import longwatch
from longwatch.errors import BudgetExceeded, LongwatchError

HEADERS = {"Authorization": "Bearer sk_test_sandbox"}
INTENT = {"amount": "100", "currency": "gbp", "confirm": "true", "payment_method": "pm_card_visa"}


def main() -> None:
    config, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    came: Counter[str] = Counter()
    paid: list[float] = []
    with (
        longwatch.open(config=config, agent="caller", budget="growth") as lw,
        httpx.Client(timeout=30, trust_env=False, headers=HEADERS) as client,
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                with lw.call("stripe", money="0.20 GBP", wait="30s"):
                    status = client.post(f"{url}/v1/payment_intents", data=INTENT).status_code
                came[str(status)] += 1
                paid.append(time.time())
            except BudgetExceeded:
                came["spent"] += 1
                break
            except LongwatchError as error:
                came[error.code] += 1
                sys.stderr.write(f"{error.code}: {error}\n")
    sys.stdout.write(json.dumps({"came": came, "paid": paid}) + "\n")


if __name__ == "__main__":
    main()
