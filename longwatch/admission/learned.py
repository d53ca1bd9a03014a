"""What answers have taught about limits, one state for the whole fleet. Each method is one transaction.

The row is read, decided about and written under the state's lock: of fifteen processes that bring the same news, one writes it.
"""

from collections.abc import Callable, Sequence

from longwatch.db.connection import Database, Row, Transaction
from longwatch.policy import learning
from longwatch.policy.learning import Key, Learned
from longwatch.policy.limits import Rate
from longwatch.policy.told import QUOTA, Told
from longwatch.store.journal import Journal

LOOK = 5_000  # of the last calls, how many are looked at to see how many left lately
EVIDENCE = 400  # letters


class LearnedLimits:
    """Safe in threads."""

    def __init__(self, database: Database, journal: Journal, flush: Callable[[], object]) -> None:
        """flush: has everything written down that this process knows of its calls."""
        self._database, self._journal, self._flush = database, journal, flush

    def all(self) -> list[Learned]:
        with self._database.read() as tx:
            return [Learned(*row) for row in tx.all("learned.every")]

    def published(self, service: str, model: str, told: Sequence[Told], *, call: str, evidence: str) -> bool:
        """An answer has said these limits; whether that was news."""
        changed = False
        with self._database.transaction(part="calls", durable=False) as tx:
            for each in told:
                if each.rate is not None:
                    key = key_of(service, model, each)
                    before = _read(tx, key)
                    found = learning.published(before, key, each.rate, evidence=evidence[:EVIDENCE], now_ms=tx.now_ms)
                    changed = self._keep(tx, before, found, call) or changed
        return changed

    def lowered(
        self, service: str, model: str, *, left_ms: int, most: Rate | None, call: str, evidence: str
    ) -> Learned | None:
        """A call was refused that left at this instant. The rate that is tried from now on; None: the provider says it.

        most: the configured rate of requests.
        """
        self._flush()
        key: Key = (service, model, "requests")
        with self._database.transaction(part="calls", durable=False) as tx:
            before = _read(tx, key)
            if _is_published(tx, before, service):
                return None
            since_ms = tx.now_ms - learning.LATELY_MS if before is None else before.lowered_ms
            row = tx.one("learned.lately", service=service, model=model, from_us=since_ms * 1000, look=LOOK)
            assert row is not None
            found = learning.lowered(
                before,
                key,
                passed=int(row.calls),
                most=most,
                left_ms=left_ms,
                evidence=evidence[:EVIDENCE],
                now_ms=tx.now_ms,
            )
            self._keep(tx, before, found, call)
        return found

    def raised(self, service: str, model: str, *, left_ms: int, most: Rate | None, call: str) -> bool:
        """A call that had to wait for the rate was answered; whether the rate is another one now."""
        key: Key = (service, model, "requests")
        with self._database.transaction(part="calls", durable=False) as tx:
            before = _read(tx, key)
            if before is None:
                return False
            found = learning.raised(before, most=most, left_ms=left_ms, now_ms=tx.now_ms)
            return self._keep(tx, before, found, call)

    def _keep(self, tx: Transaction, before: Learned | None, found: Learned, call: str) -> bool:
        """Write down what has changed, and tell the journal of it when it is much; whether anything has."""
        if found is before:
            return False
        if learning.is_material(found):
            facts: dict[str, object] = {
                "rate": found.amount,
                "per_ms": found.per_ms,
                "before": None if before is None else before.amount,
                "source": found.source,
                "evidence": found.evidence,
                "call": call,
            }
            found = found._replace(told=found.amount)
            subject = "/".join(part for part in found.key if part)
            self._journal.append(tx, "limit.learned", subject, agent=None, task=None, **facts)
        tx.count("learned.keep", **found._asdict())
        return True


def key_of(service: str, model: str, told: Told) -> Key:
    """A quota is the service's, whatever the model."""
    return service, "" if told.dimension == QUOTA else model, told.dimension


def _read(tx: Transaction, key: Key) -> Learned | None:
    service, model, dimension = key
    row: Row | None = tx.one("learned.by_key", service=service, model=model, dimension=dimension)
    return None if row is None else Learned(*row)


def _is_published(tx: Transaction, before: Learned | None, service: str) -> bool:
    """Whether the provider says what the limit is, of the model or else of the service."""
    counts = before or _read(tx, (service, "", "requests"))
    return counts is not None and counts.source == "published"
