"""Reads sections by the table of keys: refuses what is unknown, parses what is there, notes where each value is from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from longwatch.config.forms import Context, Misplaced, Raw, render
from longwatch.config.keys import Key, Table, Tables, fields_of, rivals_of
from longwatch.config.lines import KeyPath, dotted
from longwatch.config.secret import HINT, masked
from longwatch.errors import ConfigError, nearest
from longwatch.policy.redact import secret_kind

T = TypeVar("T")
DEEPEST = 16


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from. file: as it is shown; None for a dict. lines: of a file, by key."""

    file: str | None
    lines: Mapping[KeyPath, int]

    def at(self, path: KeyPath) -> str:
        """ "longwatch.toml:12", or "argument" for a dict."""
        if self.file is None:
            return "argument"
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file}:{self.lines[path]}" if path else self.file

    def refuse(self, path: KeyPath, error: ConfigError) -> ConfigError:
        """The error with its place: "longwatch.toml:14: service.stripe.rate: '25 per s' is not a rate"."""
        path = path + (error.path if isinstance(error, Misplaced) else ())
        place = "config" if self.file is None else self.at(path)
        return ConfigError(": ".join(part for part in (place, dotted(path), error.message) if part), hint=error.hint)


@dataclass
class Section:
    """A table as it counts, its own keys over inherited ones, and where each key stands."""

    path: KeyPath
    table: dict[str, object]
    places: dict[str, KeyPath] = field(default_factory=dict[str, KeyPath])


class Reader:
    """Builds settings out of one document. overrides: values from arguments and the environment, and their origin."""

    def __init__(self, source: Source, document: Raw, overrides: Mapping[KeyPath, tuple[object, str]]) -> None:
        self.source = source
        self.document = document
        self.overrides = overrides
        self.origin: dict[str, str] = {}
        self.written: dict[str, str] = {}
        self._refuse_secrets(document, ())

    def build(self, settings: type[T], section: Section, context: Context) -> T:
        """The settings of a section, and of all below it. Errors: ConfigError with file, line and key."""
        known = {each.entry.name: each for each in fields_of(settings).values()}
        for name in section.table:
            if name not in known:
                what = "key" if section.path else "section"
                raise self.refuse(
                    (*section.path, name),
                    f"unknown {what} {name}{nearest(name, known)}",
                    hint=f"Known here: {', '.join(known)}.",
                )
        values: dict[str, Any] = {"name": section.path[-1]} if self._is_named(settings) else {}
        for attribute, each in fields_of(settings).items():
            if isinstance(each.entry, Key):
                values[attribute] = self.value(each.entry, section, context)
            elif isinstance(each.entry, Table):
                values[attribute] = self.build(each.kind, self._section(each.entry.name, section), context)
            else:
                values[attribute] = self._each(each.entry, each.kind, section, context)
        return settings(**values)

    def value(self, key: Key, section: Section, context: Context) -> Any:
        """The value of one key: what overrides it, what is written, or the default."""
        path = (*section.path, key.name)
        shown = dotted(path)
        if path in self.overrides:
            value, self.origin[shown] = self.overrides[path]
            self.written[shown] = render(masked(value))
            return value
        raw = section.table.get(key.name, key.default)
        place = section.places.get(key.name, path)
        self.origin[shown] = self.source.at(place) if key.name in section.table else "default"
        self.written[shown] = render(masked(raw))
        if raw is None and key.name not in section.table:
            return None
        try:
            return key.form.parse(raw, context)
        except ConfigError as error:
            raise self.source.refuse(place, error) from error

    def section(self, name: str) -> Section:
        """A section at the top of the document."""
        return self._section(name, self.whole())

    def whole(self) -> Section:
        """The document itself."""
        return Section((), dict(self.document))

    def refuse(self, path: KeyPath, message: str, *, hint: str) -> ConfigError:
        return self.source.refuse(path, ConfigError(message, hint=hint))

    def _each(self, tables: Tables, kind: type[T], section: Section, context: Context) -> dict[str, T]:
        parent = self._section(tables.name, section)
        built: dict[str, T] = {}
        for name in parent.table:
            try:
                tables.names.parse(name, context)
            except ConfigError as error:
                raise self.source.refuse((*parent.path, name), error) from error
            own = self._section(name, parent)
            self._refuse_rivals(kind, own)
            if tables.inherits:
                self._inherit(own, tables.inherits, rivals_of(kind))
            built[name] = self.build(kind, own, context)
        return built

    def _section(self, name: str, parent: Section) -> Section:
        path = (*parent.path, name)
        table = parent.table.get(name, {})
        if not isinstance(table, Mapping):
            raise self.refuse(
                path, f"{name} is a section, not a value", hint=f"Write [{dotted(path)}] and its keys below."
            )
        return Section(path, dict(cast("Raw", table)))

    def _inherit(self, own: Section, path: KeyPath, rivals: tuple[tuple[str, str], ...]) -> None:
        """Keys of the section at `path` that this one neither has itself nor has a rival of; tables are joined."""
        found = self.whole()
        for name in path:
            found = self._section(name, found)
        beaten = {name for pair in rivals for name in pair if set(pair) & set(own.table)}
        for name, value in found.table.items():
            mine = own.table.get(name)
            if isinstance(mine, Mapping) and isinstance(value, Mapping):
                own.table[name] = {**cast("Raw", value), **cast("Raw", mine)}
            elif name not in own.table and name not in beaten:
                own.table[name] = value
                own.places[name] = (*path, name)

    def _refuse_rivals(self, kind: type, own: Section) -> None:
        for first, second in rivals_of(kind):
            if first in own.table and second in own.table:
                raise self.refuse(
                    (*own.path, second), f"{first} and {second} exclude each other", hint="Keep one of the two."
                )

    def _refuse_secrets(self, raw: object, path: KeyPath) -> None:
        """No value of any key may be a well-known sort of secret. The message does not repeat it."""
        if isinstance(raw, str) and (kind := secret_kind(raw)):
            raise self.refuse(path, f"a secret ({kind}) is written here: it is named, never written", hint=HINT)
        if isinstance(raw, Mapping) and len(path) < DEEPEST:
            for name, value in cast("Mapping[object, object]", raw).items():
                if not isinstance(name, str):
                    raise self.refuse(path, f"{name!r} is not the name of a key", hint="Keys are texts.")
                self._refuse_secrets(value, (*path, name))
        if isinstance(raw, list | tuple) and len(path) < DEEPEST:
            for number, element in enumerate(cast("list[object]", raw)):
                self._refuse_secrets(element, (*path, f"[{number}]"))

    @staticmethod
    def _is_named(settings: Any) -> bool:
        return any(each.name == "name" for each in fields(settings)) and "name" not in fields_of(settings)
