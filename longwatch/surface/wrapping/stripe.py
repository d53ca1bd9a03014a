"""Stripe's client. Every request goes through its requestor's `request_raw`, also those of the objects that it returns.

A write carries the call's key as its idempotency key, unless the caller gave one: a repetition charges nobody twice.
Reading costs nothing.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from longwatch.policy.answer import Verdict, judge
from longwatch.policy.request import Needs
from longwatch.runtime.call import Call
from longwatch.surface.wrapping.pacer import Ending, Pacer, Request, kind_of

SERVICES = ("v1", "v2")
WRITES = ("post", "delete")
Raw = tuple[Any, int, Mapping[str, str]]
"""Body, status, headers."""


def wrapped(client: Any, pacer: Pacer) -> Any:
    requestor: Any = client._requestor
    made: Any = copy.copy(client)
    made._requestor = paced(requestor, pacer)
    for name in SERVICES:
        made.__dict__[name] = kind_of(made.__dict__[name])(made._requestor)  # it holds the one that it was made with
    made.oauth = kind_of(made.oauth)(made._requestor, made._options)
    return made


def paced(requestor: Any, pacer: Pacer) -> Any:
    """A requestor with the same settings and connections, whose every request is paced."""
    kind = kind_of(requestor)
    made: Any = kind(options=requestor._options, client=requestor._client)
    send, asend, derive = made.request_raw, made.request_raw_async, made._new_requestor_with_options

    def request_raw(method: str, url: str, params: Any = None, options: Any = None, *rest: Any, **how: Any) -> Raw:
        def attempt(call: Call) -> Raw:
            answer: Raw = send(method, url, params, given(options, method, call), *rest, **how)
            return answer

        return pacer.send(asked(pacer, made, method, url, options), attempt, ANSWERS)

    async def arequest_raw(
        method: str, url: str, params: Any = None, options: Any = None, *rest: Any, **how: Any
    ) -> Raw:
        async def attempt(call: Call) -> Raw:
            answer: Raw = await asend(method, url, params, given(options, method, call), *rest, **how)
            return answer

        return await pacer.asend(asked(pacer, made, method, url, options), attempt, ANSWERS)

    made.request_raw, made.request_raw_async = request_raw, arequest_raw

    def derived(options: Any) -> Any:
        return paced(derive(options), pacer)

    made._new_requestor_with_options = derived
    return made


def asked(pacer: Pacer, requestor: Any, method: str, url: str, options: Mapping[str, Any] | None) -> Request:
    """A deletion has a key since version 2 of the API; before, made again it would not find what it has deleted."""
    told, verb = options or {}, method.lower()
    own: int | None = told.get("max_network_retries", requestor._options.max_network_retries)
    repeatable = verb in ("get", "post") or url.startswith("/v2")
    key = told.get("idempotency_key") or None
    return Request(Needs(free=verb != "post"), pacer.retries(own), repeatable, keyed=verb in WRITES, key=key)


def given(options: Mapping[str, Any] | None, method: str, call: Call) -> dict[str, Any]:
    """What is sent with the request: the key, and no retries of the library's own."""
    told = {**(options or {}), "max_network_retries": 0}
    if method.lower() in WRITES:
        told["idempotency_key"] = told.get("idempotency_key") or call.key
    return told


class Answers:
    """An error is an answer with a status, which the library makes of it what it likes."""

    def verdict(self, outcome: Raw | BaseException, wall_ms: int) -> Verdict | None:
        if isinstance(outcome, BaseException):
            return None
        body, status, headers = outcome
        return judge("stripe", status, headers, code=code_of(body) if status >= 400 else "", wall_ms=wall_ms)

    def headers(self, outcome: Raw | BaseException) -> Mapping[str, str] | None:
        return None if isinstance(outcome, BaseException) else outcome[2]

    def told(self, error: BaseException) -> None:
        """An answer is returned before anything is made of it."""

    def finish(self, answer: Raw, ending: Ending) -> None:
        ending.settled()

    def reads_later(self, answer: Raw, ending: Ending) -> bool:
        return False


ANSWERS = Answers()


def code_of(body: Any) -> str:
    """The error's code in a body, "" when there is none."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, TypeError, KeyError):
        return ""
