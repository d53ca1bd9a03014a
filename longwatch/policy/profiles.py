"""What is documented about the well-known services, used where the config leaves it out. The one place for it.

Rates of anthropic, openai and stripe depend on the account and are left to the config or to the answers' headers.
GitHub's points per minute are no limit here: a read counts one of them and a write five, which no rate of requests says.
"""

from dataclasses import dataclass, replace

from longwatch.policy.limits import KNOWN_SERVICES, Cap, Service

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Profile:
    """base_url: where the service is. The limits mean what they mean in `Service`; None: not documented."""

    base_url: str
    concurrency: int | None = None
    quota: Cap | None = None
    key_memory_ms: int | None = None


PROFILES = {
    "anthropic": Profile("https://api.anthropic.com"),
    "openai": Profile("https://api.openai.com/v1"),
    "stripe": Profile("https://api.stripe.com", key_memory_ms=24 * HOUR_MS),
    "github": Profile("https://api.github.com", concurrency=100, quota=Cap(5000, "hour")),
}
assert tuple(PROFILES) == KNOWN_SERVICES


def complete(service: Service) -> Service:
    """The service with what its profile knows filled in where it says nothing itself."""
    profile = PROFILES.get(service.name)
    if profile is None:
        return service
    return replace(
        service,
        concurrency=profile.concurrency if service.concurrency is None else service.concurrency,
        quota=service.quota or profile.quota,
        key_memory_ms=profile.key_memory_ms if service.key_memory_ms is None else service.key_memory_ms,
    )
