"""The control plane, under /_sandbox: for tests, demos and auditors, from this machine only.

GET    counts   requests, statuses and endpoints by service
GET    bill     micro-units by service, key and model
GET    effects  what was made, in order, and how often each prompt was answered
GET    events   ?since=N: [seq, t_ms, service, status, cost_micros] of each request, and `next`
GET    faults   what is set, with how often each was looked at and hit
POST   faults   a list of faults; replaces what is set
DELETE faults   none
GET    limits   the settings
POST   limits   {"stripe": {"requests": {"amount": 50, "per_ms": 1000}}}: replaces single settings
POST   reset    forget everything, back to the settings of the start

A request from elsewhere, for another host name, or from a web page is refused with a 403.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from longwatch.sandbox.exchange import Instant
from longwatch.sandbox.faults import Fault
from longwatch.sandbox.settings import SettingsError
from longwatch.sandbox.state import State

HOSTS = ("127.0.0.1", "localhost", "[::1]")

Handler = Callable[[Request], Awaitable[Response]]


class Controlled(Protocol):
    """What the control plane acts on."""

    state: State

    def now(self) -> Instant: ...

    def reset(self) -> None: ...


def application(target: Controlled) -> ASGIApp:
    """The control plane of one sandbox."""
    handlers: dict[tuple[str, str], Handler] = {
        ("GET", "counts"): _shows(lambda _: target.state.tally.counts()),
        ("GET", "bill"): _shows(lambda _: target.state.bill(target.now())),
        ("GET", "effects"): _shows(lambda _: target.state.effects.report()),
        ("GET", "events"): _shows(lambda request: target.state.tally.events(_since(request))),
        ("GET", "faults"): _shows(lambda _: target.state.faults.report()),
        ("GET", "limits"): _shows(lambda _: target.state.settings),
        ("POST", "faults"): lambda request: _set_faults(target, request),
        ("DELETE", "faults"): lambda request: _clear_faults(target),
        ("POST", "limits"): lambda request: _set_limits(target, request),
        ("POST", "reset"): lambda request: _reset(target),
    }
    routes = [Route(f"/_sandbox/{name}", _safe(act), methods=[method]) for (method, name), act in handlers.items()]
    return _local(Starlette(routes=routes))


def _local(inner: ASGIApp) -> ASGIApp:
    """Refuse who is not on this machine, and pages that a browser has rebound to it."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope["type"] != "http" or _is_local(scope)
        refusal = Response("the control plane is for this machine only\n", 403)
        await (inner if allowed else refusal)(scope, receive, send)

    return guarded


def _is_local(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0]
    peer = scope["client"]
    return host in HOSTS and b"origin" not in headers and bool(peer) and ipaddress.ip_address(peer[0]).is_loopback


def _shows(report: Callable[[Request], Any]) -> Handler:
    async def handler(request: Request) -> Response:
        return _json(report(request))

    return handler


def _safe(handler: Handler) -> Handler:
    """A request that is not understood is a 400 that says why."""

    async def safe(request: Request) -> Response:
        try:
            return await handler(request)
        except (SettingsError, msgspec.DecodeError) as error:
            return _json({"error": str(error)}, 400)

    return safe


async def _set_faults(target: Controlled, request: Request) -> Response:
    faults = msgspec.json.decode(await request.body(), type=list[Fault])
    target.state.faults.replace(faults, target.now().ns)
    return _json(target.state.faults.report())


async def _clear_faults(target: Controlled) -> Response:
    target.state.faults.replace([], target.now().ns)
    return _json([])


async def _set_limits(target: Controlled, request: Request) -> Response:
    changes = msgspec.json.decode(await request.body(), type=dict[str, dict[str, Any]])
    target.state.change(changes, target.now())
    return _json(target.state.settings)


async def _reset(target: Controlled) -> Response:
    target.reset()
    return _json({})


def _since(request: Request) -> int:
    since = request.query_params.get("since", "0")
    if not since.isdecimal():
        raise SettingsError("since", f"expected a number of an event, got {since!r}")
    return int(since)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
