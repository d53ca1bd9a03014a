"""The services that are called from here: how fast they may be, whether they may be now, and pausing them."""

import click
from rich.console import RenderableType

from longwatch.admission.listing import with_known
from longwatch.admission.share import cut_off
from longwatch.errors import ConfigError, nearest
from longwatch.policy.limits import KNOWN_SERVICES, Service
from longwatch.policy.money import Money
from longwatch.policy.rate import format_rate, format_window
from longwatch.surface.cli_base import Group, pass_session
from longwatch.surface.cli_look import lesson_json, rate_rows, rate_table
from longwatch.surface.kept_back import (
    away_json,
    away_lines,
    gate_json,
    gate_lines,
    gate_rows,
    line_lines,
    line_rows,
    shut_gates,
)
from longwatch.surface.output import table
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, listing


@click.group(cls=Group, section="things")
def limit() -> None:
    """Limits: how fast services may be called."""


@limit.command("list")
@pass_session
def list_limits(session: Session) -> None:
    """Every rate in force, and which services take no calls now."""
    limiter, now_ms, gates = session.parts.calls.limiter, session.now_ms(), shut_gates(session)
    stand = limiter.peek(services_learned(session))
    rates, lines = stand.rates, limiter.lines.all()
    percent, cut = session.limits.away, cut_off(session.parts.database)
    data = {**listing("limits", rate_rows(rates)), "gates": gate_rows(gates), "lines": line_rows(lines)}
    data["away"] = away_json(percent, cut, rate_rows(stand.shares))
    shares = away_lines(percent, cut, rate_table(stand.shares, now_ms), now_ms)
    kept_back = [*line_lines(lines, now_ms), *gate_lines(gates, now_ms), *shares]
    session.out.answer(data, rate_table(rates, now_ms), *kept_back)


@click.group(cls=Group, section="things")
def service() -> None:
    """Services: the APIs that are called from here."""


@service.command("list")
@pass_session
def list_services(session: Session) -> None:
    """Every service, with its limits, and whether it takes calls."""
    held, currency, gates = session.look.held(), session.limits.currency, shut_gates(session)
    limits = with_known(session.limits, services_learned(session))
    states = {gate.name: gate.state for gate in gates}
    data = [
        _service_json(service, sum(row.places for row in held if row.service == service.name), currency)
        | {"state": states.get(service.name, "closed"), "learned": lessons(session, service.name)}
        for service in limits.services.values()
    ]
    rows = [(row["name"], _rates(row), _places(row), row["quota"], row["price"]) for row in data]
    empty = 'No services in the config. For example [service.stripe] rate = "25/s".'
    shown: RenderableType = table(("service", "rates", "open calls", "quota", "price"), rows, empty=empty)
    answer = {**listing("services", data), "gates": gate_rows(gates)}
    session.out.answer(answer, shown, *gate_lines(gates, session.now_ms()))


@service.command("pause")
@click.argument("name")
@click.option("--why", default="", help="For whoever meets it.")
@pass_session
def pause_service(session: Session, name: str, why: str) -> None:
    """Refuse every call to a service, in all processes, until it is resumed."""
    service = known_service(session, name)
    gate = session.parts.calls.limiter.gates.pause(service.name, why)
    session.out.answer(gate_json(gate), f"{name} is paused: longwatch service resume {name}")


@service.command("resume")
@click.argument("name")
@pass_session
def resume_service(session: Session, name: str) -> None:
    """Let calls to a service leave again, whatever kept them back."""
    service = known_service(session, name)
    found = session.parts.calls.limiter.gates.resume(
        service.name, session.parts.calls.limiter.rates_of(service.name, None)
    )
    words = f"{', '.join(gate.name for gate in found)}: calls leave again" if found else f"nothing kept {name} back"
    session.out.answer({"service": name, "gates": gate_rows(found)}, words)


def services_learned(session: Session) -> list[str]:
    """Services of which something was learned and that the config need not name."""
    names = sorted({each.service for each in session.parts.calls.limiter.learned.all()})
    return [name for name in names if name in KNOWN_SERVICES or not session.limits.services]


def lessons(session: Session, service: str) -> list[Json]:
    """What was learned of a service's limits, which may be faster than what is configured; then it does not count."""
    return [
        {"model": each.model or None, "rate": format_rate(each.rate), **lesson_json(each)}
        for each in session.parts.calls.limiter.learned.all()
        if each.service == service
    ]


def known_service(session: Session, name: str) -> Service:
    """Errors: ConfigError."""
    found = {name: Service(name) for name in KNOWN_SERVICES} | session.limits.services
    if name not in found:
        raise ConfigError(f"there is no service {name}{nearest(name, found)}", hint="longwatch service list")
    return found[name]


# -- services --------------------------------------------------------------------------------------------------------------


def _service_json(service: Service, opened: int, currency: str) -> Json:
    price = None if service.price_micros is None else str(Money(service.price_micros, currency))
    quota = None if service.quota is None else f"{service.quota.amount}{format_window(service.quota.window)}"
    return {
        "name": service.name,
        "rates": {dimension: format_rate(rate) for dimension, rate in service.rates.items()},
        "models": {
            pattern: {dimension: format_rate(rate) for dimension, rate in rates.items()}
            for pattern, rates in service.models.items()
        },
        "open": opened,
        "concurrency": service.concurrency,
        "quota": quota,
        "price": price,
        "price_micros": service.price_micros,
        "currency": currency,
        "key_memory_ms": service.key_memory_ms,
    }


def _rates(row: Json) -> str:
    configured = [f"{dimension} {rate}" for dimension, rate in row["rates"].items()]
    learned = [f"{each['dimension']} {each['rate']} (learned)" for each in row["learned"] if each["model"] is None]
    return ", ".join(configured + learned)


def _places(row: Json) -> str:
    return str(row["open"]) if row["concurrency"] is None else f"{row['open']} of {row['concurrency']}"


__all__ = ["limit", "service"]
