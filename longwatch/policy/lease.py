"""Who may write: exclusive leases on names, first come first served.

A lease covers one or several names and carries one fence. Several names are taken all or none, so two leases never
wait for each other over what they take at once. Whoever finds a name taken stands in line; a newcomer that would pass
somebody in line whose names it shares waits behind. A place in line is kept by asking again at least every
`SILENT_MS`: the dead and the stopped lose theirs, and hold nobody up.

A lease ends when it is released, runs out, or its owner is confirmed dead; the time is the fleet's steady clock. Run
out is lost: it cannot be renewed, even if nobody has taken the name yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from longwatch.errors import ConfigError

MODES = ("exclusive",)
SHORTEST_MS, LONGEST_MS = 50, 86_400_000
SILENT_MS = 1_000
ASK_MS = 250  # how often a place in line is confirmed
POLL_MS, POLL_MS_MAX = 10, 150
NAMES_MAX = 1_000


@dataclass(frozen=True)
class Holder:
    """Who asks. owner: random id of the process's open fleet, never a host name; task: None outside a run."""

    owner: str
    agent: str
    task: str | None = None


@dataclass(frozen=True)
class Claim:
    """Names that somebody holds, until `until_ms` on the fleet's clock, or stands in line for."""

    id: str
    agent: str
    task: str | None
    names: tuple[str, ...]
    until_ms: int


def conflicts(one: str, other: str) -> bool:
    """Whether two names may not be written at the same time. Names are exact: they do if they are equal."""
    return one == other


def blocking(names: Iterable[str], claims: Iterable[Claim]) -> Claim | None:
    """The first of the claims that keeps a lease on `names` from being taken."""
    wanted = tuple(names)
    return next((claim for claim in claims if _meet(wanted, claim.names)), None)


def poll_ms(place: int, fraction: float) -> int:
    """How long to wait before asking again, from the place in line (0: next) and a random fraction, for jitter."""
    return round(min(POLL_MS * (1 + 2 * place), POLL_MS_MAX) * (0.5 + fraction))


def beat_ms(ttl_ms: int) -> int:
    """How often a lease is renewed: two beats may fail before it runs out."""
    return max(1, ttl_ms // 3)


def refuse_odd(*, mode: str, ttl_ms: int, names: int) -> None:
    """Errors: ConfigError for another mode than exclusive, for an odd length, for more names than one lease takes."""
    if mode not in MODES:
        raise ConfigError(f"a lease cannot be {mode!r}", hint='The mode of a lease is "exclusive".')
    if not SHORTEST_MS <= ttl_ms <= LONGEST_MS:
        hint = f"A lease lasts {SHORTEST_MS} ms to 1 day; it is renewed by itself while its block is open."
        raise ConfigError(f"a lease cannot last {ttl_ms} ms", hint=hint)
    if names > NAMES_MAX:
        raise ConfigError(
            f"one lease cannot take {names} names", hint=f"Take at most {NAMES_MAX}, or one name for all."
        )


def _meet(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return any(conflicts(one, other) for one in ours for other in theirs)
