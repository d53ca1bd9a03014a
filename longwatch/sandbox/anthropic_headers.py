"""What Anthropic's answers say of its rate limits."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from longwatch.sandbox.exchange import Headers, Instant
from longwatch.sandbox.quota import Bucket


def limit_headers(buckets: Mapping[str, Bucket], now: Instant) -> Headers:
    """`tokens` is input and output together."""
    states = {name: _state(bucket, now) for name, bucket in buckets.items()}
    both = [states[name] for name in ("input-tokens", "output-tokens") if name in states]
    if both:
        states["tokens"] = State(
            sum(state.limit for state in both),
            sum(state.remaining for state in both),
            max(state.full_ms for state in both),
        )
    return [header for name, state in states.items() for header in _limit_headers(name, state)]


class State(NamedTuple):
    """A bucket as its headers tell it; `full_ms` is the epoch instant at which it is full again."""

    limit: int
    remaining: int
    full_ms: int


def _state(bucket: Bucket, now: Instant) -> State:
    return State(bucket.rate.amount, bucket.remaining(now.ns), now.epoch_ms + bucket.full_ns(now.ns) // 1_000_000)


def _limit_headers(name: str, state: State) -> Headers:
    """limit, remaining (tokens to the nearest thousand) and reset, RFC 3339."""
    remaining = state.remaining if name == "requests" else round(state.remaining, -3)
    reset = datetime.fromtimestamp(-(-state.full_ms // 1_000), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    prefix = f"anthropic-ratelimit-{name}-".encode()
    return [
        (prefix + b"limit", b"%d" % state.limit),
        (prefix + b"remaining", b"%d" % remaining),
        (prefix + b"reset", reset.encode()),
    ]
