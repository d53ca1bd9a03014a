"""githubkit's client. Every request goes through `request` or `arequest`, looked up on the client each time.

Requests cost nothing; what they take is rate, concurrency and quota. Reads may be repeated, writes where GitHub says that
nothing was done.
"""

import copy
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

from longwatch.policy.answer import Verdict, judge
from longwatch.policy.request import Needs
from longwatch.surface.wrapping.pacer import Ending, Pacer, Request, kind_of

NAMESPACES = ("rest", "_rest", "graphql", "webhooks")  # made once for a client, and bound to it


def wrapped(client: Any, pacer: Pacer) -> Any:
    made = copy.copy(client)
    for name in NAMESPACES:
        made.__dict__.pop(name, None)
    for name in [name for name in made.__dict__ if name.endswith(("__sync_client", "__async_client"))]:
        made.__dict__[name] = ContextVar(name, default=None)  # of its own `with` block
    made.config = copy.copy(client.config)
    object.__setattr__(made.config, "auto_retry", None)
    kind = kind_of(client)
    plain: tuple[Any, Any] = partial(kind.request, made), partial(kind.arequest, made)

    def request(method: str, url: Any, **how: Any) -> Any:
        return pacer.send(asked(pacer, method), lambda _: plain[0](method, url, **how), ANSWERS)

    async def arequest(method: str, url: Any, **how: Any) -> Any:
        return await pacer.asend(asked(pacer, method), lambda _: plain[1](method, url, **how), ANSWERS)

    def with_auth(auth: Any) -> Any:
        found = wrapped(kind.with_auth(made, auth), pacer)
        found.longwatch_wrapped = True
        return found

    made.request, made.arequest, made.with_auth = request, arequest, with_auth
    return made


def asked(pacer: Pacer, method: str) -> Request:
    return Request(Needs(free=pacer.terms.money is None), pacer.retries(None), method.upper() in ("GET", "HEAD"))


class Answers:
    """What githubkit's answers and errors say."""

    def verdict(self, outcome: Any, wall_ms: int) -> Verdict | None:
        response = getattr(outcome, "response", None) if isinstance(outcome, BaseException) else None
        status = getattr(response, "status_code", None)
        if not isinstance(status, int) or status < 400:
            return None
        text = getattr(response, "text", "")
        return judge("github", status, response.headers, code=text if isinstance(text, str) else "", wall_ms=wall_ms)  # type: ignore[union-attr]

    def headers(self, outcome: Any) -> Mapping[str, str] | None:
        response = getattr(outcome, "response", None) if isinstance(outcome, BaseException) else outcome
        return getattr(response, "headers", None)

    def told(self, error: BaseException) -> None:
        """What requests cost is not in their answers."""

    def finish(self, answer: Any, ending: Ending) -> None:
        ending.settled()

    def reads_later(self, answer: Any, ending: Ending) -> bool:
        return False


ANSWERS = Answers()
