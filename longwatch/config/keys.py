"""The table of keys is the settings themselves: every field carries how it is written, its default and what it means.

`Annotated[int, Key("lease", DURATION, "60s", "...")]` is a value, `Table` a section, `Tables` a section per name. The
reader, the JSON schema and the list of `config show` are all made from these and from nothing else.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from longwatch.config.forms import NAME, Form
from longwatch.config.lines import KeyPath


@dataclass(frozen=True)
class Key:
    """default: as it would be written; None: the key may be absent, and its value is None."""

    name: str
    form: Form[Any]
    default: object
    doc: str


@dataclass(frozen=True)
class Table:
    """A section: the settings class comes from the annotation."""

    name: str
    doc: str


@dataclass(frozen=True)
class Tables:
    """A section for each name. inherits: the section that every one starts from."""

    name: str
    doc: str
    names: Form[str] = NAME
    inherits: KeyPath = ()


Entry = Key | Table | Tables


@dataclass(frozen=True)
class Field:
    """A field of a settings class. kind: the class of a Table or Tables; Any for a key."""

    entry: Entry
    kind: Any


def fields_of(settings: type) -> dict[str, Field]:
    """Every field that the file can set, by attribute, in the order of the class."""
    return _collect(settings)


@cache
def _collect(settings: type) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for attribute, hint in get_type_hints(settings, include_extras=True).items():
        for entry in getattr(hint, "__metadata__", ()):
            if isinstance(entry, Key | Table | Tables):
                found[attribute] = Field(entry, _kind(get_args(hint)[0]))
    return found


def rivals_of(settings: type) -> tuple[tuple[str, str], ...]:
    """Pairs of keys of which a section takes one: its own, when it inherits the other."""
    return getattr(settings, "RIVALS", ())


def _kind(hint: Any) -> Any:
    """dict[str, X] holds X."""
    return get_args(hint)[1] if get_origin(hint) is dict else hint
