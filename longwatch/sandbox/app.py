"""The sandbox as one ASGI application: /anthropic, /openai, /stripe, /github and the control plane under /_sandbox.

A request is read whole, meets the faults that are set, is admitted or refused, takes its latency, does its work, is recorded,
and only then answered: whoever has a reply finds it in the counts. The work is done whether or not the client still listens.
"""

import asyncio
import time
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from longwatch.sandbox import control
from longwatch.sandbox.exchange import Instant, Provider, Reply, Request
from longwatch.sandbox.faults import Fault
from longwatch.sandbox.settings import Settings
from longwatch.sandbox.state import NS_PER_MS, State
from longwatch.sandbox.tally import SERVICES

BODY_BYTES_MAX = 32 * 1024 * 1024
WITHOUT_REPLY = 0


class App:
    """The sandbox. `hang_up` closes a client's connection, given its (host, port); the server provides it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._epoch_ms = time.time_ns() // NS_PER_MS
        self._began_ns = time.monotonic_ns()
        self.state = State(settings, self.now())
        self.hang_up: Callable[[tuple[str, int]], None] | None = None
        self._control = control.application(self)

    def now(self) -> Instant:
        """The calendar follows the monotonic clock from the start on: it never steps."""
        now_ns = time.monotonic_ns()
        return Instant(now_ns, self._epoch_ms + (now_ns - self._began_ns) // NS_PER_MS)

    def reset(self) -> None:
        """Forget everything, back to the settings of the start."""
        self.state = State(self._settings, self.now())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, service, rest = f"{scope['path']}/".split("/", 2)
        if service in SERVICES:
            await self._exchange(service, "/" + rest.rstrip("/"), scope, receive, send)
        else:
            await self._control(scope, receive, send)

    async def _exchange(self, service: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        state = self.state
        body = await _body(receive)
        if body is None:
            return
        endpoint = state.providers[service].endpoint(scope["method"], path)
        place = f"{service} {endpoint}"
        others, others_there = state.in_flight[service], state.in_flight[place]
        state.in_flight[service] += 1
        state.in_flight[place] += 1
        try:
            request = _request(scope, path, body, others=others, others_there=others_there)
            reply, fault = await self._reply(state, service, endpoint, request)
            status = WITHOUT_REPLY if fault and fault.kind == "drop_reply" else reply.status
            t_ms = self.now().epoch_ms
            state.tally.record(service, endpoint, status, t_ms=t_ms, cost_micros=reply.cost_micros)
            await self._deliver(reply, fault, scope, receive, send)
        finally:
            state.in_flight[service] -= 1
            state.in_flight[place] -= 1

    async def _reply(self, state: State, service: str, endpoint: str, request: Request) -> tuple[Reply, Fault | None]:
        """The reply of the provider, and what is to happen to it. A refusal comes at once, a success takes its latency."""
        provider, latency_s = state.providers[service], state.latency_s(service)
        struck = state.faults.before_admission(service, endpoint, self.now().ns)
        if struck.latency_ms:
            await asyncio.sleep(struck.latency_ms / 1_000)
        if struck.fault is not None:
            return _error(provider, struck.fault), None
        if len(request.body) > BODY_BYTES_MAX:
            return provider.error(413, retry_after_s=0), None
        outcome = provider.admit(request, self.now())
        if isinstance(outcome, Reply) and outcome.status >= 400:
            return outcome, None
        fault = state.faults.after_admission(service, endpoint, self.now().ns)
        if latency_s:
            await asyncio.sleep(latency_s)
        instead = _error(provider, fault) if fault and fault.kind == "status_after" else None
        if isinstance(outcome, Reply):
            return instead or outcome, fault
        return outcome(self.now(), instead), fault

    async def _deliver(self, reply: Reply, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
        kind = fault.kind if fault else None
        if kind != "drop_reply":
            await _send(reply, send, broken=kind in ("cut", "silent"))
        if kind in ("drop_reply", "cut"):
            await self._close(scope, receive)
        elif kind == "silent":
            await _gone(receive)

    async def _close(self, scope: Scope, receive: Receive) -> None:
        """Close the connection once what was sent has left."""
        if self.hang_up is None:
            raise RuntimeError("this server cannot close a connection: use longwatch.sandbox.serve")
        self.hang_up(tuple(scope["client"]))
        await _gone(receive)


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    if reply.chunks is not None:
        return reply.headers
    return [*reply.headers, (b"content-length", b"%d" % len(reply.body))]


async def _send(reply: Reply, send: Send, *, broken: bool) -> None:
    """The whole reply, or the first half of it and no end."""
    await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
    if reply.chunks is not None:
        chunks = reply.chunks[: len(reply.chunks) // 2] if broken else reply.chunks
        return await _stream(chunks, reply.chunk_ms, send, ends=not broken)
    body = reply.body[: len(reply.body) // 2] if broken else reply.body
    return await send({"type": "http.response.body", "body": body, "more_body": broken})


async def _stream(chunks: list[bytes], chunk_ms: int, send: Send, *, ends: bool) -> None:
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if chunk_ms:
            await asyncio.sleep(chunk_ms / 1_000)
    if ends:
        await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or as much of it as shows that it is too much; None when the client left before its end."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body") and len(body) <= BODY_BYTES_MAX:
        message = await receive()
        body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


def _error(provider: Provider, fault: Fault) -> Reply:
    return provider.error(fault.status, retry_after_s=fault.retry_after_s)


async def _gone(receive: Receive) -> None:
    """Wait until the client or the server has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _request(scope: Scope, path: str, body: bytes, *, others: int, others_there: int) -> Request:
    return Request(
        method=scope["method"],
        path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=dict(scope["headers"]),
        body=body,
        others=others,
        others_at_endpoint=others_there,
    )
