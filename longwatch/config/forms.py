"""How single values are written. A form turns what TOML or a dict holds into what the program uses, or refuses it.

A refusal is a ConfigError without a place; the reader adds file, line and key. `inside` says at which part of the
value it is, when the value is itself a table or a list.
"""

import re
import zoneinfo
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from longwatch.config.lines import KeyPath
from longwatch.errors import ConfigError, nearest
from longwatch.policy.duration import format_ms, parse_ms, parse_text_ms
from longwatch.policy.size import format_bytes, parse_bytes

T = TypeVar("T")
Schema = dict[str, object]
Raw = Mapping[str, object]


@dataclass(frozen=True)
class Context:
    """What the meaning of a value depends on.

    folder: of the config file. root, home: what relative paths and "~/" start from. currency, exchange: the fleet's.
    python: the config is a dict, in which durations may be seconds or a timedelta and paths a Path.
    """

    folder: Path
    root: Path
    home: Path | None
    environ: Mapping[str, str]
    python: bool
    currency: str = "USD"
    exchange: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Form(Generic[T]):
    """parse: errors are ConfigError. schema: JSON schema of what is written."""

    parse: Callable[[object, Context], T]
    schema: Schema


class Misplaced(ConfigError):
    """A ConfigError that knows at which part of the value it is."""

    def __init__(self, message: str, *, hint: str, path: KeyPath) -> None:
        super().__init__(message, hint=hint)
        self.path = path


@contextmanager
def inside(part: str) -> Generator[None, None, None]:
    """Errors raised within are about this key of a table, or "[3]" of a list."""
    try:
        yield
    except ConfigError as error:
        deeper = error.path if isinstance(error, Misplaced) else ()
        raise Misplaced(error.message, hint=error.hint, path=(part, *deeper)) from error


def as_text(raw: object, what: str, example: str) -> str:
    """Text that is not empty."""
    if isinstance(raw, str) and raw.strip():
        return raw
    raise ConfigError(f"{raw!r} is not {what}", hint=f"Write {example}.")


def as_table(raw: object, what: str, example: str) -> Raw:
    if isinstance(raw, Mapping):
        table = cast("Mapping[object, object]", raw)
        if all(isinstance(key, str) for key in table):
            return cast("Raw", table)
    raise ConfigError(f"{raw!r} is not {what}", hint=f"Write {example}.")


def as_list(raw: object, what: str, example: str) -> Sequence[object]:
    if isinstance(raw, list | tuple):
        return cast("Sequence[object]", raw)
    raise ConfigError(f"{raw!r} is not {what}", hint=f"Write {example}.")


def known(name: str, names: Sequence[str], what: str) -> str:
    if name not in names:
        raise ConfigError(f"unknown {what} {name}{nearest(name, names)}", hint=f"Known: {', '.join(names)}.")
    return name


def pattern(expression: str, what: str, example: str) -> Form[str]:
    """Text that matches as a whole."""
    compiled = re.compile(expression, re.ASCII)

    def parse(raw: object, context: Context) -> str:
        text = as_text(raw, what, example)
        if compiled.fullmatch(text) is None:
            raise ConfigError(f"{text!r} is not {what}", hint=f"Write {example}.")
        return text

    return Form(parse, {"type": "string", "pattern": f"^(?:{expression})$"})


def choice(*names: str) -> Form[Any]:
    def parse(raw: object, context: Context) -> str:
        return known(as_text(raw, "one of " + ", ".join(names), f'"{names[0]}"'), names, "value")

    return Form(parse, {"enum": list(names)})


def whole(least: int, most: int) -> Form[int]:
    def parse(raw: object, context: Context) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise ConfigError(f"{raw!r} is not a whole number", hint=f"Write a number from {least} to {most}.")
        if not least <= raw <= most:
            raise ConfigError(
                f"{raw} is not between {least} and {most}", hint=f"Write a number from {least} to {most}."
            )
        return raw

    return Form(parse, {"type": "integer", "minimum": least, "maximum": most})


def _yes(raw: object, context: Context) -> bool:
    if not isinstance(raw, bool):
        raise ConfigError(f"{raw!r} is neither true nor false", hint="Write true or false, without quotes.")
    return raw


YES = Form(_yes, {"type": "boolean"})


def duration(least: str, most: str) -> Form[int]:
    """Milliseconds. In a dict also seconds or a timedelta."""
    bounds = parse_ms(least), parse_ms(most)

    def parse(raw: object, context: Context) -> int:
        value = parse_ms(cast("float", raw)) if context.python else parse_text_ms(cast("str", raw))
        if not bounds[0] <= value <= bounds[1]:
            raise ConfigError(
                f"{format_ms(value)} is not between {least} and {most}",
                hint=f'Write "{least}" at least, "{most}" at most.',
            )
        return value

    return Form(parse, {"type": "string", "pattern": r"^\s*[0-9.]+\s*(ms|s|min|m|h|d|w)\s*$"})


def size(least: int, most: int) -> Form[int]:
    """Bytes."""

    def parse(raw: object, context: Context) -> int:
        value = parse_bytes(cast("str", raw))
        if not least <= value <= most:
            raise ConfigError(
                f"{raw} is not between {format_bytes(least)} and {format_bytes(most)}",
                hint=f'Write "{format_bytes(least)}" at least, "{format_bytes(most)}" at most.',
            )
        return value

    return Form(parse, {"type": "string", "pattern": r"^\s*[0-9.]+\s*(B|[KMGT]iB|[kMGT]B)\s*$"})


def list_of(form: Form[T], what: str, example: str, *, least: int = 0) -> Form[tuple[T, ...]]:
    """No value twice."""

    def parse(raw: object, context: Context) -> tuple[T, ...]:
        values: list[T] = []
        for number, element in enumerate(as_list(raw, what, example)):
            with inside(f"[{number}]"):
                value = form.parse(element, context)
                if value in values:
                    raise ConfigError(f"{element!r} is there twice", hint="Remove one of them.")
                values.append(value)
        if len(values) < least:
            raise ConfigError(f"{raw!r} is not {what}", hint=f"Write {example}.")
        return tuple(values)

    return Form(parse, {"type": "array", "items": form.schema, "minItems": least, "uniqueItems": True})


def _parse_zone(raw: object, context: Context) -> str:
    name = as_text(raw, "a time zone", '"Europe/London" or "UTC"')
    if name == "UTC":
        return name
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"unknown time zone {name}{nearest(name, zoneinfo.available_timezones())}",
            hint='Write a name of the IANA database: "Europe/London", "America/New_York" or "UTC".',
        ) from error
    return name


def _parse_fractions(raw: object, context: Context) -> tuple[float, ...]:
    what, example = "a list of fractions, ascending", "[0.5, 0.8, 1.0]"
    fractions: list[float] = []
    for number, value in enumerate(as_list(raw, what, example)):
        with inside(f"[{number}]"):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise ConfigError(f"{value!r} is not a fraction above 0 and up to 1", hint=f"Write {example}.")
            if fractions and value <= fractions[-1]:
                raise ConfigError(f"{value} does not come after {fractions[-1]}", hint=f"Write {example}.")
            fractions.append(float(value))
    return tuple(fractions)


def plain(raw: object) -> object:
    """The same value as JSON and TOML can hold it."""
    if isinstance(raw, Mapping):
        return {key: plain(value) for key, value in cast("Raw", raw).items()}
    if isinstance(raw, list | tuple):
        return [plain(element) for element in cast("Sequence[object]", raw)]
    if isinstance(raw, timedelta):
        return format_ms(parse_ms(raw))
    return raw if isinstance(raw, str | int | float) else str(raw)


def render(raw: object) -> str:
    """A value as it is written in TOML, without the quotes around a mere text; "" when it is absent."""
    value = "" if raw is None else plain(raw)
    return value if isinstance(value, str) else _literal(value)


def _literal(value: object) -> str:
    if isinstance(value, dict):
        pairs = [f"{key} = {_literal(each)}" for key, each in cast("Raw", value).items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_literal(element) for element in cast('list[object]', value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
NAME = pattern(NAME_PATTERN, "a name", 'letters, digits, "_", "-" and ".", at most 64: "shop"')
TEXT = pattern(r"\S(?:.*\S)?", "a text of one line", 'a text such as "claude-haiku-5-5"')
ZONE = Form(_parse_zone, {"type": "string"})
FRACTIONS = Form(_parse_fractions, {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}})
