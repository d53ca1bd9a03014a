"""One request and its reply, as the providers see them, without HTTP's plumbing.

A provider answers in two steps, with the latency between them. `admit` refuses at once (a Reply) or returns Work; calling
the Work does what was asked, bills it and returns the reply. Between the two the request is in flight, which is what
concurrency limits and idempotency keys in use are about.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import msgspec

Headers = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

encode = msgspec.json.Encoder().encode


class Instant(NamedTuple):
    """One moment twice: monotonic, for limits; and as the calendar says it, for headers and timestamps."""

    ns: int
    epoch_ms: int


class Request(NamedTuple):
    """A whole request. `path` is without the service's prefix. `others`: how many are in flight beside this one."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    others: int
    others_at_endpoint: int

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def bearer(self) -> str:
        """The key of an Authorization header, bearer or token."""
        scheme, _, key = self.header(b"authorization").partition(" ")
        return key.strip() if scheme.lower() in ("bearer", "token") else ""


class Reply(NamedTuple):
    """What goes back: a body, or the chunks of a stream and the milliseconds between them."""

    status: int
    headers: Headers
    body: bytes = b""
    chunks: list[bytes] | None = None
    chunk_ms: int = 0
    cost_micros: int = 0


Work = Callable[[Instant, Reply | None], Reply]
"""The second step, at its instant. The second argument is an error that the caller gets although the work was done."""


class Provider(Protocol):
    """One stand-in."""

    def endpoint(self, method: str, path: str) -> str:
        """Method and path pattern, for counting and for the choice of faults."""
        ...

    def admit(self, request: Request, now: Instant) -> Reply | Work: ...

    def error(self, status: int, *, retry_after_s: int) -> Reply:
        """An error in the shape of this provider, for injected faults."""
        ...


def json_reply(status: int, value: Any, headers: Headers, *, cost_micros: int = 0) -> Reply:
    return Reply(status, [JSON_TYPE, *headers], encode(value), cost_micros=cost_micros)


def stream_reply(chunks: list[bytes], headers: Headers, *, chunk_ms: int, cost_micros: int) -> Reply:
    return Reply(200, [STREAM_TYPE, *headers], b"", chunks, chunk_ms, cost_micros)


def sse(event: str, value: Any) -> bytes:
    """One server-sent event with a name."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), encode(value))
