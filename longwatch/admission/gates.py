"""The gates of services that have pushed back, one state for the whole fleet. Each method is one transaction."""

from collections.abc import Callable, Sequence

from longwatch.db.connection import Database, Row, Transaction
from longwatch.errors import ServicePaused
from longwatch.policy import breaker
from longwatch.policy.breaker import Gate, Report, gate_us
from longwatch.policy.meter import Meter, span_us, usable_burst
from longwatch.policy.scope import Gauge, gate_gauge
from longwatch.store.journal import Journal

Slowed = Callable[[dict[str, Meter], dict[str, int]], None]
"""What an engine beside the state is told: meters of gates as they are now, and meters that give no slot before an instant."""


class Gates:
    """Safe in threads."""

    def __init__(self, database: Database, journal: Journal, tell: Slowed) -> None:
        self._database, self._journal, self._tell = database, journal, tell

    def report(
        self, gate: str, report: Report, *, agent: str, task: str | None, rates: Sequence[Gauge] = ()
    ) -> Gate | None:
        """A call through the gate has ended. rates: its service's, which begin without a burst once the gate closes.

        The gate, if that has moved it.
        """
        with self._database.transaction(part="calls", durable=False) as tx:
            before = self._read(tx, gate)
            found = breaker.after(before, report, now_ms=tx.now_ms)
            slowed = self._keep(tx, before, found, rates, call=report.call, agent=agent, task=task)
        self._told(before, found, slowed)
        return None if found.version == before.version else found

    def probe(self, gate: str, call: str) -> int | Gate | None:
        """This call goes through the gate as its probe (the gate); or when to ask again (steady ms); or it is not open."""
        with self._database.transaction(part="calls", durable=False) as tx:
            before = self._read(tx, gate)
            found = breaker.probing(before, call, now_ms=tx.now_ms)
            if isinstance(found, Gate):
                self._write(tx, found)
            if found is None:
                before = self._mended(tx, before)
        if found is None and before.version:
            self._tell({gate_gauge(gate).meter: meter_of(before)}, {})
        return found

    def unprobe(self, gate: str, call: str) -> None:
        """The probe never left."""
        with self._database.transaction(part="calls", durable=False) as tx:
            before = self._read(tx, gate)
            found = breaker.unprobed(before, call)
            if found is not before:
                self._write(tx, found)

    def pause(self, gate: str, reason: str) -> Gate:
        """No call leaves through the gate until somebody resumes it."""
        with self._database.transaction(part="calls") as tx:
            before = self._read(tx, gate)
            found = breaker.paused(before, reason, now_ms=tx.now_ms)
            slowed = self._keep(tx, before, found, ())
        self._told(before, found, slowed)
        return found

    def resume(self, service: str, rates: Sequence[Gauge] = ()) -> list[Gate]:
        """The service's gates and those of its models are closed, whatever shut them; those that were not before."""
        moved: list[tuple[Gate, Gate, dict[str, int]]] = []
        with self._database.transaction(part="calls") as tx:
            for before in map(gate_of_row, tx.all("gate.every")):
                found = breaker.resumed(before, now_ms=tx.now_ms)
                if found is not before and service in (before.name, before.name.partition("/")[0]):
                    moved.append((before, found, self._keep(tx, before, found, rates)))
        for each in moved:
            self._told(*each)
        return [found for _, found, _ in moved]

    def find(self, gate: str) -> Gate:
        """As it stands; closed, if it never moved."""
        with self._database.read() as tx:
            return self._read(tx, gate)

    def all(self) -> list[Gate]:
        """Those that ever moved."""
        with self._database.read() as tx:
            return [gate_of_row(row) for row in tx.all("gate.every")]

    # -- one gate ----------------------------------------------------------------------------------------------------------

    def _read(self, tx: Transaction, gate: str) -> Gate:
        row = tx.one("gate.by_name", name=gate)
        return Gate(gate) if row is None else gate_of_row(row)

    def _keep(
        self,
        tx: Transaction,
        before: Gate,
        found: Gate,
        rates: Sequence[Gauge],
        *,
        call: str | None = None,
        agent: str | None = None,
        task: str | None = None,
    ) -> dict[str, int]:
        """Write the gate down, and what its meters make of it; the rates that begin without a burst."""
        if found == before:
            return {}
        self._write(tx, found)
        if found.version == before.version:
            return {}
        tx.count("gate.bar", **_bar(found))
        slowed = _ramp(rates, tx.now_ms) if found.state == "closed" else {}
        for meter, free_us in slowed.items():
            tx.count("gate.slow", name=meter, free_us=free_us)
        if found.state != before.state or found.failures != before.failures:
            facts = {"reason": found.reason, "failures": found.failures, "call": call}
            until_ms = None if found.until_ms is None else found.until_ms - tx.now_ms
            self._journal.append(
                tx, f"service.{found.state}", found.name, agent=agent, task=task, wait_ms=until_ms, **facts
            )
        return slowed

    def _mended(self, tx: Transaction, gate: Gate) -> Gate:
        """Whoever asked was kept back by a gate that is closed: its meter is of another history, or was never told."""
        row = tx.one("gate.meter", name=gate_gauge(gate.name).meter)
        if row is None or row.free_us == gate_us(gate):
            return gate
        found = gate._replace(version=max(gate.version, row.total) + 1)
        self._write(tx, found)
        tx.count("gate.bar", **_bar(found))
        return found

    def _write(self, tx: Transaction, gate: Gate) -> None:
        tx.count("gate.keep", **gate._asdict())

    def _told(self, before: Gate, found: Gate, slowed: dict[str, int]) -> None:
        """Also where nothing moved and the gate is not closed: whoever moved it may have died before the engine was told."""
        if found.version != before.version or found.state != "closed":
            self._tell({gate_gauge(found.name).meter: meter_of(found)}, slowed)


def gate_of_row(row: Row) -> Gate:
    return Gate(*row)


def meter_of(gate: Gate) -> Meter:
    return Meter(gate_us(gate), 0, gate.version)


def _bar(gate: Gate) -> dict[str, str | int]:
    meter = meter_of(gate)
    return {"name": gate_gauge(gate.name).meter, "free_us": meter.free_us, "total": meter.total}


def _ramp(rates: Sequence[Gauge], now_ms: int) -> dict[str, int]:
    """By meter, the instant from which it has its whole burst again, beginning with none."""
    return {gauge.meter: now_ms * 1000 + span_us(gauge.rate, usable_burst(gauge.rate)) for gauge in rates}


def shut(gate: Gate, *, now_ms: int) -> ServicePaused:
    """Why nothing leaves through the gate. now_ms: the fleet's clock."""
    service, _, _ = gate.name.partition("/")
    hint = f"longwatch service resume {service}"
    if gate.state == "parked" and gate.until_ms is not None:
        message = f"{gate.name} takes no more calls: what may be spent there is spent.\n  it said: {gate.reason}."
        retry_after = max(0, gate.until_ms - now_ms) / 1000
        return ServicePaused(message, hint=f"Raise the cap at {service}, then: {hint}", retry_after=retry_after)
    return ServicePaused(f"{gate.name} was paused by a person.\n  why: {gate.reason or 'not said'}.", hint=hint)
