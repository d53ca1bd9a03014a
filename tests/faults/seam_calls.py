"""A program without tasks that charges what it was told to, each under a key of its own, and is killed at any instant.

seam_calls.py STATE URL NAME FIRST LAST      charges FIRST to LAST - 1; a note for each one that it knows of

seam_calls.py STATE audit                    ends what the dead held; what every key and the budget are charged, as JSON
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import json
import sys
from pathlib import Path

import httpx

from longwatch import Longwatch
from longwatch.admission.calls import HOLD_MS
from longwatch.runtime.world import Machine
from longwatch.surface.opened import read, wire

CAP = "50 GBP"
CONFIG = {
    "fleet": {"currency": "GBP"},
    "service": {"stripe": {"rate": "25/s", "burst": 25}},
    "budget": {"billing": {"money": f"{CAP} total"}},
}


class LaterOn(Machine):
    """The same machine, when every hold of now has run out."""

    def steady_ms(self) -> int:
        return super().steady_ms() + HOLD_MS + 1

    def wall_ms(self) -> int:
        return super().wall_ms() + HOLD_MS + 1


def opened(state: str, world: Machine) -> Longwatch:
    settings = read(state, CONFIG, agent="biller", budget="billing")
    return Longwatch(wire(settings, world), agent="biller", budget="billing")


def charge(state: str, url: str, name: str, times: int) -> None:
    done = Path(state).with_name(f"{name}.done")
    known = set(done.read_text().split()) if done.exists() else set[str]()
    lw = opened(state, Machine())
    for number in range(times):
        key = f"{name}-{number}"
        if key in known:
            continue
        with lw.call("stripe", key=key, money="0.25 GBP") as call:
            answer = httpx.post(
                f"{url}/v1/charges",
                data={"amount": 1200, "currency": "gbp", "source": "tok_visa"},
                headers={"authorization": "Bearer sk_test", "idempotency-key": call.key},
                trust_env=False,
            )
            answer.raise_for_status()
            replayed = answer.headers.get("idempotent-replayed") == "true"
            call.settle(money="0.00 GBP" if replayed and number % 2 else "0.20 GBP")
        with done.open("a") as file:
            file.write(f"{key}\n")
        sys.stdout.write(f"{key}\n")
        sys.stdout.flush()


def audit(state: str) -> None:
    lw = opened(state, LaterOn())
    lw.opened.parts.calls.expire()
    database = lw.opened.parts.database
    look = database.connection.execute  # type: ignore[attr-defined] # pyright: ignore
    found = {
        "keys": dict(look("select key, sum(money) from call group by key").fetchall()),
        "spent": look("select settled from spend where purse = 'budget:billing'").fetchall(),
        "open": look("select count(*) from call where state = 'open'").fetchall(),
        "repeated": look("select count(*) from call where sharing = 2").fetchall(),
    }
    sys.stdout.write(json.dumps(found))
    lw.close()


if __name__ == "__main__":
    if sys.argv[2] == "audit":
        audit(sys.argv[1])
    else:
        charge(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
