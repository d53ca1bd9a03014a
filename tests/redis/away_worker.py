"""One of many processes that pay through one fleet, whatever becomes of Redis. Run: away_worker.py CONFIG URL SECONDS EVERY.

Writes "ready", waits for a line, pays, at most once every EVERY seconds, until its time is over or the budget is spent, and
writes what came of it as JSON: of each payment the call and when it left.
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
    config, url, seconds, every_s = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    came: Counter[str] = Counter()
    paid: list[tuple[str, float]] = []
    with (
        longwatch.open(config=config, agent="caller", budget="growth") as lw,
        httpx.Client(timeout=30, trust_env=False, headers=HEADERS) as client,
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begun = time.monotonic()
            try:
                with lw.call("stripe", money="0.20 GBP", wait="20s") as call:
                    paid.append((call.id, time.time()))
                    status = client.post(f"{url}/v1/payment_intents", data=INTENT).status_code
                came[str(status)] += 1
            except BudgetExceeded:
                came["spent"] += 1
                break
            except LongwatchError as error:
                came[error.code] += 1
                sys.stderr.write(f"{error.code}: {error}\n")
            time.sleep(max(0.0, every_s - (time.monotonic() - begun)))
    sys.stdout.write(json.dumps({"came": came, "paid": paid}) + "\n")


if __name__ == "__main__":
    main()
