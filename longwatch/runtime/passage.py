"""How one call goes through its gates: held back while its service pushes back, or let through as the probe."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.gates import shut
from longwatch.errors import ServicePaused, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.answer import Verdict, answer_of, judge
from longwatch.policy.breaker import FIRST_MS, SHUT, Gate, Kind, Report, keeps_back
from longwatch.policy.scope import gates_of
from longwatch.policy.told import Told, of_a_rate, told_by
from longwatch.policy.unsent import proves_unsent
from longwatch.runtime.lessons import Lessons, words
from longwatch.runtime.loop import Retry
from longwatch.runtime.persist import persist

if TYPE_CHECKING:
    from longwatch.admission.limiter import Limiter
    from longwatch.runtime.world import World

logger = logging.getLogger("longwatch")

FRESH_MS = 50  # what this process has seen of the gates is believed for so long, by a call that has waited for its slot
KINDS: dict[str, Kind] = {"limited": "limited", "spent": "spent", "busy": "ok", "refused": "ok", "ok": "ok"}


class Seen:
    """The gates that are not closed, as one process sees them. Safe in threads."""

    def __init__(self, world: "World", limiter: "Limiter") -> None:
        self._world, self._limiter = world, limiter
        self._guard = threading.Lock()
        self._gates: dict[str, Gate] = {}
        self._read_ms = -FRESH_MS

    def of(self, request: CallRequest) -> list[Gate]:
        with self._guard:
            if self._world.steady_ms() - self._read_ms >= FRESH_MS:
                found = self._limiter.gates.all()
                self._gates = {gate.name: gate for gate in found if gate.state != "closed"}
                self._read_ms = self._world.steady_ms()
            return [self._gates[name] for name in gates_of(request.service, request.model) if name in self._gates]


class Passage:
    """Of one call. probe: the gate that it goes through as the probe."""

    def __init__(self, world: "World", limiter: "Limiter", seen: Seen, request: CallRequest, lessons: Lessons) -> None:
        self._world, self._limiter, self._seen, self.request = world, limiter, seen, request
        self._lessons = lessons
        self.probe: str | None = None
        self._reported = False
        self._told: tuple[Told, ...] = ()
        self._headers: Mapping[str, str] = {}

    def ask(self, request: CallRequest) -> Admitted | Later:
        """As `Limiter.admit`, past the gate that it is the probe of; as a probe, if a service is parked and one is due."""
        self._lessons.heed()
        while True:
            try:
                return persist(partial(self._limiter.admit, replace(request, past=self.probe)))
            except ServicePaused:
                if not self._probes_parked():
                    raise

    def _probes_parked(self) -> bool:
        mine = gates_of(self.request.service, self.request.model)
        parked = [gate.name for gate in self._limiter.gates.all() if gate.name in mine and gate.state == "parked"]
        return any(self.becomes_probe(name) is None and self.probe == name for name in parked)

    def becomes_probe(self, gate: str) -> Retry | None:
        """None: it does, or the gate is closed: ask at once. Else when to try again."""
        found = persist(lambda: self._limiter.gates.probe(gate, self.request.id))
        if isinstance(found, int):
            return Retry(found - self._limiter.database.offset_ms)
        if found is not None:
            self.give_up()
            self.probe = gate
        return None

    def held_back(self) -> Retry | None:
        """Of a call that has waited for its slot: a gate has moved since. None: nothing holds it back.

        Errors: ServicePaused.
        """
        now_ms = self._fleet_ms()
        for gate in self._seen.of(self.request):
            if gate.name == self.probe or not keeps_back(gate, now_ms=now_ms):
                continue
            if gate.state in SHUT:
                raise shut(gate, now_ms=now_ms)
            if gate.state == "cooling" and gate.until_ms is not None:
                return Retry(gate.until_ms - self._limiter.database.offset_ms)
            if gate.state == "open" and (wait := self.becomes_probe(gate.name)) is not None:
                return wait
        return None

    def give_up(self) -> None:
        """It never left: somebody else may be the probe."""
        if self.probe is not None:
            gate, self.probe = self.probe, None
            self._quietly(lambda: self._limiter.gates.unprobe(gate, self.request.id))

    # -- what became of it -------------------------------------------------------------------------------------------------

    def answered(self, verdict: Verdict, *, left_ms: int, reason: str = "") -> None:
        """The service has answered. left_ms: when the call left, steady of this process."""
        self.tell()
        kind = KINDS.get(verdict.kind, "overloaded" if verdict.certain else "failed")
        again_ms = verdict.again_ms
        if kind == "limited" and self._slower(left_ms, reason or verdict.kind) and again_ms is None:
            again_ms = FIRST_MS  # whoever comes next comes more slowly
        self._report(kind, left_ms, again_ms, reason or verdict.kind)

    def hear(self, headers: Mapping[str, str], profile: str | None = None) -> bool:
        """What an answer says of limits is kept; whether there is anything to `tell`. profile: of its provider."""
        self._told = told_by(profile or self.request.service, headers, wall_ms=self._world.wall_ms())
        self._headers = headers
        return self._lessons.is_news(self.request, self._told)

    def tell(self) -> None:
        """What was heard, as far as the fleet does not know it."""
        if self._told:
            self._lessons.tell(self.request, self._told, words(self._headers))

    def _slower(self, left_ms: int, reason: str) -> bool:
        """Whether what is refused here makes the whole fleet slower."""
        if self._reported or not of_a_rate(self._headers):
            return False
        left_ms += self._limiter.database.offset_ms
        return self._lessons.refused(self.request, self._told, left_ms=left_ms, reason=reason)

    def failed(self, *, left_ms: int, reason: str) -> None:
        """It could not be reached, or did not answer."""
        self._report("failed", left_ms, None, reason)

    def succeeded(self, *, left_ms: int) -> None:
        if self.probe is not None:
            self._report("ok", left_ms, None, "")

    def ended(self, error: BaseException | None, *, left_ms: int, waited: bool) -> None:
        """The block has ended, and nobody may have told what the service answered. An SDK's error says it by itself.

        waited: for its slot.
        """
        if error is None:
            self.succeeded(left_ms=left_ms)
            if waited and not self._reported:
                self._lessons.answered(self.request, left_ms=left_ms + self._limiter.database.offset_ms)
        elif not self._reported and (answer := answer_of(error)) is not None:
            self.hear(answer[1])
            self.answered(self.judge(*answer), left_ms=left_ms, reason=f"{answer[0]} {type(error).__name__}")
        elif proves_unsent(error):
            self.failed(left_ms=left_ms, reason=type(error).__name__)
        self.give_up()

    def judge(self, status: int, headers: Mapping[str, str], code: str) -> Verdict:
        return judge(self.request.service, status, headers, code=code, wall_ms=self._world.wall_ms())

    def _report(self, kind: Kind, left_ms: int, again_ms: int | None, reason: str) -> None:
        if self._reported or (kind == "ok" and self.probe is None):
            return
        self._reported = True
        request = self.request
        gate = request.service if kind == "spent" else gates_of(request.service, request.model)[-1]
        left_ms += self._limiter.database.offset_ms
        report = Report(request.id, kind, left_ms, again_ms, reason)
        told = (self.probe,) if kind == "ok" else (self.probe, gate)
        for name in dict.fromkeys(each for each in told if each is not None):
            self._quietly(lambda name=name: self._tell(name, report))  # type: ignore[misc]

    def _tell(self, gate: str, report: Report) -> None:
        request = self.request
        rates = self._limiter.rates_of(request.service, request.model)
        found = persist(
            lambda: self._limiter.gates.report(gate, report, agent=request.agent, task=request.task, rates=rates)
        )
        if found is not None and found.state in ("open", "parked"):
            logger.warning("%s is %s: %s", gate, found.state, found.reason)

    def _quietly(self, write: Callable[[], None]) -> None:
        """What a gate does not learn now, the next call that fails tells it."""
        try:
            write()
        except StoreUnavailable as error:
            logger.warning("what a service answered could not be told to the fleet: %s", error)

    def _fleet_ms(self) -> int:
        return self._world.steady_ms() + self._limiter.database.offset_ms
