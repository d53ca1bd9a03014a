"""The provider answers 529 to everything for a while, under a fleet at work: what fails, what is wasted, who is back when.

Each task is one message of half a second. Three seconds after the start comes the outage; the speed of the second before it
is the full one, and the fleet is back once a second holds nine tenths of it. How long after the outage it is asked again is a
matter of how much may be wasted; once it has answered, full speed is a matter of two seconds.

SDK defaults         the client's own two retries; what they do not reach is a task that failed
per-process backoff  the client without retries in a loop that doubles its wait from half a second to a minute and never
                     gives up, as most people write it
Longwatch            the client, wrapped
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from anthropic import Anthropic, APIError

from bench._limits_crew import Crew, Start, shared
from bench._limits_rivals import Place, opened
from longwatch.errors import LongwatchError
from longwatch.sandbox.client import Sandbox
from longwatch.sandbox.tally import Event

MODEL = "claude-haiku-4-5"
SERVICES = {"anthropic": {"rate": "4000/min"}}  # as the sandbox allows
LATENCY_MS, JITTER_MS = 400, 200
BEFORE_S = 3.0
BACK = 0.9
FIRST_S, MOST_S = 0.5, 60.0  # of per-process backoff
BAR_WASTED, BAR_RAMP_S = 6, 2.0
Ask = Callable[[str], object]


def client(place: Place, retries: int | None = None) -> Anthropic:
    made = Anthropic(base_url=place.api, api_key="sk-ant-sandbox")
    return made if retries is None else made.with_options(max_retries=retries)


def message(made: Anthropic, text: str) -> object:
    return made.messages.create(model=MODEL, max_tokens=16, messages=[{"role": "user", "content": text}])


def sdk(place: Place) -> Ask:
    made = client(place)
    return lambda text: message(made, text)


def backoff(place: Place) -> Ask:
    made = client(place, retries=0)

    def ask(text: str) -> object:
        wait_s = FIRST_S
        while True:
            try:
                return message(made, text)
            except APIError:
                time.sleep(wait_s * random.uniform(0.5, 1))
                wait_s = min(MOST_S, 2 * wait_s)

    return ask


def longwatch(place: Place) -> Ask:
    made = opened(place).wrap(client(place))
    return lambda text: message(made, text)


HOMEMADE: dict[str, Callable[[Place], Ask]] = {"SDK defaults": sdk, "per-process backoff": backoff}


def work(start: Start, name: str, place: Place, slot: int, tasks: int) -> Counter[str]:
    """How many of the tasks failed, by the error."""
    ask = HOMEMADE.get(name, longwatch)(place)
    failed = Counter[str]()
    start()
    for number in range(tasks):
        try:
            ask(f"{slot} {number}")
        except (APIError, LongwatchError) as error:
            failed[type(error).__name__] += 1
    return failed


@dataclass(frozen=True)
class Row:
    """failed: by error. wasted: calls that were answered with 529. back_s: from the end of the outage to full speed; ramp_s:
    from the first answer after it. None: never again."""

    rival: str
    tasks: int
    failed: dict[str, int]
    wasted: int
    back_s: float | None
    ramp_s: float | None
    total_s: float

    def values(self) -> tuple[object, ...]:
        back, ramp = ("never" if each is None else each for each in (self.back_s, self.ramp_s))
        return self.rival, self.tasks, sum(self.failed.values()), self.wasted, back, ramp, self.total_s


COLUMNS = ("rival", "tasks", "failed", "wasted", "back s", "ramp s", "total s")


def measure(sandbox: Sandbox, name: str, place: Place, *, tasks: int, outage_s: float) -> Row:
    sandbox.reset()
    sandbox.limits(anthropic={"latency_ms": LATENCY_MS, "jitter_ms": JITTER_MS})
    given = [(name, place, slot, share) for slot, share in enumerate(shared(tasks, place.processes))]
    with Crew(work, given) as crew:
        begun_s = crew.begin()
        time.sleep(max(0.0, begun_s + BEFORE_S - time.monotonic()))
        sandbox.faults([{"service": "anthropic", "kind": "status", "status": 529, "seconds": outage_s}])
        fell_ms = time.time() * 1000
        failed = sum(crew.answers(), Counter[str]())
        total_s = time.monotonic() - begun_s
    events, over_ms = sandbox.events(), fell_ms + outage_s * 1000
    back = back_s(events, fell_ms=fell_ms, over_ms=over_ms)
    first_ms = min((event.t_ms for event in events if event.status == 200 and event.t_ms >= over_ms), default=over_ms)
    return Row(
        rival=name,
        tasks=tasks,
        failed=dict(failed),
        wasted=sum(event.status == 529 for event in events),
        back_s=back,
        ramp_s=None if back is None else round(back - (first_ms - over_ms) / 1000, 2),
        total_s=round(total_s, 1),
    )


def back_s(events: list[Event], *, fell_ms: float, over_ms: float) -> float | None:
    """Seconds from the end of the outage to the first second at full speed."""
    good_ms = [event.t_ms for event in events if event.status == 200]
    full = sum(fell_ms - 1000 <= at_ms < fell_ms for at_ms in good_ms)
    for from_ms in (at_ms for at_ms in good_ms if at_ms >= over_ms):
        if sum(from_ms <= at_ms < from_ms + 1000 for at_ms in good_ms) >= BACK * full:
            return round((from_ms - over_ms) / 1000, 2)
    return None


def bars(rows: list[Row]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for one in rows:
        if one.rival not in HOMEMADE:
            why = ", ".join(f"{times} x {kind}" for kind, times in one.failed.items()) or "none"
            found[f"{one.rival}: no task fails ({why})"] = not one.failed
            found[f"{one.rival}: at most {BAR_WASTED} calls wasted ({one.wasted})"] = one.wasted <= BAR_WASTED
            ramp = one.ramp_s is not None and one.ramp_s <= BAR_RAMP_S
            found[f"{one.rival}: full speed {BAR_RAMP_S:.0f} s after the first answer ({one.ramp_s})"] = ramp
    return found
