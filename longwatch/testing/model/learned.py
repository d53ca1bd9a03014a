"""What was learned as a dictionary; calls are those of the model's limiter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from longwatch.admission.learned import key_of
from longwatch.policy import learning
from longwatch.policy.learning import Key, Learned
from longwatch.policy.limits import Rate
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.told import Told

Left = Callable[[str, str, int], int]
"""How many calls of the service and model have left since an instant."""


@dataclass
class LearnedLimits:
    now_ms: Callable[[], int]
    left: Left
    known: dict[Key, Learned] = field(default_factory=dict[Key, Learned])

    def all(self) -> list[Learned]:
        return [self.known[key] for key in sorted(self.known)]

    def published(self, service: str, model: str, told: Sequence[Told], *, call: str, evidence: str) -> bool:
        changed = False
        for each in told:
            if each.rate is not None:
                key = key_of(service, model, each)
                before = self.known.get(key)
                found = learning.published(before, key, each.rate, evidence=evidence, now_ms=self.now_ms())
                changed = self._keep(before, found) or changed
        return changed

    def lowered(
        self, service: str, model: str, *, left_ms: int, most: Rate | None, call: str, evidence: str
    ) -> Learned | None:
        before = self.known.get((service, model, "requests"))
        counts = before or self.known.get((service, "", "requests"))
        if counts is not None and counts.source == "published":
            return None
        since_ms = self.now_ms() - learning.LATELY_MS if before is None else before.lowered_ms
        found = learning.lowered(
            before,
            (service, model, "requests"),
            passed=self.left(service, model, since_ms),
            most=most,
            left_ms=left_ms,
            evidence=evidence,
            now_ms=self.now_ms(),
        )
        self._keep(before, found)
        return found

    def raised(self, service: str, model: str, *, left_ms: int, most: Rate | None, call: str) -> bool:
        before = self.known.get((service, model, "requests"))
        if before is None:
            return False
        return self._keep(before, learning.raised(before, most=most, left_ms=left_ms, now_ms=self.now_ms()))

    def _keep(self, before: Learned | None, found: Learned) -> bool:
        if found == before:
            return False
        self.known[found.key] = found._replace(told=found.amount) if learning.is_material(found) else found
        return True


def held_back(meters: dict[str, Meter], floors: Mapping[str, int]) -> None:
    for name, free_us in floors.items():
        before = meters.get(name, NEW)
        if free_us > before.free_us:
            meters[name] = before._replace(free_us=free_us)
