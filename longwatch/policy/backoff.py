"""How long to wait before the next attempt: exponential, with jitter so that those who failed together part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """first_ms doubles with every attempt up to most_ms; half of each wait is drawn by chance."""

    first_ms: int = 2_000
    most_ms: int = 300_000

    def delay_ms(self, attempt: int, *, fraction: float) -> int:
        """Milliseconds before the attempt after number `attempt` (1 = the first). fraction: random in [0, 1)."""
        whole = min(self.most_ms, self.first_ms << min(max(attempt - 1, 0), 40))
        return whole // 2 + int(whole * fraction) // 2
