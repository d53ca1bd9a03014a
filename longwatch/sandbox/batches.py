"""Anthropic's Message Batches: /v1/messages/batches, created, looked at, listed, cancelled, and their results as JSON lines.

A batch takes `batch_ms` and then its requests are answered as /v1/messages would, at half the price. What takes longer than
`batch_expiry_ms` has expired; what has expired, was cancelled or is in error costs nothing. As with the real ones a batch
does not tell whose requests it has before it has ended, and creating one twice makes two.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from longwatch.sandbox.exchange import Instant, Reply, Request, Work, encode, json_reply
from longwatch.sandbox.settings import Anthropic as Settings

BATCHES = "/v1/messages/batches"
LISTED, MOST_LISTED = 20, 1_000
JSONL_TYPE = (b"content-type", b"application/x-jsonl")
NS_PER_MS = 1_000_000

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ACTS = (("GET", "/{id}"), ("GET", "/{id}/results"), ("POST", "/{id}/cancel"))

Kind = Literal["succeeded", "errored", "canceled", "expired"]


class Wanted(msgspec.Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    params: msgspec.Raw


class Body(msgspec.Struct, frozen=True):
    requests: list[Wanted]


class Answered(NamedTuple):
    """What came of one request: the rest of its result."""

    kind: Kind
    told: dict[str, Any]


Answer = Callable[[str, bytes, Instant], Answered]
"""Answers the params of a request that was made with a key, and bills it."""


@dataclass
class Batch:
    """instants: epoch milliseconds, and monotonic nanoseconds to count by. results: once it has ended."""

    id: str
    key: str
    wanted: list[Wanted]
    created_ms: int
    created_ns: int
    cancelled_ms: int | None = None
    ended_ms: int | None = None
    results: list[tuple[str, Answered]] = field(default_factory=list[tuple[str, Answered]])


class Batches:
    """Of one organization."""

    def __init__(self, answer: Answer, error: Callable[[int, str], Reply], capped: Callable[[], Reply | None]) -> None:
        """capped: the refusal, when no more may be spent."""
        self._answer, self._error, self._capped = answer, error, capped
        self._made: dict[str, Batch] = {}

    def endpoint(self, method: str, path: str) -> str:
        rest = path.removeprefix(BATCHES).strip("/")
        _, _, act = rest.partition("/")
        return f"{method} {BATCHES}" + ("/{id}" if rest else "") + (f"/{act}" if act else "")

    def admit(self, endpoint: str, request: Request, key: str, now: Instant, settings: Settings) -> Reply | Work:
        self.go_on(now, settings)
        base, expiry_ms = f"http://{request.header(b'host')}/anthropic", settings.batch_expiry_ms
        if endpoint == f"POST {BATCHES}":
            return self._create(request, key, base, expiry_ms)
        if endpoint == f"GET {BATCHES}":
            return json_reply(200, self._listed(request, key, base, expiry_ms), [])
        batch = self._made.get(request.path.removeprefix(BATCHES).strip("/").partition("/")[0])
        act = endpoint.removeprefix(f"{request.method} {BATCHES}")
        if batch is None or batch.key != key or (request.method, act) not in ACTS:
            return self._error(404, f"Not found: {request.path}")
        if act.endswith("/results"):
            return results(batch) if batch.ended_ms is not None else self._error(404, "it has not ended yet")
        if act.endswith("/cancel") and batch.ended_ms is None and batch.cancelled_ms is None:
            batch.cancelled_ms = now.epoch_ms
        return shown(batch, base, expiry_ms)

    def _create(self, request: Request, key: str, base: str, expiry_ms: int) -> Reply | Work:
        try:
            body = msgspec.json.decode(request.body, type=Body)
        except msgspec.DecodeError as error:
            return self._error(400, str(error))
        wrong = problem(body)
        if wrong is not None:
            return self._error(400, wrong)

        def work(at: Instant, instead: Reply | None) -> Reply:
            batch = Batch(f"msgbatch_{len(self._made) + 1:024d}", key, body.requests, at.epoch_ms, at.ns)
            self._made[batch.id] = batch
            return instead or shown(batch, base, expiry_ms)

        return self._capped() or work

    def go_on(self, now: Instant, settings: Settings) -> None:
        """End those whose time has come."""
        batch_ms, expiry_ms = settings.batch_ms, settings.batch_expiry_ms
        for batch in self._made.values():
            age_ms = (now.ns - batch.created_ns) // NS_PER_MS
            if batch.ended_ms is None and (batch.cancelled_ms is not None or age_ms >= min(batch_ms, expiry_ms)):
                instead: Kind | None = "canceled" if batch.cancelled_ms is not None else None
                instead = instead or ("expired" if batch_ms > expiry_ms else None)
                batch.results = [
                    (
                        each.custom_id,
                        Answered(instead, {}) if instead else self._answer(batch.key, bytes(each.params), now),
                    )
                    for each in batch.wanted
                ]
                batch.ended_ms = now.epoch_ms

    def _listed(self, request: Request, key: str, base: str, expiry_ms: int) -> dict[str, Any]:
        """A page, newest first."""
        asked = request.parameters()
        limit = max(1, min(MOST_LISTED, int(asked.get("limit") or LISTED)))
        mine = [batch for batch in reversed(self._made.values()) if batch.key == key]
        ids = [batch.id for batch in mine]
        start = ids.index(asked["after_id"]) + 1 if asked.get("after_id") in ids else 0
        page = [told(batch, base, expiry_ms) for batch in mine[start : start + limit]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"data": page, "has_more": len(mine) > start + limit, **ends}


def problem(body: Body) -> str | None:
    """What is wrong with a batch that has the right shape."""
    ids = [each.custom_id for each in body.requests]
    if not ids:
        return "requests: at least one request is required"
    if len(set(ids)) < len(ids):
        return "requests: custom_id must be unique"
    wrong = next((id for id in ids if CUSTOM_ID.fullmatch(id) is None), None)
    return None if wrong is None else f"custom_id: {wrong} does not match {CUSTOM_ID.pattern}"


def told(batch: Batch, base: str, expiry_ms: int) -> dict[str, Any]:
    """As it is shown. base: the address of this API."""
    kinds = [answered.kind for _, answered in batch.results]
    counts = {kind: kinds.count(kind) for kind in ("succeeded", "errored", "canceled", "expired")}
    status = "ended" if batch.ended_ms is not None else "in_progress" if batch.cancelled_ms is None else "canceling"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {"processing": len(batch.wanted) - len(kinds), **counts},
        "created_at": _at(batch.created_ms),
        "expires_at": _at(batch.created_ms + expiry_ms),
        "ended_at": _at(batch.ended_ms),
        "cancel_initiated_at": _at(batch.cancelled_ms),
        "archived_at": None,
        "results_url": f"{base}{BATCHES}/{batch.id}/results" if status == "ended" else None,
    }


def results(batch: Batch) -> Reply:
    lines = [
        encode({"custom_id": custom_id, "result": {"type": answered.kind, **answered.told}}) + b"\n"
        for custom_id, answered in batch.results
    ]
    return Reply(200, [JSONL_TYPE], b"".join(lines))


def shown(batch: Batch, base: str, expiry_ms: int) -> Reply:
    return json_reply(200, told(batch, base, expiry_ms), [])


def _at(epoch_ms: int | None) -> str | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat()
