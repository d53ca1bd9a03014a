"""How places are written: folders and files, services, the state and the admission engine, secrets and receivers."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from longwatch.config.forms import Context, Form, Schema, as_text, known
from longwatch.config.secret import HINT, Secret, parse_secret, reveal, written_secret
from longwatch.errors import ConfigError

STATE_SCHEMES = ("postgresql", "postgres")
ADMISSION_SCHEMES = ("redis", "rediss", *STATE_SCHEMES)
LISTEN_PATTERN = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})"
SECRET_SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "env": {"type": "string"},
        "file": {"type": "string"},
        "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def absolute(raw: object, base: Path, context: Context) -> Path:
    """A path, made absolute from `base`, without "." and ".."; "~/" is the home of the environment."""
    if isinstance(raw, Path) and context.python:
        raw = str(raw)
    text = as_text(raw, "a path", '"charters/seo.md"')
    if "\0" in text:
        raise ConfigError("a path cannot hold a zero byte", hint='Write a path such as "charters/seo.md".')
    if text == "~" or text.startswith("~/"):
        if context.home is None:
            raise ConfigError(f"{text!r}: HOME is not set", hint="Write the path in full.")
        return Path(os.path.normpath(context.home / text[2:]))
    return Path(os.path.normpath(base / text))


def locate_state(text: str, base: Path, context: Context) -> str:
    """Where the state is: an absolute path, the address of a PostgreSQL, or ":memory:" for as long as it is open."""
    if text == ":memory:":
        return text
    if "://" in text:
        known(text.partition("://")[0], STATE_SCHEMES, "engine")
        return text
    return str(absolute(text, base, context))


def _parse_folder(raw: object, context: Context) -> Path:
    return absolute(raw, context.folder, context)


def _parse_path(raw: object, context: Context) -> Path:
    return absolute(raw, context.root, context)


def _located(raw: object, context: Context, locate: Callable[[str], str]) -> str:
    """A literal place, or one that a secret holds, which is read now."""
    if isinstance(raw, Path):
        raw = str(raw)
    if isinstance(raw, str):
        return locate(raw)
    return locate(reveal(_secret(raw, context, client=False), context.environ))


def _parse_state(raw: object, context: Context) -> str:
    if raw == "":
        raise ConfigError("'' is not a state", hint='Write ".longwatch/longwatch.db" or { env = "DATABASE_URL" }.')
    return _located(raw, context, lambda text: locate_state(text, context.root, context))


def _parse_admission(raw: object, context: Context) -> str:
    """An address; "" is the state's own engine."""

    def locate(text: str) -> str:
        if text:
            known(text.partition("://")[0], ADMISSION_SCHEMES, "engine")
        return text

    return _located(raw, context, locate)


def _secret(raw: object, context: Context, *, client: bool) -> Secret:
    secret = parse_secret(raw, client=client)
    if secret.kind != "file":
        return secret
    return replace(secret, name=str(absolute(secret.name, context.root, context)))


def _parse_key(raw: object, context: Context) -> Secret:
    return _secret(raw, context, client=True)


def _parse_receiver(raw: object, context: Context) -> Secret | str:
    """Where a message goes: a secret that holds the address, or an address without one in it."""
    if not isinstance(raw, str):
        return _secret(raw, context, client=False)
    if written_secret(raw):
        raise ConfigError(
            "an address that holds a secret is named, never written", hint=HINT.replace(' or "client"', "")
        )
    return _web_address(raw)


def _parse_base_url(raw: object, context: Context) -> str:
    return _web_address(as_text(raw, "an address", '"https://api.example.com"')).rstrip("/")


def _web_address(text: str) -> str:
    try:
        found = urlsplit(text)
        sound = found.scheme in ("http", "https") and found.hostname and not re.search(r"\s", text)
        sound = sound and found.username is None and (found.port is None or found.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(
            f"{text!r} is not an address", hint='Write "https://api.example.com", without user or password.'
        )
    return text


def _parse_listen(raw: object, context: Context) -> tuple[str, int]:
    text = as_text(raw, "an address to listen on", '"127.0.0.1:8317"')
    found = re.fullmatch(LISTEN_PATTERN, text, re.ASCII)
    if found is None or int(found[2]) > 65535:
        raise ConfigError(f"{text!r} is not an address to listen on", hint='Write host and port: "127.0.0.1:8317".')
    return found[1].strip("[]"), int(found[2])


def _parse_archive(raw: object, context: Context) -> str:
    """An absolute path, or s3://bucket/prefix."""
    if not isinstance(raw, str) or "://" not in raw:
        return str(_parse_path(raw, context))
    if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/\S*)?", raw, re.ASCII) is None:
        raise ConfigError(f"{raw!r} is not a place for an archive", hint='Write a path or "s3://bucket/prefix".')
    return raw


TEXT_OR_SECRET: Schema = {"anyOf": [{"type": "string"}, SECRET_SCHEMA]}
FOLDER = Form(_parse_folder, {"type": "string"})
PATH = Form(_parse_path, {"type": "string"})
STATE = Form(_parse_state, TEXT_OR_SECRET)
ADMISSION = Form(_parse_admission, TEXT_OR_SECRET)
SERVICE_KEY = Form(_parse_key, {"anyOf": [{"const": "client"}, SECRET_SCHEMA]})
RECEIVER = Form(_parse_receiver, TEXT_OR_SECRET)
BASE_URL = Form(_parse_base_url, {"type": "string", "pattern": "^https?://"})
LISTEN = Form(_parse_listen, {"type": "string", "pattern": f"^{LISTEN_PATTERN}$"})
ARCHIVE = Form(_parse_archive, {"type": "string"})
