"""Secrets are named, never written: where one is kept, and reading it at the moment of use.

`{ env = "NAME" }` is a variable of the environment, `{ file = "PATH" }` a file that only its owner may read,
`{ command = [...] }` what a command prints, and "client" the agent's own login, which Longwatch never sees.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from longwatch.errors import ConfigError, nearest
from longwatch.policy.redact import secret_kind

KINDS = ("env", "file", "command")
HINT = 'Name where it is: { env = "NAME" }, { file = "PATH" } (mode 0600), { command = ["CMD", "ARG"] } or "client".'
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
SECRET_NAME = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
LONGEST = 64 * 1024  # bytes of a secret in a file


@dataclass(frozen=True)
class Secret:
    """Where a secret is; never what it is. name: of the variable, or the absolute path of the file."""

    kind: Literal["env", "file", "command", "client"]
    name: str = ""
    command: tuple[str, ...] = ()


def parse_secret(raw: object, *, client: bool) -> Secret:
    """The description of a secret; the path of a file as it is written. client: "client" has a meaning here.

    Errors: ConfigError, which never repeats what was written in the place of a name.
    """
    if client and raw == "client":
        return Secret("client")
    if not isinstance(raw, Mapping):
        raise ConfigError("a secret is named, never written", hint=HINT)
    table = cast("Mapping[object, object]", raw)
    if len(table) != 1:
        raise ConfigError(f"a secret has one place, not {len(table)}", hint=HINT)
    ((kind, value),) = table.items()
    if kind not in KINDS:
        raise ConfigError(f"unknown place of a secret: {kind}{nearest(str(kind), KINDS)}", hint=HINT)
    if kind == "command":
        return Secret("command", command=_words(value))
    if not isinstance(value, str) or not value.strip() or (kind == "env" and VARIABLE.fullmatch(value) is None):
        raise ConfigError(f"{kind} does not hold the name of {_place(str(kind))}", hint=HINT)
    return Secret("env" if kind == "env" else "file", value)


def reveal(secret: Secret, environ: Mapping[str, str]) -> str:
    """The secret itself, without the line's end. Errors: ConfigError, when it is not there, empty or open to others."""
    if secret.kind == "env":
        value = environ.get(secret.name, "").strip()
        if not value:
            raise ConfigError(
                f"the environment variable {secret.name} is not set", hint=f"Set it: export {secret.name}=..."
            )
        return value
    if secret.kind == "file":
        return _read(secret.name)
    raise ConfigError(
        "a secret of a command or of the client's own login cannot be read here",
        hint='Keep it in { env = "NAME" } or { file = "PATH" }.',
    )


def written_secret(text: str) -> str | None:
    """The kind of secret that the text of an address holds, or None. A long part of letters and digits is taken for one."""
    if kind := secret_kind(text):
        return kind
    parts = re.split(r"[/?&=#.:]", text)
    return "key" if any(_looks_random(part) for part in parts) else None


def without_password(url: str) -> str:
    """The address as it may be shown."""
    return re.sub(
        r"(?<=://)[^/?#]*@|(?<=[?&]password=)[^&#]*", lambda found: "***@" if found[0][-1:] == "@" else "***", url
    )


def masked(raw: object) -> object:
    """The value as it may be shown: without what says by its name that it is a secret."""
    if isinstance(raw, Mapping):
        table = cast("Mapping[str, object]", raw)
        return {name: "***" if SECRET_NAME.search(name) else masked(value) for name, value in table.items()}
    if isinstance(raw, list | tuple):
        return [masked(element) for element in cast("Sequence[object]", raw)]
    return raw


def _looks_random(part: str) -> bool:
    return len(part) >= 16 and any(map(str.isdigit, part)) and any(map(str.isalpha, part)) and part.isalnum()


def _place(kind: str) -> str:
    return "an environment variable" if kind == "env" else "a file"


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        words = cast("Sequence[object]", value)
        if words and all(isinstance(word, str) and word for word in words):
            return tuple(str(word) for word in words)
    raise ConfigError("command is not a list of words", hint=HINT)


def _read(path: str) -> str:
    """The mode is checked on the opened file, so that nobody can swap it in between."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a file", hint="A secret is kept in a plain file.")
            if status.st_mode & 0o077:
                raise ConfigError(
                    f"{path} may be read or written by others (mode {status.st_mode & 0o777:04o})",
                    hint=f"Run: chmod 600 {path}",
                )
            secret = file.read(LONGEST + 1).decode("utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="Create it with mode 0600.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text", hint="A secret is kept as one line of text.") from error
    if not secret or len(secret) > LONGEST:
        raise ConfigError(f"{path} holds no secret: it is empty or longer than 64 KiB", hint="Keep one secret in it.")
    return secret
