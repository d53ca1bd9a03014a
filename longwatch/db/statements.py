"""Loads SQL by name. A file `tasks.sql` holds statements, each under a line `-- name: what it is for`.

`tasks.sql` with `-- claim: ...` gives "tasks.claim". `<dialect>.sql` holds overrides under full names
(`-- tasks.claim: why it differs`). Nothing is formatted into a statement, ever: values are bound.
"""

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|:(?P<name>[a-z][a-z_]*)")
HEADING = re.compile(r"^-- (?P<name>[a-z][a-z_.]*): .+$", re.MULTILINE)
DIALECTS = ("sqlite", "postgres")
ROOMS = ("longwatch.store", "longwatch.admission")


def split(text: str, *, prefix: str) -> dict[str, str]:
    """The statements of one file, by full name. A name that stands twice is an error."""
    found: dict[str, str] = {}
    headings = list(HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        name = heading["name"] if "." in heading["name"] else f"{prefix}.{heading['name']}"
        if name in found:
            raise ValueError(f"statement {name} stands twice")
        found[name] = text[heading.end() : end].strip().rstrip(";")
    return found


@cache
def load(dialect: str) -> dict[str, str]:
    """Every statement of every room, with the dialect's overrides applied."""
    common: dict[str, str] = {}
    overrides: dict[str, str] = {}
    for room in ROOMS:
        for file in sorted(files(room).joinpath("sql").iterdir(), key=lambda entry: entry.name):
            stem, _, ending = file.name.partition(".")
            if ending == "sql" and (stem == dialect or stem not in DIALECTS):
                target = overrides if stem == dialect else common
                target.update(split(file.read_text("utf-8"), prefix=stem))
    return common | overrides


def numbered(text: str, mark: str) -> tuple[str, tuple[str, ...]]:
    """The statement with numbered parameters, `mark` and the number, and their names in the order of first use.

    Quoted text, comments and `::` are left alone.
    """
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found["name"]
        return found[0] if name is None else f"{mark}{names.setdefault(name, len(names) + 1)}"

    return TOKEN.sub(number, text), tuple(names)


class Migration(NamedTuple):
    """number: says which code may use the schema behind it, see policy/schema.py. text: SQL."""

    number: int
    name: str
    text: str


def newest() -> int:
    """The last migration that this code has."""
    return migrations()[-1].number


@cache
def migrations() -> tuple[Migration, ...]:
    """Every migration, in order, over all rooms; numbers are unique. A file is named NNNN_what_it_does.sql."""
    found: dict[int, Migration] = {}
    for room in ROOMS:
        folder = files(room).joinpath("sql").joinpath("migrations")
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            digits, _, name = file.name.removesuffix(".sql").partition("_")
            if not digits.isdigit():
                continue
            number = int(digits)
            if number in found:
                raise ValueError(f"two migrations are numbered {number}")
            found[number] = Migration(number, name, file.read_text("utf-8"))
    return tuple(found[number] for number in sorted(found))
