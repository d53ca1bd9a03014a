"""What a provider's answer means for the limits: done, come back later, or never. By service, status and headers.

Told is what the providers document. Anthropic: a 429 without `retry-after` is the spend cap of the organisation. OpenAI: the
same by the error's code. GitHub: 403 or 429, with `retry-after`, or with nothing remaining until `x-ratelimit-reset`, or for
a secondary limit at least a minute. Stripe: a 429 without `Stripe-Rate-Limited-Reason` is an object that somebody else
holds. What a header says is not believed when it cannot be: no wait is negative, and none is longer than a day.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple, cast

Kind = Literal["ok", "limited", "overloaded", "busy", "spent", "refused"]
DAY_MS = 86_400_000
SECONDARY_MS = 60_000  # GitHub, when it does not say how long
SPENT_CODES = ("insufficient_quota", "billing_hard_limit_reached")
TOO_BUSY = (500, 502, 503, 504, 529)
UNCERTAIN = (408, 500, 502, 504)  # somebody on the way gave up: what became of the request is not known


class Verdict(NamedTuple):
    """again_ms: how long the provider asks to wait, None: it does not say. certain: whether nothing was done."""

    kind: Kind
    again_ms: int | None = None
    certain: bool = True


def judge(service: str, status: int, headers: Mapping[str, str], *, code: str = "", wall_ms: int) -> Verdict:
    """code: the provider's own name of the error, where it gives one. wall_ms: now, by the calendar. Never raises."""
    told = {str(name).lower(): str(value) for name, value in headers.items()}
    if status < 400:
        return Verdict("ok")
    again_ms = _again_ms(told, wall_ms)
    if told.get("x-should-retry") == "false" or told.get("stripe-should-retry") == "false":
        return Verdict("refused", None, status not in UNCERTAIN)
    if status in TOO_BUSY or status == 408:
        return Verdict("overloaded", again_ms, status not in UNCERTAIN)
    if service == "github" and status in (403, 429):
        return _github(told, again_ms, code, wall_ms, refused=status == 403)
    if status == 429:
        return _limited(service, told, again_ms, code)
    if status == 409 or told.get("x-should-retry") == "true" or told.get("stripe-should-retry") == "true":
        return Verdict("busy", again_ms)
    return Verdict("refused")


def answer_of(error: BaseException) -> tuple[int, Mapping[str, str], str] | None:
    """(status, headers, code) of an SDK's error that came with an answer, by the names of their fields; None: none did."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    status = status or getattr(response, "status_code", None)
    if not isinstance(status, int):
        return None
    headers = getattr(error, "headers", None) or getattr(response, "headers", None)
    code = getattr(error, "code", None) or getattr(error, "type", None)
    told: Mapping[str, str] = cast("Mapping[str, str]", headers) if isinstance(headers, Mapping) else {}
    return status, told, code if isinstance(code, str) else ""


def _limited(service: str, told: Mapping[str, str], again_ms: int | None, code: str) -> Verdict:
    if (service == "anthropic" and again_ms is None) or code in SPENT_CODES:
        return Verdict("spent")
    if service == "stripe" and code == "lock_timeout" and "stripe-rate-limited-reason" not in told:
        return Verdict("busy", again_ms)
    return Verdict("limited", again_ms)


def _github(told: Mapping[str, str], again_ms: int | None, code: str, wall_ms: int, *, refused: bool) -> Verdict:
    if again_ms is not None:
        return Verdict("limited", again_ms)
    if told.get("x-ratelimit-remaining") == "0":
        reset_ms = _number(told.get("x-ratelimit-reset", ""), 1000)
        return Verdict("limited", None if reset_ms is None else _believed(reset_ms - wall_ms))
    if "secondary rate limit" in code.lower() or not refused:
        return Verdict("limited", SECONDARY_MS)
    return Verdict("refused")


def _again_ms(told: Mapping[str, str], wall_ms: int) -> int | None:
    exact_ms = _number(told.get("retry-after-ms", ""), 1)
    if exact_ms is not None:
        return _believed(exact_ms)
    said = told.get("retry-after", "")
    seconds_ms = _number(said, 1000)
    return _believed(_date_ms(said, wall_ms) if seconds_ms is None else seconds_ms)


def _number(said: str, per: int) -> int | None:
    try:
        value = float(said) * per
    except ValueError:
        return None
    return math.ceil(value) if math.isfinite(value) else None


def _date_ms(said: str, wall_ms: int) -> int | None:
    try:
        at = parsedate_to_datetime(said)
    except (ValueError, TypeError, IndexError):
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return round((at - datetime.fromtimestamp(0, tz=UTC)).total_seconds() * 1000) - wall_ms


def _believed(wait_ms: int | None) -> int | None:
    return wait_ms if wait_ms is not None and 0 <= wait_ms <= DAY_MS else None
