"""What goes wrong, and when: a list of faults, each with its own seeded dice.

latency       the reply comes `latency_ms` later
status        `status` is answered at once and nothing is done
status_after  the work is done, then `status` is answered (models: as `status`; Stripe stores it under the key)
cut           the work is done; the connection closes in the middle of the reply
silent        the work is done; the reply stops in the middle, the connection stays open
drop_reply    the work is done; the connection closes without a reply

A fault looks at the requests of its service and endpoint only, and unless it is of the first two kinds only at those that
were admitted. It lets `after` of them pass, then hits each with `probability`, at most `count` of them, and ends `seconds`
after it was set. Latencies add up; of the other kinds the first in the list that hits wins. No clock here: instants are passed
in.
"""

import random
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Kind = Literal["latency", "status", "status_after", "cut", "silent", "drop_reply"]
Service = Literal["*", "anthropic", "openai", "stripe", "github"]

NS_PER_S = 1_000_000_000


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault as it is asked for. `endpoint` is a beginning such as "POST /v1/charges"; empty is all."""

    service: Service
    kind: Kind
    endpoint: str = ""
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 529
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1
    latency_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    seed: int = 0
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    count: Annotated[int, msgspec.Meta(ge=0)] | None = None


BEFORE_ADMISSION = ("latency", "status")


class Struck(NamedTuple):
    """What the faults do to one request before it is admitted."""

    latency_ms: int
    fault: Fault | None


class Armed:
    """A fault that is set, with what it has seen and done."""

    def __init__(self, fault: Fault, now_ns: int) -> None:
        self.fault = fault
        self.seen = 0
        self.hits = 0
        self._dice = random.Random(fault.seed)
        self._ends_ns = None if fault.seconds is None else now_ns + round(fault.seconds * NS_PER_S)

    def strikes(self, service: str, endpoint: str, now_ns: int) -> bool:
        """Whether this request is hit. Call once for each request: it counts, and throws the dice."""
        fault = self.fault
        if fault.service not in ("*", service) or not endpoint.startswith(fault.endpoint):
            return False
        if self._ends_ns is not None and now_ns >= self._ends_ns:
            return False
        self.seen += 1
        if self.seen <= fault.after or (fault.count is not None and self.hits >= fault.count):
            return False
        hit = self._dice.random() < fault.probability
        self.hits += hit
        return hit

    def report(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self.fault), "seen": self.seen, "hits": self.hits}


class Faults:
    """All faults that are set."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def replace(self, faults: list[Fault], now_ns: int) -> None:
        self._armed = [Armed(fault, now_ns) for fault in faults]

    def before_admission(self, service: str, endpoint: str, now_ns: int) -> Struck:
        latency_ms, struck = 0, None
        for armed in self._armed:
            slow = armed.fault.kind == "latency"
            looks = slow or (armed.fault.kind == "status" and struck is None)
            if looks and armed.strikes(service, endpoint, now_ns):
                latency_ms += armed.fault.latency_ms if slow else 0
                struck = struck if slow else armed.fault
        return Struck(latency_ms, struck)

    def after_admission(self, service: str, endpoint: str, now_ns: int) -> Fault | None:
        late = (armed for armed in self._armed if armed.fault.kind not in BEFORE_ADMISSION)
        return next((armed.fault for armed in late if armed.strikes(service, endpoint, now_ns)), None)

    def report(self) -> list[dict[str, Any]]:
        return [armed.report() for armed in self._armed]
