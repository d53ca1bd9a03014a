"""What a provider says of its limits in the headers of an answer, by profile.

anthropic: a token bucket a minute for each dimension, all documented per minute. openai: the same for requests and for tokens
of prompt and answer together, which input tokens alone can never pass; where a reset says that requests come back within
a day and not within a minute, their limit is one per day. github: a window of an hour, from its first use to its reset. stripe
publishes nothing. generic: the names that other services agree on, with the window where they say it (`;w=60`).

What cannot be is not believed: a count that is no number or negative, a limit of none, more remaining than the limit, an
instant that has passed or is more than a day away.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from longwatch.policy.limits import Rate
from longwatch.policy.meter import span_us, usable_burst

QUOTA = "quota"  # as a dimension: requests per window of an hour or a day, which may be used up at once
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LONG_MS = 600_000  # what a longer window gives may be used up at once
MOST = 10**9
EPOCH_S = 10**9  # a reset above it is an instant, below it seconds from now

ANTHROPIC = {"requests": "requests", "input-tokens": "input_tokens", "output-tokens": "output_tokens"}
OPENAI = {"requests": "requests", "tokens": "input_tokens"}
GENERIC = ("ratelimit", "x-ratelimit", "x-rate-limit")
OF_ONE_OBJECT = ("global-concurrency", "endpoint-concurrency", "resource-specific")  # Stripe's reasons that are no rate
COUNT = re.compile(r"\d{1,15}", re.ASCII)
PART = r"(\d{1,9}(?:\.\d{1,9})?)"
DURATION = re.compile(rf"(?:(\d{{1,6}})h)?(?:(\d{{1,6}})m(?!s))?(?:{PART}s)?(?:{PART}ms)?", re.ASCII)
PARAMETER = re.compile(r";\s*([a-z]+)\s*=\s*(\d{1,15})", re.ASCII)


class Told(NamedTuple):
    """Of one dimension. rate: the limit, None: not said. remaining: units. resets_ms: from now until all of it is back.

    whole: it comes back at that instant, and nothing before; else little by little.
    """

    dimension: str
    rate: Rate | None
    remaining: int | None = None
    resets_ms: int | None = None
    whole: bool = False


def told_by(profile: str, headers: Mapping[str, str], *, wall_ms: int) -> tuple[Told, ...]:
    """wall_ms: now, by the calendar. Never raises; what is not there or cannot be is left out."""
    if profile == "stripe":
        return ()
    said = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    return tuple(PROFILES.get(profile, _generic)(said, wall_ms))


def of_a_rate(headers: Mapping[str, str]) -> bool:
    """Whether a 429 is about how fast calls come: not where it names one object, or how many are open."""
    said = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    return said.get("stripe-rate-limited-reason") not in OF_ONE_OBJECT


def floor_us(told: Told, rate: Rate, *, now_us: int) -> int | None:
    """Where the meter of this rate has to stand at least; None: it says nothing.

    No more leaves at once than remains, and where nothing does before a whole window's reset, nothing leaves before it. What
    the meter gives back between two answers is soon taken away again by the next one.
    """
    if told.remaining is None or told.remaining >= usable_burst(rate):
        return None
    begins_us = now_us
    if told.whole and told.remaining == 0:
        if told.resets_ms is None:
            return None
        begins_us += told.resets_ms * 1000
    return begins_us + span_us(rate, usable_burst(rate) - told.remaining)


def _anthropic(said: Mapping[str, str], wall_ms: int) -> list[Told]:
    """The combined limit of tokens is that of its parts. The reset is not needed: a bucket fills at its rate."""
    found: list[Told] = []
    for name, dimension in ANTHROPIC.items():
        prefix = f"anthropic-ratelimit-{name}"
        limit, remaining = _amounts(said.get(f"{prefix}-limit"), said.get(f"{prefix}-remaining"))
        if limit is not None:
            found.append(Told(dimension, _per_minute(limit, dimension), remaining))
    return found


def _openai(said: Mapping[str, str], wall_ms: int) -> list[Told]:
    found: list[Told] = []
    for name, dimension in OPENAI.items():
        limit, remaining = _amounts(said.get(f"x-ratelimit-limit-{name}"), said.get(f"x-ratelimit-remaining-{name}"))
        if limit is None:
            continue
        resets_ms = _duration_ms(said.get(f"x-ratelimit-reset-{name}"))
        if dimension == "requests" and _is_daily(limit, remaining, resets_ms):
            found.append(Told(QUOTA, Rate(limit, DAY_MS, limit), remaining))
        else:
            found.append(Told(dimension, _per_minute(limit, dimension), remaining))
    return found


def _github(said: Mapping[str, str], wall_ms: int) -> list[Told]:
    """Search and GraphQL have windows of their own, which are not those of the other requests."""
    if said.get("x-ratelimit-resource", "core") != "core":
        return []
    limit, remaining = _amounts(said.get("x-ratelimit-limit"), said.get("x-ratelimit-remaining"))
    if limit is None:
        return []
    resets_ms = _reset_ms(said.get("x-ratelimit-reset"), wall_ms)
    rate = Rate(limit, HOUR_MS, limit)
    return [Told(QUOTA, rate, None if resets_ms is None else remaining, resets_ms, whole=True)]


def _generic(said: Mapping[str, str], wall_ms: int) -> list[Told]:
    """Of several names the first that says something; of several windows the first."""
    if "ratelimit" in said:
        policy, left = _parameters(said.get("ratelimit-policy")), _parameters(said["ratelimit"])
        return _windowed(policy.get("q"), left.get("r"), policy.get("w"), left.get("t"), wall_ms)
    for name in GENERIC:
        limit = said.get(f"{name}-limit", "")
        if limit:
            window_s = _parameters(limit).get("w") or _parameters(said.get(f"{name}-policy")).get("w")
            amount = re.split("[,;]", limit)[0].strip()
            return _windowed(amount, said.get(f"{name}-remaining"), window_s, said.get(f"{name}-reset"), wall_ms)
    return []


def _windowed(limit: str | None, left: str | None, window_s: str | None, reset: str | None, wall_ms: int) -> list[Told]:
    amount, remaining = _amounts(limit, left)
    if amount is None:
        return []
    resets_ms = _reset_ms(reset, wall_ms)
    remaining = None if resets_ms is None else remaining
    per_ms = (_count(window_s) or 0) * 1000
    if not 0 < per_ms <= DAY_MS:
        return [Told("requests", None, remaining, resets_ms, whole=True)]
    if per_ms >= LONG_MS:
        return [Told(QUOTA, Rate(amount, per_ms, amount), remaining, resets_ms, whole=True)]
    return [Told("requests", Rate(amount, per_ms, max(1, amount * 1000 // per_ms)), remaining, resets_ms, whole=True)]


Read = Callable[[Mapping[str, str], int], list[Told]]
PROFILES: dict[str, Read] = {"anthropic": _anthropic, "openai": _openai, "github": _github, "generic": _generic}


def _per_minute(limit: int, dimension: str) -> Rate:
    """As a rate of the config is read: requests may be enforced by the second, tokens are used up by few big calls."""
    return Rate(limit, MINUTE_MS, max(1, limit // 60) if dimension == "requests" else limit)


def _is_daily(limit: int, remaining: int | None, resets_ms: int | None) -> bool:
    """Whether what was used comes back as slowly as a day's limit does: nearer to a day than to a minute."""
    if remaining is None or resets_ms is None or remaining >= limit:
        return False
    return resets_ms * limit > (limit - remaining) * math.isqrt(MINUTE_MS * DAY_MS)


def _amounts(limit: str | None, remaining: str | None) -> tuple[int | None, int | None]:
    """Both, or neither when one of them cannot be. A limit may come alone."""
    most = _count(limit)
    if most is None or not 1 <= most <= MOST:
        return None, None
    if remaining is None:
        return most, None
    left = _count(remaining)
    return (None, None) if left is None or left > most else (most, left)


def _count(said: str | None) -> int | None:
    return int(said) if said is not None and COUNT.fullmatch(said) else None


def _parameters(said: str | None) -> dict[str, str]:
    """Of the first policy in a list: `"default";q=100;w=60`, `100;w=60`, `100, 100;w=60`."""
    found: dict[str, str] = {}
    for name, value in PARAMETER.findall(said or ""):
        found.setdefault(name, value)
    return found


def _reset_ms(said: str | None, wall_ms: int) -> int | None:
    """Seconds from now, an instant in seconds since the epoch, or one in words of RFC 3339."""
    if said is None:
        return None
    seconds = _count(said)
    if seconds is None:
        return _believed(_instant_ms(said, wall_ms))
    return _believed(seconds * 1000 - wall_ms if seconds > EPOCH_S else seconds * 1000)


def _instant_ms(said: str, wall_ms: int) -> int | None:
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round((at - datetime.fromtimestamp(0, tz=UTC)).total_seconds() * 1000) - wall_ms


def _duration_ms(said: str | None) -> int | None:
    """6m0s, 1h2m3.5s, 120ms."""
    found = DURATION.fullmatch(said) if said else None
    if found is None:
        return None
    hours, minutes, seconds, millis = found.groups(default="0")
    return _believed(math.ceil(int(hours) * HOUR_MS + int(minutes) * MINUTE_MS + float(seconds) * 1000 + float(millis)))


def _believed(wait_ms: int | None) -> int | None:
    return wait_ms if wait_ms is not None and 0 < wait_ms <= DAY_MS else None
