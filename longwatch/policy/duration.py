"""Lengths of time: "90s" "10m" "2h" "1d" "1w" in text, seconds or a timedelta in Python, milliseconds inside."""

import re
from datetime import timedelta

from longwatch.errors import ConfigError

Duration = str | float | timedelta
"""What a Python caller may pass: "10m", 600, 0.5 or timedelta(minutes=10). A number is seconds."""

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LONGEST_MS = 100 * 366 * 86_400_000
PATTERN = re.compile(r"(\d{1,13}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d|w)", re.ASCII)


def parse_ms(value: Duration) -> int:
    """Whole milliseconds, not negative, at most a hundred years. Errors: ConfigError."""
    if isinstance(value, bool):
        raise _bad(value)
    if isinstance(value, timedelta):
        return _bounded(value.total_seconds() * 1000, value)
    if isinstance(value, int | float):
        return _bounded(value * 1000, value)
    return parse_text_ms(value)


def parse_text_ms(text: str) -> int:
    """As `parse_ms`, but only text with a unit: what TOML and the command line take."""
    found = PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise _bad(text)
    return _bounded(float(found[1]) * UNITS_MS[found[2]], text)


def format_ms(milliseconds: int) -> str:
    """The shortest exact form: 90000 -> "90s", 7200000 -> "2h"."""
    for unit in ("w", "d", "h", "m", "s"):
        if milliseconds and milliseconds % UNITS_MS[unit] == 0:
            return f"{milliseconds // UNITS_MS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def _bounded(milliseconds: float, value: object) -> int:
    if not 0 <= milliseconds <= LONGEST_MS:  # also refuses nan
        raise _bad(value)
    return round(milliseconds)


def _bad(value: object) -> ConfigError:
    return ConfigError(f"{value!r} is not a duration", hint='Write "90s", "10m", "2h", "1d" or "1w".')
