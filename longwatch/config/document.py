"""Finds and reads the document: longwatch.toml, the file that is named, or a dict of the same form."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longwatch.config.forms import Raw
from longwatch.config.lines import KeyPath, index_lines
from longwatch.config.reader import Source
from longwatch.errors import ConfigError

FILE_NAME = "longwatch.toml"
LARGEST = 1 << 20  # bytes of a config file
HIGHEST = 64  # folders to look upwards


@dataclass(frozen=True)
class Document:
    """file: absolute; None for a dict, or when there is no file at all."""

    source: Source
    values: Raw
    file: Path | None


def find(start: Path) -> Path | None:
    """The nearest longwatch.toml, in this folder or above."""
    for folder in [start, *start.parents][:HIGHEST]:
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def open_document(config: str | Path | Raw | None, environ: Mapping[str, str], cwd: Path) -> Document:
    """What is named, else what LONGWATCH_CONFIG names, else the nearest longwatch.toml, else nothing."""
    if isinstance(config, Mapping):
        return Document(Source(None, {}), config, None)
    named = config or environ.get("LONGWATCH_CONFIG")
    file = cwd / named if named else find(cwd)
    if file is None:
        return Document(Source(None, {}), {}, None)
    file = Path(os.path.normpath(file))
    shown = _shown(file, cwd)
    values, lines = parse(_read(file, shown), shown)
    return Document(Source(shown, lines), values, file)


def parse(text: str, shown: str) -> tuple[Raw, dict[KeyPath, int]]:
    """The values and the line of each key. Errors: ConfigError with line and column."""
    try:
        return tomllib.loads(text), index_lines(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        message, line, column = _place(str(error), text)
        raise ConfigError(f"{shown}:{line}:{column}: is not TOML: {message}", hint="See https://toml.io.") from error
    except RecursionError as error:
        raise ConfigError(f"{shown}: is nested too deeply", hint="Sections are at most four deep.") from error


def _place(message: str, text: str) -> tuple[str, int, int]:
    """Message, line and column, as tomllib tells them at the end of its own message."""
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if found is None or found[1] is None:
        lines = text.split("\n")
        return message[: found.start()] if found else message, len(lines), len(lines[-1]) + 1
    return message[: found.start()], int(found[1]), int(found[2])


def _shown(file: Path, cwd: Path) -> str:
    """Relative while that is the shorter one to read."""
    relative = os.path.relpath(file, cwd)
    return relative if relative.count("..") <= 3 else str(file)


def _read(file: Path, shown: str) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"{shown}: cannot be read: {error.strerror}",
            hint="Name a TOML file: config=, or LONGWATCH_CONFIG in the environment.",
        ) from error
    if len(content) > LARGEST:
        raise ConfigError(f"{shown}: is larger than 1 MiB", hint="A configuration is a small file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{shown}:{line}: is not UTF-8", hint="Save the file as UTF-8.") from error
