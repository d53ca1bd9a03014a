"""How an agent's command, schedule, restarts and environment are written."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longwatch.config.address_forms import absolute
from longwatch.config.forms import Context, Form, as_list, as_table, as_text, inside, known, pattern
from longwatch.config.secret import VARIABLE
from longwatch.errors import ConfigError
from longwatch.policy.duration import parse_text_ms

Command = tuple[str, ...] | str
"""A tuple runs without a shell, a text with one."""

MOST_RESTARTS = 10_000
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
CRON_FIELDS = (  # name, least, most, names of the values from the least on
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, DAYS),
)
CRON_HINT = 'Write minute, hour, day, month and day of the week: "0 3 * * *", "*/15 9-17 * * mon-fri".'


@dataclass(frozen=True)
class Restart:
    """At most `most` starts again within `per_ms` milliseconds; then the agent is parked."""

    most: int
    per_ms: int


def _parse_command(raw: object, context: Context) -> Command:
    example = '["claude", "-p"], or "make site" for a shell'
    if isinstance(raw, str):
        return as_text(raw, "a command", example)
    words: list[str] = []
    for number, word in enumerate(as_list(raw, "a command", example)):
        with inside(f"[{number}]"):
            if not isinstance(word, str) or "\0" in word:
                raise ConfigError(f"{word!r} is not a text", hint="Put numbers in quotes.")
            words.append(word)
    if not words or not words[0].strip():
        raise ConfigError(f"{raw!r} is not a command", hint=f"Write {example}.")
    return tuple(words)


def _parse_stdin(raw: object, context: Context) -> Literal["none", "brief"] | Path:
    text = as_text(raw, "what an agent reads first", '"none", "brief" or "file:PATH"')
    if text.startswith("file:"):
        return absolute(text.removeprefix("file:"), context.root, context)
    return "brief" if known(text, ("none", "brief", "file:PATH"), "stdin") == "brief" else "none"


def _parse_restart(raw: object, context: Context) -> Restart:
    text = as_text(raw, "a limit of restarts", '"5/10m"')
    most, slash, per = text.partition("/")
    if not slash or re.fullmatch(r"\d{1,6}", most.strip(), re.ASCII) is None or int(most) > MOST_RESTARTS:
        raise ConfigError(f"{text!r} is not a limit of restarts", hint='Write "5/10m": at most 5 in 10 minutes.')
    per_ms = parse_text_ms(per)
    if per_ms <= 0:
        raise ConfigError(f"{text!r}: a window of no length limits nothing", hint='Write "5/10m".')
    return Restart(int(most), per_ms)


def _parse_cron(raw: object, context: Context) -> str:
    text = as_text(raw, "a schedule", '"0 3 * * *"')
    fields = text.lower().split()
    if len(fields) != len(CRON_FIELDS):
        raise ConfigError(f"{text!r} has {len(fields)} fields, not {len(CRON_FIELDS)}", hint=CRON_HINT)
    for field, (name, least, most, names) in zip(fields, CRON_FIELDS, strict=True):
        if not all(_fits(part, least, most, names) for part in field.split(",")):
            raise ConfigError(f"{text!r}: {field!r} is no value for {name} ({least} to {most})", hint=CRON_HINT)
    return " ".join(fields)


def _fits(part: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    """One of: * */n a a-b a-b/n."""
    span, slash, step = part.partition("/")
    if slash and (re.fullmatch(r"\d{1,2}", step, re.ASCII) is None or not 1 <= int(step) <= most):
        return False
    if span == "*":
        return True
    first, dash, last = span.partition("-")
    ends = [_number(end, least, names) for end in ([first, last] if dash else [first])]
    return all(least <= end <= most for end in ends) and ends == sorted(ends) and bool(dash or not slash)


def _number(text: str, least: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + least
    return int(text) if re.fullmatch(r"\d{1,2}", text, re.ASCII) else -1


def _parse_environment(raw: object, context: Context) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in as_table(raw, "a table of variables", '{ SITE = "staging" }').items():
        with inside(name):
            if VARIABLE.fullmatch(name) is None:
                raise ConfigError(f"{name!r} is not the name of a variable", hint='Write { SITE = "staging" }.')
            if not isinstance(value, str) or "\0" in value:
                raise ConfigError(f"{value!r} is not a text", hint=f'Put it in quotes: {name} = "{value}".')
            variables[name] = value
    return variables


COMMAND = Form(
    _parse_command,
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
)
STDIN = Form(_parse_stdin, {"type": "string", "pattern": "^(none|brief|file:.+)$"})
RESTART = Form(_parse_restart, {"type": "string", "pattern": r"^\s*\d+\s*/.+$"})
CRON = Form(_parse_cron, {"type": "string"})
ENVIRONMENT = Form(_parse_environment, {"type": "object", "additionalProperties": {"type": "string"}})
VARIABLE_NAME = pattern(VARIABLE.pattern, "the name of a variable", '"SSH_AUTH_SOCK"')
WORK = pattern(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*)?", "a module and the name of a fleet in it", '"billing:lw"'
)
