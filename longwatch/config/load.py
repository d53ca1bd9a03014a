"""Reads longwatch.toml, or a dict of the same form, and the environment, once, into frozen settings.

An argument comes before the environment, the environment before the file, the file before the default. Paths of the
file start at its root; paths of arguments and of the environment at the current folder. Every refusal is a ConfigError
that names file, line and key.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from longwatch.config.address_forms import ADMISSION, locate_state
from longwatch.config.combine import limits_of, reached
from longwatch.config.document import Document, open_document
from longwatch.config.forms import NAME, Context, Raw, plain, render
from longwatch.config.keys import Key, fields_of
from longwatch.config.lines import KeyPath, dotted
from longwatch.config.reader import Reader
from longwatch.config.secret import without_password
from longwatch.config.settings import FileSettings, FleetSettings, Settings
from longwatch.errors import ConfigError
from longwatch.policy.limits import Limits
from longwatch.policy.naming import MAIN, resolve_budget
from longwatch.policy.rate import format_window


def load(
    config: str | Path | Raw | None = None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    state: str | Path | None = None,
    admission: str | None = None,
    agent: str | None = None,
    budget: str | None = None,
) -> Settings:
    """The settings of a fleet. config: a path, a dict, or None for the nearest longwatch.toml. Errors: ConfigError."""
    document = open_document(config, environ, cwd)
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    folder = document.file.parent if document.file else cwd
    context = Context(folder, cwd, home, environ, python=isinstance(config, Mapping))
    given = {
        "state": _given("LONGWATCH_STATE", None if state is None else str(state), environ),
        "agent": _given("LONGWATCH_AGENT", agent, environ),
        "budget": _given("LONGWATCH_BUDGET", budget, environ),
    }
    reader = Reader(document.source, document.values, _overrides(given["state"], admission, context))
    _check_root(reader, context := _in_fleet(reader, context))
    read = reader.build(FileSettings, reader.whole(), context)
    settings = _settings(reader, read, document, _names(given, context))
    _refuse_unknown_budget(settings)
    return settings


def show(settings: Settings) -> list[tuple[str, str, str]]:
    """Every key, its value and where that came from. Of a secret it shows where it is, of an address no password."""
    return [(key, value, settings.origin[key]) for key, value in settings.written.items()]


Given = tuple[str | None, str]
"""What an argument or the environment says, and which of them."""


def _given(variable: str, argument: str | None, environ: Mapping[str, str]) -> Given:
    if argument is not None:
        return argument, "argument"
    return (environ[variable], f"environment {variable}") if environ.get(variable) else (None, "default")


def _overrides(state: Given, admission: str | None, context: Context) -> dict[KeyPath, tuple[object, str]]:
    found: dict[KeyPath, tuple[object, str]] = {}
    text, origin = state
    try:
        if text is not None:
            found["fleet", "state"] = locate_state(text, context.root, context), origin
        if admission is not None:
            origin = "argument"
            found["fleet", "admission"] = ADMISSION.parse(admission, context), origin
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error.message}", hint=error.hint) from error
    return found


def _names(given: Mapping[str, Given], context: Context) -> dict[str, Given]:
    for sort in ("agent", "budget"):
        text, origin = given[sort]
        try:
            _ = text is None or NAME.parse(text, context)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {sort} {error.message}", hint=error.hint) from error
    return {sort: given[sort] for sort in ("agent", "budget")}


def _in_fleet(reader: Reader, context: Context) -> Context:
    """The context in which all other values are read: root, currency and exchange come first."""
    section = reader.section("fleet")
    for attribute in ("root", "currency", "exchange"):
        key = fields_of(FleetSettings)[attribute].entry
        assert isinstance(key, Key)
        context = replace(context, **{attribute: reader.value(key, section, context)})
    return context


def _check_root(reader: Reader, context: Context) -> None:
    if not context.root.is_dir():
        raise reader.refuse(
            ("fleet", "root"), f"{context.root} is not a folder", hint="Create it, or correct the path."
        )


def _settings(reader: Reader, read: FileSettings, document: Document, names: Mapping[str, Given]) -> Settings:
    fleet = read.fleet
    settings = Settings(
        file=document.file,
        source=str(document.file) if document.file else cast("dict[str, object]", plain(document.values)),
        name=fleet.name or _name_of(fleet.root),
        root=fleet.root,
        state=fleet.state,
        admission=fleet.admission,
        lease_ms=fleet.lease_ms,
        payload_max=fleet.payload_max,
        durability=fleet.durability,
        limits=limits_of(reader, read),
        services={name: reached(service) for name, service in read.services.items()},
        agents=read.agents,
        budgets=read.budgets,
        gateway=read.gateway,
        alerts=read.alerts,
        memory=read.memory,
        archive=read.archive,
        agent=names["agent"][0] or MAIN,
        budget=names["budget"][0],
        origin={**reader.origin, **{sort: origin for sort, (_, origin) in names.items()}},
        written=reader.written,
    )
    return replace(settings, written={**settings.written, **_resolved(settings)}, origin=_origins(settings))


def _origins(settings: Settings) -> dict[str, str]:
    """The budget is the agent's own when nobody names one."""
    own = settings.agents.get(settings.agent)
    if settings.budget or own is None or own.budget is None:
        return settings.origin
    return {**settings.origin, "budget": settings.origin[dotted(("agent", own.name, "budget"))]}


def _resolved(settings: Settings) -> dict[str, str]:
    """How the values are shown that something else than their own key decided."""
    shown = {
        "fleet.name": settings.name,
        "fleet.root": str(settings.root),
        "agent": settings.agent,
        "budget": settings.budget_of(settings.agent),
    }
    for key, address in (("state", settings.state), ("admission", settings.admission)):
        if not settings.written[f"fleet.{key}"].startswith("{"):
            shown[f"fleet.{key}"] = without_password(address)
    for name in settings.services:
        shown |= _resolved_service(settings, settings.limits, name)
    return shown


def _resolved_service(settings: Settings, limits: Limits, name: str) -> dict[str, str]:
    service, at = limits.services[name], dotted(("service", name))
    quota = service.quota and f"{service.quota.amount}{format_window(service.quota.window)}"
    found = {
        "base_url": settings.services[name].base_url,
        "concurrency": service.concurrency,
        "quota": quota,
        "burst": {dimension: rate.burst for dimension, rate in service.rates.items()} or None,
    }
    return {f"{at}.{key}": render(value) for key, value in found.items() if value is not None}


def _name_of(root: Path) -> str:
    """The folder's name, as far as it may be the name of a fleet."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", root.name).strip("-._")[:64] or "fleet"


def _refuse_unknown_budget(settings: Settings) -> None:
    """The default budget is a name that somebody typed, like any other."""
    try:
        resolve_budget(settings.limits, settings.budget or MAIN)
    except ConfigError as error:
        raise ConfigError(f"{settings.origin['budget']}: {error.message}", hint=error.hint) from error
