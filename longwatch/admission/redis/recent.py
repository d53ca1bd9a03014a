"""The calls of this process that may be asked for again, as they were admitted."""

from dataclasses import dataclass, field

from longwatch.admission.redis.usual import Usual, as_known
from longwatch.admission.redis.values import Known

REMEMBERED = 4_096  # at least, and twice as many at most, of which the older half is dropped as one


@dataclass
class Recent:
    """Safe in threads: one that drops calls while another keeps one may drop a few more."""

    new: dict[str, Known | Usual] = field(default_factory=dict[str, Known | Usual])
    old: dict[str, Known | Usual] = field(default_factory=dict[str, Known | Usual])

    def __contains__(self, call: str) -> bool:
        return call in self.new or call in self.old

    def keep(self, call: Known | Usual) -> None:
        if len(self.new) >= REMEMBERED:
            self.new, self.old = {}, self.new
        self.new[call.id] = call

    def find(self, call: str) -> Known | None:
        return as_known(self.new.get(call) or self.old.get(call))
