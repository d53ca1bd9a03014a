"""Caps of single tasks, as dictionaries: what a task has spent and holds is the sum over its calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longwatch.admission.calls import CallRequest
from longwatch.errors import ConfigError
from longwatch.policy.admission import Purse
from longwatch.policy.budget import Standing
from longwatch.policy.scope import task_caps

if TYPE_CHECKING:
    from longwatch.testing.model.limiter import Limiter


@dataclass
class TaskCaps:
    limiter: "Limiter"
    kept: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])  # amounts by dimension, by task

    def purses(self, request: CallRequest, needs: Mapping[str, int]) -> tuple[Purse, ...]:
        """What of them a call has to have room in. No batch sets anything aside of them."""
        task = request.charged_task
        return () if task is None else tuple(Purse(found, needs[found.dimension]) for found in self.all(task))

    def all(self, task: str) -> list[Standing]:
        caps = task_caps(task, sorted(self.kept.get(task, {}).items()))
        return [self.limiter.standing(cap, self.limiter.calendar_ms) for cap in caps]

    def move(self, task: str, amounts: Mapping[str, int], *, by: str, agent: str | None = None) -> dict[str, int]:
        before = dict(self.kept.get(task, {}))
        if not set(amounts) <= set(before):
            raise ConfigError(f"{task} has no such cap")
        self.kept[task] = before | dict(amounts)
        return before

    def close_over(self, *, limit: int = 500) -> int:
        """Nothing is kept that could be closed."""
        return 0
