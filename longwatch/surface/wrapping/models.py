"""Clients of the two model providers whose libraries are made by one generator: Anthropic and OpenAI, sync and async.

All their resources make requests through the client's `request`, looked up on the client each time; so that is what a
wrapped copy has its own of, and of `copy`, whose results would make requests unseen. Answers come parsed, as raw responses,
or as streams; a stream is settled by its events when its response is closed.
"""

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from longwatch.policy.answer import Verdict, judge
from longwatch.policy.price import Usage
from longwatch.policy.request import needs_of
from longwatch.policy.usage import Streamed, model_of, usage_of
from longwatch.surface.wrapping.pacer import Ending, Pacer, Request, kept, kind_of


def wrapped(client: Any, pacer: Pacer) -> Any:
    """A copy of the client, over the same connections, that makes no retries of its own."""
    own: int = client.max_retries
    kind = kind_of(client)
    made = client.copy(max_retries=0)
    pacing = Pacing(made, pacer, own)
    made.request = pacing.arequest if inspect.iscoroutinefunction(kind.request) else pacing.request
    made.copy = made.with_options = partial(again, made, pacer, own)
    return made


def again(made: Any, pacer: Pacer, own: int, **options: Any) -> Any:
    """As `copy`, of a client that is wrapped."""
    kind = kind_of(made)
    copied: Any = kind.copy(made, **({"max_retries": own} | options))
    found = wrapped(copied, pacer)
    found.longwatch_wrapped = True
    return found


class Pacing:
    """How one wrapped client makes requests."""

    def __init__(self, made: Any, pacer: Pacer, own: int) -> None:
        self._made, self._pacer, self._own = made, pacer, own
        kind = kind_of(made)
        self._plain: Callable[..., Any] = partial(kind.request, made)
        self._answers = Answers(pacer.profile)

    def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        return self._pacer.send(
            self._asked(options), lambda _: self._plain(cast_to, once(options), **how), self._answers
        )

    async def arequest(self, cast_to: Any, options: Any, **how: Any) -> Any:
        return await self._pacer.asend(
            self._asked(options), lambda _: self._plain(cast_to, once(options), **how), self._answers
        )

    def _asked(self, options: Any) -> Request:
        needs = needs_of(self._pacer.profile, options.method, options.url, options.json_data)
        retries = self._pacer.retries(options.get_max_retries(self._own))
        return Request(needs, retries, options.method.upper() == "GET")


def once(options: Any) -> Any:
    """The same request, without retries of the library's own."""
    return options.model_copy(update={"max_retries": 0})


class Answers:
    """What the answers and errors of these libraries say."""

    def __init__(self, profile: str) -> None:
        self._profile = profile

    def verdict(self, outcome: Any, wall_ms: int) -> Verdict | None:
        """Of an error with a status; what is returned was a success."""
        status = getattr(outcome, "status_code", None)
        if not isinstance(outcome, BaseException) or not isinstance(status, int) or status < 400:
            return None
        response = getattr(outcome, "response", None)
        code = getattr(outcome, "code", None) or getattr(outcome, "type", None)
        headers = getattr(response, "headers", {})
        return judge(self._profile, status, headers, code=code if isinstance(code, str) else "", wall_ms=wall_ms)

    def finish(self, answer: Any, ending: Ending) -> Any:
        if hasattr(answer, "__stream__"):
            return streamed(answer, answer.response, ending)
        response = getattr(answer, "http_response", None)
        if response is None:
            ending.settled(usage_of(answer), model_of(answer))
        elif response.is_closed:
            ending.settled(*told_by(response))
        else:
            unread(answer, response, ending)
        return answer


def told_by(response: Any) -> tuple[Usage | None, str | None]:
    """The usage and the model in a body that has been read as a whole; None where there is none."""
    with contextlib.suppress(Exception):  # it was not read, or is no JSON: the estimate stands
        body = json.loads(response.content)
        return usage_of(body), model_of(body)
    return None, None


# -- what is read later ------------------------------------------------------------------------------------------------------


def streamed(stream: Any, response: Any, ending: Ending) -> Any:
    """The stream, whose events are read along. Closed before its end, nobody knows what it has cost."""
    seen = Streamed()
    watch_events(stream, seen)
    when_closed(response, lambda: told(seen, ending))
    return stream


def unread(answer: Any, response: Any, ending: Ending) -> None:
    """A response whose body its owner reads as he likes: as a stream of events, as a whole, or not at all."""
    seen, parse = Streamed(), answer.parse

    def parsed(**how: Any) -> Any:
        found = parse(**how)
        return watch_events(found, seen) if hasattr(found, "__stream__") else found

    async def aparsed(**how: Any) -> Any:
        found = await parse(**how)
        return watch_events(found, seen) if hasattr(found, "__stream__") else found

    def closed() -> None:
        if seen.usage is not None:
            told(seen, ending)
        elif hasattr(response, "_content"):
            ending.settled(*told_by(response))

    def left() -> None:
        closed()
        ending.settled()  # as bytes or lines: the estimate stands

    answer.parse = aparsed if inspect.iscoroutinefunction(parse) else parsed
    when_closed(response, closed)
    if hasattr(answer, "close"):
        answer.close = then(answer.close, left)


def told(seen: Streamed, ending: Ending) -> None:
    if seen.ended:
        ending.settled(seen.usage, seen.model)
    else:
        ending.failed(BrokenOff("the stream was closed before its end"), None)


def watch_events(stream: Any, seen: Streamed) -> Any:
    watch = awatched if hasattr(stream, "__aiter__") else watched
    stream._iterator = watch(stream._iterator, seen)
    return stream


class BrokenOff(Exception):
    """A stream that nobody read to its end."""


def watched(events: Iterator[Any], seen: Streamed) -> Iterator[Any]:
    for event in events:
        seen.add(event)
        yield event


async def awatched(events: AsyncIterator[Any], seen: Streamed) -> AsyncIterator[Any]:
    async for event in events:
        seen.add(event)
        yield event


def when_closed(response: Any, end: Callable[[], None]) -> None:
    """Call `end` whenever the response has been closed, which its library does when it has been read."""
    response.close, response.aclose = then(response.close, end), then(response.aclose, end)


def then(close: Callable[..., Any], end: Callable[[], None]) -> Callable[..., Any]:
    """close, and then end, in the way of `close`."""

    def closed(*given: Any) -> None:
        try:
            close(*given)
        finally:
            end()

    async def aclosed(*given: Any) -> None:
        try:
            await close(*given)
        finally:
            await kept(end)

    return aclosed if inspect.iscoroutinefunction(close) else closed
