"""Clients of the two model providers whose libraries are made by one generator: Anthropic and OpenAI, sync and async.

All their resources make requests through the client's `request`, looked up on the client each time; so that is what a
wrapped copy has its own of, and of `copy`, whose results would make requests unseen. Answers come parsed, as raw responses,
or as streams; a stream is settled by its events when its response is closed.
"""

import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

from longwatch.errors import ConfigError
from longwatch.policy.answer import Verdict, judge
from longwatch.policy.price import Usage
from longwatch.policy.request import needs_of
from longwatch.policy.usage import Streamed, model_of, usage_of
from longwatch.runtime.call import Call
from longwatch.surface.wrapping.counting import Counting, answer_type
from longwatch.surface.wrapping.pacer import Ending, Pacer, Request, kept, kind_of

ANSWERED: ContextVar[list[Any] | None] = ContextVar("longwatch_answered", default=None)
"""Responses that came to the request of this context, for what its library cannot make anything of."""


def wrapped(client: Any, pacer: Pacer) -> Any:
    """A copy of the client, over the same connections, that makes no retries of its own. Errors: ConfigError."""
    own: int = client.max_retries
    try:
        made = client.copy(max_retries=0)
    except TypeError as error:
        raise ConfigError(
            f"{type(client).__qualname__} cannot be copied: {error}",
            hint="Wrap a client of the library itself, or give your class a `copy` that works.",
        ) from error
    kind = kind_of(client)
    pacing = Pacing(made, pacer, own)
    made.request = pacing.arequest if inspect.iscoroutinefunction(kind.request) else pacing.request
    made._process_response = remembering(made._process_response)
    made.copy = made.with_options = partial(again, made, pacer, own)
    return made


def again(made: Any, pacer: Pacer, own: int, **options: Any) -> Any:
    """As `copy`, of a client that is wrapped."""
    kind = kind_of(made)
    copied: Any = kind.copy(made, **({"max_retries": own} | options))
    found = wrapped(copied, pacer)
    found.longwatch_wrapped = True
    return found


def remembering(process: Callable[..., Any]) -> Callable[..., Any]:
    """As the library makes an answer of a response, with the response remembered first."""

    def remembered(**how: Any) -> Any:
        came = ANSWERED.get()
        if came is not None and not how.get("stream"):
            came.append(how["response"])
        return process(**how)

    return remembered


class Pacing:
    """How one wrapped client makes requests."""

    def __init__(self, made: Any, pacer: Pacer, own: int) -> None:
        kind = kind_of(made)
        self._pacer, self._own = pacer, own
        self._plain: Callable[..., Any] = partial(kind.request, made)
        self._answers = Answers(pacer.profile)
        self._counting = Counting(pacer) if pacer.terms.count_tokens else None

    def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        told = once(options)
        asked = self._asked(options, told)
        if self._counting is not None:
            asked = self._counting.counted(asked, told, body_of(told), self._count)

        def attempt(call: Call) -> Any:
            ANSWERED.set([])
            return self._plain(cast_to, affordable(told, call), **how)

        return self._pacer.send(asked, attempt, self._answers)

    async def arequest(self, cast_to: Any, options: Any, **how: Any) -> Any:
        told = once(options)
        asked = self._asked(options, told)
        if self._counting is not None:
            asked = await self._counting.acounted(asked, told, body_of(told), self._count)

        async def attempt(call: Call) -> Any:
            ANSWERED.set([])
            return await self._plain(cast_to, affordable(told, call), **how)

        return await self._pacer.asend(asked, attempt, self._answers)

    def _count(self, question: Any) -> Any:
        return self._plain(answer_type(), question)

    def _asked(self, options: Any, told: Any) -> Request:
        """told: what will be sent."""
        needs = needs_of(self._pacer.profile, options.method, options.url, body_of(told))
        retries = self._pacer.retries(options.get_max_retries(self._own))
        return Request(needs, retries, options.method.upper() == "GET")


def body_of(told: Any) -> Any:
    """The JSON of what will be sent."""
    beside: Any = getattr(told, "extra_json", None)
    return cast("dict[str, Any]", told.json_data or {}) | cast("dict[str, Any]", beside) if beside else told.json_data


def once(options: Any) -> Any:
    """The same request, without retries of the library's own; what can be read only once is read."""
    return options.model_copy(update={"max_retries": 0, "json_data": listed(options.json_data)})


def affordable(told: Any, call: Call) -> Any:
    """What will be sent, with the model that the budget has room for."""
    if call.instead_of is None:
        return told
    changed: dict[str, Any] = {"json_data": {**(told.json_data or {}), "model": call.model}}
    beside = getattr(told, "extra_json", None)
    if beside and "model" in beside:
        changed["extra_json"] = {**beside, "model": call.model}
    return told.model_copy(update=changed)


def listed(value: object) -> Any:
    if isinstance(value, dict):
        return {key: listed(found) for key, found in cast("dict[Any, object]", value).items()}
    if isinstance(value, list | tuple | Iterator | set | frozenset):
        return [listed(found) for found in cast("Iterable[object]", value)]
    return value


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

    def headers(self, outcome: Any) -> Mapping[str, str] | None:
        """Of a stream or a raw response itself; else of the response that the answer was made of."""
        if isinstance(outcome, BaseException):
            return getattr(getattr(outcome, "response", None), "headers", None)
        came = ANSWERED.get() or ()
        ANSWERED.set(None)
        response = getattr(outcome, "response", None) if hasattr(outcome, "__stream__") else None
        response = response or getattr(outcome, "http_response", None) or next(reversed(came), None)
        return getattr(response, "headers", None)

    def told(self, error: BaseException) -> tuple[Usage | None, str | None] | None:
        """Of an answer that came whole before its library failed to read it as the program wished."""
        for response in ANSWERED.get() or ():
            found = told_by(response) if response.is_success and response.is_closed else (None, None)
            if found[0] is not None:
                return found
        return None

    def finish(self, answer: Any, ending: Ending) -> None:
        response = getattr(answer, "http_response", None)
        ending.settled(*((usage_of(answer), model_of(answer)) if response is None else told_by(response)))

    def reads_later(self, answer: Any, ending: Ending) -> bool:
        if hasattr(answer, "__stream__"):
            streamed(answer, answer.response, ending)
            return True
        response = getattr(answer, "http_response", None)
        if response is None or response.is_closed or not hasattr(answer, "parse"):
            return False
        unread(answer, response, ending)
        return True


def told_by(response: Any) -> tuple[Usage | None, str | None]:
    """The usage and the model in a body that has been read as a whole; None where there is none."""
    with contextlib.suppress(Exception):  # it was not read, or is no JSON: the estimate stands
        body = json.loads(response.content)
        return usage_of(body), model_of(body)
    return None, None


# -- what is read later ------------------------------------------------------------------------------------------------------


def streamed(stream: Any, response: Any, ending: Ending) -> None:
    """The stream, whose events are read along. Closed before its end, nobody knows what it has cost."""
    seen = Streamed()
    watch_events(stream, seen)
    when_closed(response, lambda: told(seen, ending))


def unread(answer: Any, response: Any, ending: Ending) -> None:
    """A response whose body its owner reads as he likes: as a stream of events, as a whole, or not at all."""
    seen, parse = Streamed(), answer.parse
    begun: list[Any] = []  # streams of its events

    def watched(found: Any) -> Any:
        if hasattr(found, "__stream__") and not begun:
            begun.append(watch_events(found, seen))
        return found

    def parsed(**how: Any) -> Any:
        return watched(parse(**how))

    async def aparsed(**how: Any) -> Any:
        return watched(await parse(**how))

    def closed() -> None:
        if begun:
            told(seen, ending)
        elif hasattr(response, "_content"):
            ending.settled(*told_by(response))
        elif not hasattr(answer, "close"):
            left()

    def left() -> None:
        if not begun and hasattr(response, "_content"):
            ending.settled(*told_by(response))
        else:
            told(seen, ending)  # as bytes or lines: nobody knows what they said

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
    watch = aread_along if hasattr(stream, "__aiter__") else read_along
    stream._iterator = watch(stream._iterator, seen)
    return stream


class BrokenOff(Exception):
    """A stream that nobody read to its end."""


def read_along(events: Iterator[Any], seen: Streamed) -> Iterator[Any]:
    for event in events:
        seen.add(event)
        yield event


async def aread_along(events: AsyncIterator[Any], seen: Streamed) -> AsyncIterator[Any]:
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
