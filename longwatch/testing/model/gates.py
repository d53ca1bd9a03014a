"""Gates as a dictionary; the meters that enforce them are those of the model's limiter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from longwatch.policy import breaker
from longwatch.policy.breaker import Gate, Report, gate_us
from longwatch.policy.meter import NEW, Meter, span_us, usable_burst
from longwatch.policy.scope import Gauge, gate_gauge


@dataclass
class Gates:
    now_ms: Callable[[], int]
    meters: dict[str, Meter]
    moved: dict[str, Gate] = field(default_factory=dict[str, Gate])

    def report(
        self, gate: str, report: Report, *, agent: str, task: str | None, rates: Sequence[Gauge] = ()
    ) -> Gate | None:
        before = self._gate(gate)
        found = self._keep(before, breaker.after(before, report, now_ms=self.now_ms()), rates)
        return None if found.version == before.version else found

    def probe(self, gate: str, call: str) -> int | Gate | None:
        found = breaker.probing(self._gate(gate), call, now_ms=self.now_ms())
        if isinstance(found, Gate):
            self.moved[gate] = found
        return found

    def unprobe(self, gate: str, call: str) -> None:
        before = self._gate(gate)
        self._keep(before, breaker.unprobed(before, call), ())

    def pause(self, gate: str, reason: str) -> Gate:
        before = self._gate(gate)
        return self._keep(before, breaker.paused(before, reason, now_ms=self.now_ms()), ())

    def resume(self, service: str, rates: Sequence[Gauge] = ()) -> list[Gate]:
        mine = [gate for name, gate in sorted(self.moved.items()) if service in (name, name.partition("/")[0])]
        return [
            self._keep(gate, breaker.resumed(gate, now_ms=self.now_ms()), rates)
            for gate in mine
            if gate.state != "closed"
        ]

    def all(self) -> list[Gate]:
        return [self.moved[name] for name in sorted(self.moved)]

    def _gate(self, name: str) -> Gate:
        return self.moved.get(name, Gate(name))

    def _keep(self, before: Gate, found: Gate, rates: Sequence[Gauge]) -> Gate:
        if found == before:
            return found
        self.moved[found.name] = found
        if found.version != before.version:
            self.meters[gate_gauge(found.name).meter] = Meter(gate_us(found), 0, found.version)
        if found.version != before.version and found.state == "closed":
            for gauge in rates:
                free_us = self.now_ms() * 1000 + span_us(gauge.rate, usable_burst(gauge.rate))
                meter = self.meters.get(gauge.meter, NEW)
                self.meters[gauge.meter] = meter._replace(free_us=max(meter.free_us, free_us))
        return found
