"""When a service, or one model of it, may be called again after it has pushed back: one gate for the whole fleet.

closed: calls leave as its limits allow. cooling: it said that there were too many; nobody calls before the instant, then
everybody may. open: it cannot answer anybody; at the instant one call is let through as a probe, and only a probe that is
answered closes the gate. parked: what may be spent there is spent; calls are refused, and a probe asks every quarter of an
hour. paused: a person said so, until a person resumes.

A service that fails once with what might be this one request's fault has a strike; STRIKES of them in a row are a failure.
What a call says that left before the gate moved is old news.

A gate is enforced by a meter with no rate of its own: no slot is before its instant. All instants: the fleet's steady
clock, milliseconds.
"""

from typing import Literal, NamedTuple

State = Literal["closed", "cooling", "open", "parked", "paused"]
Kind = Literal["ok", "limited", "overloaded", "failed", "spent"]

STATES: tuple[State, ...] = ("closed", "cooling", "open", "parked", "paused")
SHUT: tuple[State, ...] = ("parked", "paused")  # calls are refused
FIRST_MS = 1_000
COOL_MS = (FIRST_MS, 3_000, 8_000)  # how long one failure after the other cools it; the last wait is repeated
ASK_MS = (FIRST_MS, 6_000, 10_000)  # until the next probe: each one of an outage is a call wasted
LONG_MS, LONGEST_MS = 120_000, 30_000  # open for longer than that, it is asked only this often
FORGET_MS = 60_000  # after so long a failure is the first one again
STRIKES, STRIKE_MS = 3, 10_000
PROBE_MS = 30_000  # a probe that says nothing for so long is followed by another one
PARK_MS = 900_000
TOLD_MOST_MS = 86_400_000

OPEN_US, PARKED_US = 1 << 52, (1 << 52) + (1 << 51)  # slots that nobody gets, apart from clocks that drift
DRIFT_US = 1 << 50


class Gate(NamedTuple):
    """name: the service, or service/model. until_ms: of cooling, or of the next probe; None: there is none.

    failures: in a row. since_ms: when the state began. begun_ms: when it opened first. probe: the call that is it.
    version: how often the gate has moved.
    """

    name: str
    state: State = "closed"
    since_ms: int = 0
    until_ms: int | None = None
    begun_ms: int = 0
    failures: int = 0
    strikes: int = 0
    struck_ms: int = 0
    reason: str = ""
    probe: str | None = None
    probe_until_ms: int = 0
    version: int = 0


class Report(NamedTuple):
    """What became of a call. left_ms: when it left. again_ms: how long the service asks to wait, None: it does not say.

    failed: an error that may be the request's own fault, or no answer at all.
    """

    call: str
    kind: Kind
    left_ms: int
    again_ms: int | None = None
    reason: str = ""


def gate_us(gate: Gate) -> int:
    """The first slot that the gate's meter gives."""
    match gate.state:
        case "parked" | "paused":
            return PARKED_US
        case "open":
            return OPEN_US
        case _:
            return (gate.until_ms or 0) * 1000


def keeps_back(gate: Gate, *, now_ms: int) -> bool:
    """Whether not every call may go through the gate."""
    return gate.state != "closed" and not (gate.state == "cooling" and now_ms >= (gate.until_ms or 0))


def is_open(slot_us: int) -> bool:
    """Whether a slot is that of a gate which only a probe closes."""
    return OPEN_US - DRIFT_US <= slot_us < PARKED_US - DRIFT_US


def is_shut(slot_us: int) -> bool:
    """Whether a slot is that of a gate which only a person opens."""
    return slot_us >= PARKED_US - DRIFT_US


def after(gate: Gate, report: Report, *, now_ms: int) -> Gate:
    """The gate once the call's end is known; the same one when that changes nothing."""
    if gate.state == "paused":
        return gate
    if report.kind == "spent":
        again = gate.state == "parked" and gate.probe != report.call
        return gate if again else _moved(gate, "parked", now_ms, reason=report.reason, until_ms=now_ms + PARK_MS)
    if gate.probe == report.call:
        return _probed(gate, report, now_ms)
    if report.kind == "ok" or gate.state == "parked":
        return gate
    if report.left_ms < gate.since_ms:
        return _put_off(gate, report, now_ms)
    return _pushed_back(gate, report, now_ms)


def _probed(gate: Gate, report: Report, now_ms: int) -> Gate:
    if report.kind in ("overloaded", "failed"):
        return _opened(gate, report, now_ms)
    if report.kind == "limited":
        return _cooled(gate, report, now_ms)
    return _moved(gate, "closed", now_ms, reason="", until_ms=now_ms, failures=gate.failures)


def _pushed_back(gate: Gate, report: Report, now_ms: int) -> Gate:
    match report.kind:
        case "limited":
            return gate if gate.state == "open" else _cooled(gate, report, now_ms)
        case "overloaded":
            return _opened(gate, report, now_ms)
        case _:
            strikes = gate.strikes + 1 if now_ms - gate.struck_ms < STRIKE_MS else 1
            if strikes >= STRIKES:
                return _opened(gate, report, now_ms)
            return gate._replace(strikes=strikes, struck_ms=now_ms)


def _put_off(gate: Gate, report: Report, now_ms: int) -> Gate:
    """Old news tells nothing, but for an instant that it names."""
    if gate.state not in ("cooling", "open") or report.again_ms is None or gate.until_ms is None:
        return gate
    until_ms = now_ms + min(report.again_ms, TOLD_MOST_MS)
    return gate if until_ms <= gate.until_ms else gate._replace(until_ms=until_ms, version=gate.version + 1)


def _cooled(gate: Gate, report: Report, now_ms: int) -> Gate:
    failures = _failures(gate, now_ms)
    wait_ms = _wait_ms(COOL_MS, failures) if report.again_ms is None else min(report.again_ms, TOLD_MOST_MS)
    return _moved(gate, "cooling", now_ms, reason=report.reason, until_ms=now_ms + wait_ms, failures=failures)


def _opened(gate: Gate, report: Report, now_ms: int) -> Gate:
    failures = _failures(gate, now_ms)
    begun_ms = gate.begun_ms if gate.state == "open" else now_ms
    asked_ms = LONGEST_MS if now_ms - begun_ms >= LONG_MS else _wait_ms(ASK_MS, failures)
    wait_ms = max(asked_ms, min(report.again_ms or 0, TOLD_MOST_MS))
    found = _moved(gate, "open", now_ms, reason=report.reason, until_ms=now_ms + wait_ms, failures=failures)
    return found._replace(begun_ms=begun_ms)


def _failures(gate: Gate, now_ms: int) -> int:
    over_ms = max(gate.since_ms, gate.until_ms or 0)
    return gate.failures + 1 if gate.failures and now_ms - over_ms < FORGET_MS else 1


def _wait_ms(waits: tuple[int, ...], failures: int) -> int:
    return waits[min(failures, len(waits)) - 1]


def _moved(gate: Gate, state: State, now_ms: int, *, reason: str, until_ms: int | None, failures: int = 0) -> Gate:
    return Gate(
        gate.name,
        state,
        since_ms=now_ms,
        until_ms=until_ms,
        failures=failures,
        reason=reason,
        version=gate.version + 1,
    )


# -- probes and persons ----------------------------------------------------------------------------------------------------


def probing(gate: Gate, call: str, *, now_ms: int) -> Gate | int | None:
    """The gate with this call as its probe; or when to ask again; or None: no probe is needed."""
    if gate.state not in ("open", "parked"):
        return None
    if gate.probe not in (None, call) and now_ms < gate.probe_until_ms:
        return min(gate.probe_until_ms, now_ms + FIRST_MS // 4)
    if gate.probe is None and gate.until_ms is not None and now_ms < gate.until_ms:
        return gate.until_ms  # a probe that said nothing is followed at once
    return gate._replace(probe=call, probe_until_ms=now_ms + PROBE_MS)


def unprobed(gate: Gate, call: str) -> Gate:
    """The probe did not leave: the next one may be it at once."""
    return gate if gate.probe != call else gate._replace(probe=None, probe_until_ms=0)


def paused(gate: Gate, reason: str, *, now_ms: int) -> Gate:
    """A person wants no call to leave."""
    return _moved(gate, "paused", now_ms, reason=reason, until_ms=None)


def resumed(gate: Gate, *, now_ms: int) -> Gate:
    """A person says that it may be called again."""
    return gate if gate.state == "closed" else _moved(gate, "closed", now_ms, reason="", until_ms=now_ms)
