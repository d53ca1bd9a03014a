"""What a program may do to the gates of services: push back, probe, pause and resume."""

from longwatch.policy.breaker import Kind, Report
from longwatch.policy.scope import gauges_of
from longwatch.testing.acts import Act
from longwatch.testing.acts_limiter import API
from longwatch.testing.play import Numbers, Play, differ

KINDS: tuple[Kind, ...] = (
    "limited",
    "overloaded",
    "failed",
    "ok",
    "ok",
    "limited",
    "overloaded",
    "failed",
    "spent",
)
GATES = ("api", "api", "api/big-1", "free")


def push_back(play: Play, numbers: Numbers) -> None:
    """The service answers a call: mostly one that left lately, now and then the one that is its probe."""
    gate = numbers.pick(GATES)
    probe = next((found.probe for found in play.model_limiter.gates.all() if found.name == gate), None)
    call = probe if probe is not None and numbers.chance(2) else play.new_id("call")
    kind = numbers.pick(KINDS)
    left_ms = play.now_ms() - numbers.pick((0, 0, 400, 5_000))
    report = Report(call, kind, left_ms, numbers.pick((None, None, 0, 700, 20_000)), "it said so")
    rates = gauges_of(API, None) if gate.startswith("api") else ()
    play.both(
        f"{gate} answers {call}: {kind}, {report.again_ms} ms",
        lambda side: side.limiter.gates.report(gate, report, agent="main", task=None, rates=rates),
    )


def probe(play: Play, numbers: Numbers) -> None:
    gate, request = numbers.pick(GATES), None
    if play.requests:
        request = numbers.recent(list(play.requests.values()))
    call = "call_other" if request is None else request.id
    play.both(f"{call} would be the probe of {gate}", lambda side: side.limiter.gates.probe(gate, call))
    if numbers.chance(4):
        play.both(f"{call} is not", lambda side: side.limiter.gates.unprobe(gate, call))


def pause(play: Play, numbers: Numbers) -> None:
    gate = numbers.pick(GATES)
    play.both(f"pause {gate}", lambda side: side.limiter.gates.pause(gate, "a person"))


def resume(play: Play, numbers: Numbers) -> None:
    service = numbers.pick(("api", "free"))
    rates = gauges_of(API, None) if service == "api" else ()
    play.both(f"resume {service}", lambda side: side.limiter.gates.resume(service, rates))


def look(play: Play, numbers: Numbers) -> None:
    """Errors: Disagreement."""
    model, engine = ({gate.name: gate for gate in side.limiter.gates.all()} for side in (play.model, play.engine))
    differ("the gates", model, engine)


ACTS: dict[Act, int] = {push_back: 4, probe: 3, pause: 1, resume: 3, look: 1}
