"""Sizes: "1500 MiB" "1 GiB" "64 kB" in text, whole bytes inside."""

import re
from decimal import Decimal

from longwatch.errors import ConfigError

UNITS = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
LARGEST = 1 << 50
PATTERN = re.compile(r"(\d{1,16}(?:\.\d{1,6})?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)", re.ASCII)


def parse_bytes(text: str) -> int:
    """Whole bytes, at most 1024 TiB; a fraction of a byte is dropped. Errors: ConfigError."""
    found = PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    size = int(Decimal(found[1]) * UNITS[found[2]]) if found else -1
    if not 0 <= size <= LARGEST:
        raise ConfigError(f"{text!r} is not a size", hint='Write "64 KiB", "1500 MiB" or "2 GiB".')
    return size


def format_bytes(size: int) -> str:
    """The shortest exact form in powers of 1024: 1572864000 -> "1500 MiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]} {unit}"
    return f"{size} B"
