"""What came in and what it cost: counts, the bill, and a bounded log of events.

Statuses are what the client could see: 0 stands for a reply that was dropped. Every request is in the counts for ever; the
event log keeps the last EVENTS_MAX.
"""

from collections import Counter, deque
from typing import Any, NamedTuple

SERVICES = ("anthropic", "openai", "stripe", "github")
EVENTS_MAX = 200_000
KEY_CHARACTERS_MAX = 24


class Event(NamedTuple):
    """One answered request. `t_ms` is epoch milliseconds of a clock that never steps."""

    seq: int
    t_ms: int
    service: str
    status: int
    cost_micros: int


class Account:
    """What one service has charged."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.micros = 0
        self.keys: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def charge(self, key: str, model: str, micros: int) -> None:
        self.micros += micros
        self.keys[shortened(key)] += micros
        self.models[model] += micros

    def report(self) -> dict[str, Any]:
        return {
            "currency": self.currency,
            "micros": self.micros,
            "keys": dict(self.keys),
            "models": dict(self.models),
        }


class Tally:
    """Counts, accounts and events of all services."""

    def __init__(self, currencies: dict[str, str]) -> None:
        self.accounts = {service: Account(currency) for service, currency in currencies.items()}
        self._counts: dict[str, Counter[tuple[str, int]]] = {service: Counter() for service in currencies}
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._seq = 0

    def record(self, service: str, endpoint: str, status: int, *, t_ms: int, cost_micros: int) -> None:
        self._counts[service][endpoint, status] += 1
        self._events.append(Event(self._seq, t_ms, service, status, cost_micros))
        self._seq += 1

    def counts(self) -> dict[str, Any]:
        return {service: _sums(counts) for service, counts in self._counts.items()}

    def bill(self) -> dict[str, Any]:
        return {service: account.report() for service, account in self.accounts.items()}

    def events(self, since: int) -> dict[str, Any]:
        """Events from number `since` on, and the number to ask for next."""
        kept_from = self._seq - len(self._events)
        skipped = max(0, since - kept_from)
        return {"events": list(self._events)[skipped:], "next": self._seq, "lost": max(0, kept_from - since)}


def shortened(key: str) -> str:
    """A key as the bill names it: dummies in full, anything as long as a real key by its ends only."""
    return key if len(key) <= KEY_CHARACTERS_MAX else f"{key[:8]}...{key[-4:]}"


def _sums(counts: Counter[tuple[str, int]]) -> dict[str, Any]:
    statuses: Counter[str] = Counter()
    endpoints: dict[str, dict[str, int]] = {}
    for (endpoint, status), count in counts.items():
        statuses[str(status)] += count
        endpoints.setdefault(endpoint, {})[str(status)] = count
    return {"requests": counts.total(), "statuses": dict(statuses), "endpoints": endpoints}
