"""Which services take no calls at the moment, why, and until when; and who waits in line."""

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType

from longwatch.admission.lines import LineState
from longwatch.admission.share import CutOff
from longwatch.policy.breaker import Gate, keeps_back
from longwatch.policy.duration import format_ms
from longwatch.surface.output import ago, heading, table
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, at


def shut_gates(session: Session) -> list[Gate]:
    """Those through which not every call may go now."""
    now_ms = session.now_ms()
    return [gate for gate in session.parts.calls.limiter.gates.all() if keeps_back(gate, now_ms=now_ms)]


def gate_rows(gates: Sequence[Gate]) -> list[Json]:
    return [gate_json(gate) for gate in gates]


def gate_json(gate: Gate) -> Json:
    service, _, model = gate.name.partition("/")
    return {
        "service": service,
        "model": model or None,
        "state": gate.state,
        "since_at": at(gate.since_ms),
        "until_at": None if gate.until_ms is None else at(gate.until_ms),
        "reason": gate.reason,
        "failures": gate.failures,
        "probe": gate.probe,
    }


def gate_lines(gates: Sequence[Gate], now_ms: int) -> list[RenderableType]:
    """What keeps calls back, in words; nothing when nothing does."""
    if not gates:
        return []
    rows = [(gate.name, gate.state, ago(gate.since_ms, now_ms), _until(gate, now_ms), gate.reason) for gate in gates]
    return [Lines(heading("kept back"), table(("service", "state", "since", "until", "why"), rows, empty=""))]


def _until(gate: Gate, now_ms: int) -> str:
    if gate.state == "paused":
        return "it is resumed"
    if gate.probe is not None:
        return f"{gate.probe} is answered"
    left_ms = max(0, (gate.until_ms or now_ms) - now_ms)
    return f"in {format_ms(left_ms)}" if gate.state == "cooling" else f"a probe in {format_ms(left_ms)}"


# -- while the admission engine is away ------------------------------------------------------------------------------------


def away_json(percent: int, cut: Sequence[CutOff], shares: Sequence[Json]) -> Json | None:
    """What is kept for processes that cannot reach the engine, and who goes by it; None: nothing is."""
    processes = [
        {"owner": each.owner, "agent": each.agent, "since_at": at(each.since_ms), "reason": each.reason} for each in cut
    ]
    return {"percent": percent, "limits": list(shares), "processes": processes} if percent or cut else None


def away_lines(percent: int, cut: Sequence[CutOff], shares: RenderableType, now_ms: int) -> list[RenderableType]:
    if not percent and not cut:
        return []
    kept = Lines(heading(f"kept in the state for when the admission engine is away: {percent}%"), shares)
    rows = [(each.agent, each.owner, ago(each.since_ms, now_ms), each.reason) for each in cut]
    goes = Lines(heading("go by it"), table(("agent", "owner", "since", "why"), rows, empty=""))
    return [kept, goes] if cut else [kept]


# -- lines -----------------------------------------------------------------------------------------------------------------


def line_rows(lines: Sequence[LineState]) -> list[Json]:
    return [
        {"line": each.line, "lane": each.lane, "waiting": each.waiting, "since_at": at(each.since_ms)} for each in lines
    ]


def line_lines(lines: Sequence[LineState], now_ms: int) -> list[RenderableType]:
    """Who waits in line, in words; nothing when nobody does."""
    if not lines:
        return []
    rows = [(each.line, each.lane, each.waiting, ago(each.since_ms, now_ms)) for each in lines]
    return [Lines(heading("in line"), table(("at", "lane", ">calls", "since"), rows, empty=""))]
