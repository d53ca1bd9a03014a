"""githubkit's client. Every request goes through `request` or `arequest`, looked up on the client each time.

Requests cost nothing; what they take is rate, concurrency and quota. Reads may be repeated, writes where GitHub says that
nothing was done.
"""

import copy
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
    made.config = copy.copy(client.config)
    object.__setattr__(made.config, "auto_retry", None)
    kind = kind_of(client)
    plain: tuple[Any, Any] = partial(kind.request, made), partial(kind.arequest, made)

    def request(method: str, url: Any, **how: Any) -> Any:
        return pacer.send(asked(pacer, method), lambda _: plain[0](method, url, **how), ANSWERS)

    async def arequest(method: str, url: Any, **how: Any) -> Any:
        return await pacer.asend(asked(pacer, method), lambda _: plain[1](method, url, **how), ANSWERS)

    made.request, made.arequest = request, arequest
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

    def finish(self, answer: Any, ending: Ending) -> Any:
        ending.settled()
        return answer


ANSWERS = Answers()
