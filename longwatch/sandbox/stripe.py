"""Stripe: charges, customers and payment intents, with idempotency keys.

A key is remembered per account with the parameters it came with. Again with the same parameters: the stored reply, whatever
its status, marked `Idempotent-Replayed`. With others: 400. While the first is in flight: 409. What is refused before it runs
(401, 429, a validation error) is not stored; a card error or a 5xx after the work is. There is no retry-after; a 429 says its
reason in `Stripe-Rate-Limited-Reason`.

The card tokens `tok_chargeDeclined` and `pm_card_chargeDeclined` are declined. A payment intent is charged when it is
confirmed. Lists are newest first.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from longwatch.sandbox.effects import Effects
from longwatch.sandbox.exchange import Headers, Instant, Reply, Request, Work, json_reply
from longwatch.sandbox.quota import Need, Rate, admit, buckets
from longwatch.sandbox.settings import Stripe as Settings
from longwatch.sandbox.stripe_objects import MAKERS, Params, Refused, confirmed, declined, nested, page, updated
from longwatch.sandbox.tally import Account

KEYS_MAX = 500_000
OBJECTS_MAX = 500_000
RESOURCES = ("charges", "customers", "payment_intents")

RATE_MESSAGE = "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."
REUSED = (
    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
    "Try using a key other than '{key}' if you meant to execute a different request."
)
IN_USE = "There is currently another in-progress request using this Idempotent Key: {key}. Please try again later."


Act = Callable[[Instant], tuple[dict[str, Any], int]]
"""What a POST does when its time has come: the object to return, and the fee."""


class Stored(NamedTuple):
    """What a key stands for; no reply while its request is in flight."""

    asked: str
    until_ns: int
    reply: Reply | None


class Route(NamedTuple):
    """/v1/RESOURCE[/ID[/ACTION]]"""

    resource: str
    identity: str
    action: str


class Stripe:
    """One sandbox of Stripe, shared by all its API keys; idempotency keys belong to an API key."""

    def __init__(self, settings: Settings, account: Account, effects: Effects, now: Instant) -> None:
        self.settings = settings
        self._account = account
        self._effects = effects
        self._keys: dict[tuple[str, str], Stored] = {}
        self._objects: dict[str, dict[str, dict[str, Any]]] = {resource: {} for resource in RESOURCES}
        self._unpaid: dict[str, dict[str, Any]] = {}
        self._numbered = 0
        self._buckets = buckets(_rates(settings), {}, now.ns)

    def change(self, settings: Settings, now: Instant) -> None:
        self.settings = settings
        self._buckets = buckets(_rates(settings), self._buckets, now.ns)

    def endpoint(self, method: str, path: str) -> str:
        route = _route(path)
        if route is None:
            return f"{method} {path}"
        parts = [route.resource, "{id}" if route.identity else "", route.action]
        return f"{method} /v1/" + "/".join(part for part in parts if part)

    def error(self, status: int, *, retry_after_s: int) -> Reply:
        if status == 429:
            return self._limited("global-rate")
        return self._error(status, "An unknown error occurred", kind="api_error")

    def admit(self, request: Request, now: Instant) -> Reply | Work:
        api_key = _api_key(request)
        route = _route(request.path)
        if not api_key:
            return self._error(401, "You did not provide an API key.")
        if route is None:
            return self._error(404, f"Unrecognized request URL ({request.method}: {request.path}).")
        limited = self._limit(route, request, now)
        if limited is not None:
            return self._limited(limited)
        if request.method == "GET":
            return self._read(route, request)
        if request.method != "POST":
            return self._error(405, f"Method {request.method} is not supported here.")
        return self._write(route, api_key, request, now)

    def _limit(self, route: Route, request: Request, now: Instant) -> str | None:
        """The reason for a 429."""
        settings = self.settings
        if settings.concurrency is not None and request.others >= settings.concurrency:
            return "global-concurrency"
        if settings.endpoint_concurrency is not None and request.others_at_endpoint >= settings.endpoint_concurrency:
            return "endpoint-concurrency"
        names = [name for name in ("", route.resource) if name in self._buckets]
        short = admit([Need(name, self._buckets[name], 1) for name in names], now.ns)
        if short is None:
            return None
        return "endpoint-rate" if short.need.name else "global-rate"

    def _read(self, route: Route, request: Request) -> Reply | Work:
        objects = self._objects[route.resource]
        if route.identity:
            found = objects.get(route.identity)
            return self._reply(found) if found else self._missing(route)
        try:
            return self._reply(page(route.resource, list(objects.values()), request.parameters()))
        except Refused as refused:
            return self._refuse(refused)

    def _write(self, route: Route, api_key: str, request: Request, now: Instant) -> Reply | Work:
        key = request.header(b"idempotency-key")
        asked = f"{request.path}?{'&'.join(sorted(request.body.decode('latin-1').split('&')))}"
        replay = self._replay((api_key, key), asked, now) if key else None
        if replay is not None:
            return replay
        try:
            params = nested(parse_qsl(request.body.decode(), keep_blank_values=True))
            act = self._action(route, params, key, api_key)
        except Refused as refused:
            return self._refuse(refused)
        pending = Stored(asked, now.ns + self.settings.key_ms * 1_000_000, None)
        if not key:
            return lambda at, instead: self._finish(act, at, instead)
        self._store((api_key, key), pending)
        return lambda at, instead: self._keep((api_key, key), pending, self._finish(act, at, instead))

    def _replay(self, place: tuple[str, str], asked: str, now: Instant) -> Reply | None:
        stored = self._keys.get(place)
        if stored is None or (stored.reply is not None and stored.until_ns <= now.ns):
            return None
        if stored.asked != asked:
            return self._error(400, REUSED.format(key=place[1]), kind="idempotency_error")
        if stored.reply is None:
            message = IN_USE.format(key=place[1])
            return self._error(409, message, kind="idempotency_error", code="idempotency_key_in_use")
        headers = [(name, value) for name, value in stored.reply.headers if name != b"request-id"]
        original = next(value for name, value in stored.reply.headers if name == b"request-id")
        marks = [(b"idempotent-replayed", b"true"), (b"original-request", original), self._request_id()]
        return Reply(stored.reply.status, [*headers, *marks], stored.reply.body)

    def _store(self, place: tuple[str, str], stored: Stored) -> None:
        self._keys.pop(place, None)
        self._keys[place] = stored
        if len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]

    def _finish(self, act: Act, now: Instant, instead: Reply | None) -> Reply:
        """Do it, bill it, and say so; or not, when an error is to be answered instead."""
        try:
            value, fee = act(now)
            done = self._reply(value, cost_micros=fee)
        except Refused as refused:
            done = self._refuse(refused)
        return done if instead is None else instead._replace(cost_micros=done.cost_micros)

    def _keep(self, place: tuple[str, str], pending: Stored, reply: Reply) -> Reply:
        """The reply that the caller gets is the one that its key will replay."""
        marked = reply._replace(headers=[*reply.headers, (b"idempotency-key", place[1].encode())])
        self._store(place, pending._replace(reply=marked))
        return marked

    def _action(self, route: Route, params: Params, key: str, api_key: str) -> Act:
        """Raises Refused when the request cannot even begin."""
        if not route.identity:
            draft = MAKERS[route.resource](params)
            return lambda now: self._create(route.resource, draft, key, api_key, now)
        objects = self._objects[route.resource]
        if route.identity not in objects:
            raise Refused(
                404, f"No such {route.resource[:-1]}: '{route.identity}'", code="resource_missing", param="id"
            )
        if not route.action:
            return lambda now: (self._put(route.resource, updated(objects[route.identity], params)), 0)
        if (route.resource, route.action) != ("payment_intents", "confirm"):
            raise Refused(404, f"Unrecognized request URL (POST: /v1/{'/'.join(route)}).")
        return lambda now: self._confirm(objects[route.identity], params, api_key)

    def _create(
        self, resource: str, draft: dict[str, Any], key: str, api_key: str, now: Instant
    ) -> tuple[dict[str, Any], int]:
        if draft.get("status") == "failed":
            raise declined()
        self._numbered += 1
        identity = f"{_PREFIX[resource]}_{self._numbered:024d}"
        made = self._put(resource, {"id": identity, **draft, "created": now.epoch_ms // 1_000})
        row = self._effects.add(resource, {**_audited(made), "idempotency_key": key or None})
        if resource == "payment_intents" and made["status"] != "succeeded":
            self._unpaid[identity] = row
        return made, self._fee(made, api_key) if made.get("status") == "succeeded" else 0

    def _confirm(self, intent: dict[str, Any], params: Params, api_key: str) -> tuple[dict[str, Any], int]:
        made = self._put("payment_intents", confirmed(intent, params))
        self._unpaid.pop(made["id"])["status"] = made["status"]
        return made, self._fee(made, api_key)

    def _put(self, resource: str, value: dict[str, Any]) -> dict[str, Any]:
        objects = self._objects[resource]
        objects[value["id"]] = value
        if len(objects) > OBJECTS_MAX:
            oldest = next(iter(objects))
            del objects[oldest]
            self._unpaid.pop(oldest, None)
        return value

    def _fee(self, made: dict[str, Any], api_key: str) -> int:
        self._account.charge(api_key, made["object"], self.settings.fee_micros)
        return self.settings.fee_micros

    def _reply(self, value: dict[str, Any], *, cost_micros: int = 0) -> Reply:
        return json_reply(200, value, [self._request_id(), _VERSION], cost_micros=cost_micros)

    def _missing(self, route: Route) -> Reply:
        message = f"No such {route.resource[:-1]}: '{route.identity}'"
        return self._error(404, message, code="resource_missing", param="id")

    def _refuse(self, refused: Refused) -> Reply:
        return self._error(refused.status, str(refused), kind=refused.kind, code=refused.code, param=refused.param)

    def _limited(self, reason: str) -> Reply:
        reply = self._error(429, RATE_MESSAGE, code="rate_limit")
        return reply._replace(headers=[*reply.headers, (b"stripe-rate-limited-reason", reason.encode())])

    def _error(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str = "", param: str = ""
    ) -> Reply:
        error = {"type": kind, "message": message, **({"code": code} if code else {})}
        headers: Headers = [self._request_id(), _VERSION]
        return json_reply(status, {"error": {**error, **({"param": param} if param else {})}}, headers)

    def _request_id(self) -> tuple[bytes, bytes]:
        self._numbered += 1
        return (b"request-id", b"req_%014d" % self._numbered)


_PREFIX = {"charges": "ch", "customers": "cus", "payment_intents": "pi"}
_VERSION = (b"stripe-version", b"2026-10-29")


def _rates(settings: Settings) -> dict[str, Rate | None]:
    """The global rate under "", and one for each resource."""
    return {"": settings.requests, **dict.fromkeys(RESOURCES, settings.endpoint)}


def _route(path: str) -> Route | None:
    _, version, *parts = path.rstrip("/").split("/")
    if version != "v1" or not 1 <= len(parts) <= 3 or parts[0] not in RESOURCES:
        return None
    resource, identity, action = (*parts, "", "")[:3]
    return Route(resource, identity, action)


def _api_key(request: Request) -> str:
    """Bearer, or the user name of Basic, as curl -u sends it."""
    scheme, _, value = request.header(b"authorization").partition(" ")
    if scheme.lower() != "basic":
        return request.bearer()
    try:
        return base64.b64decode(value).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _audited(made: dict[str, Any]) -> dict[str, Any]:
    """The fields of an object by which an auditor recognizes it."""
    names = ("id", "amount", "currency", "customer", "description", "email", "name", "status", "metadata")
    return {name: made[name] for name in names if name in made}
