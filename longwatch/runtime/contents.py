"""Files by name, read in the ways that people read them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from longwatch.errors import ConfigError, NotFound

D = TypeVar("D")


class Missing:
    """No default was given: a file that is not there is an error."""


MISSING = Missing()


class Contents(ABC):
    """Files by name. `default`: what a file that is not there reads as; without one it is NotFound."""

    @abstractmethod
    def _bytes(self, name: str) -> bytes | None: ...

    @overload
    def read_bytes(self, name: str) -> bytes: ...
    @overload
    def read_bytes(self, name: str, *, default: D) -> bytes | D: ...
    def read_bytes(self, name: str, *, default: D | Missing = MISSING) -> bytes | D:
        found = self._bytes(name)
        return found if found is not None else _default(name, default)

    @overload
    def read_text(self, name: str) -> str: ...
    @overload
    def read_text(self, name: str, *, default: D) -> str | D: ...
    def read_text(self, name: str, *, default: D | Missing = MISSING) -> str | D:
        """UTF-8, line ends as they are. Errors: NotFound, ConfigError."""
        found = self._bytes(name)
        if found is None:
            return _default(name, default)
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{name} is not text: {error}", hint="Read it with read_bytes.") from error

    def read_json(self, name: str, *, default: Any = MISSING) -> Any:
        """Errors: NotFound, ConfigError when the file is not JSON."""
        text = self.read_text(name, default=None)
        if text is None:
            return _default(name, default)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{name} is not JSON: {error}", hint="Repair it, or read it with read_text.") from error


def _default(name: str, default: D | Missing) -> D:
    if isinstance(default, Missing):
        raise NotFound(f"there is no file {name}", hint="Say what to take instead: default={}, default='' or None.")
    return default


@dataclass(frozen=True)
class Reading(Contents):
    """Several files as of one instant, by the names they were asked for."""

    files: Mapping[str, bytes | None]

    def _bytes(self, name: str) -> bytes | None:
        if name not in self.files:
            raise ConfigError(
                f"{name} was not read", hint="Name every file when reading, so that all are of one instant."
            )
        return self.files[name]
