"""`@lw.task(...)` and `@longwatch.task(...)`: functions become handlers, with their types kept."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from longwatch.policy.backoff import Backoff
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.money import Money
from longwatch.policy.needs import plain
from longwatch.policy.own_caps import OwnCaps, own_caps
from longwatch.runtime.handler import Handler, Options
from longwatch.runtime.run import Run
from longwatch.surface.aio import AsyncRun

P = ParamSpec("P")
R = TypeVar("R")


class Declares(Protocol):
    """The decorator: a sync function takes a Run, an async one an AsyncRun; the other arguments are checked by `bind`."""

    @overload
    def __call__(self, function: Callable[Concatenate[AsyncRun, P], Awaitable[R]], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Run, P], R], /) -> Handler[P, R]: ...


def declare(
    name: str | None,
    *,
    retries: int,
    timeout: Duration | None,
    crashes: int,
    backoff: Duration,
    needs: Mapping[str, Mapping[str, Any]] | None,
    caps: OwnCaps,
    then: Callable[[Handler[Any, Any]], None] | None = None,
) -> Declares:
    options = Options(
        retries=retries,
        crashes=crashes,
        timeout_ms=None if timeout is None else parse_ms(timeout),
        backoff=Backoff(first_ms=parse_ms(backoff)),
        needs=plain(needs or {}),
        caps=caps,
    )

    def decorate(function: Callable[..., Any], /) -> Handler[..., Any]:
        handler: Handler[..., Any] = Handler(function, name or function.__name__, options)
        if then is not None:
            then(handler)
        return handler

    return cast("Declares", decorate)


def task(
    name: str | None = None,
    *,
    retries: int = 0,
    timeout: Duration | None = None,
    crashes: int = 3,
    backoff: Duration = "2s",
    needs: Mapping[str, Mapping[str, Any]] | None = None,
    money: str | Money | None = None,
    calls: int | None = None,
    tokens: int | None = None,
) -> Declares:
    """Declare a handler without a fleet; `lw.include(handler)` adds it to one. Options: see `Longwatch.task`."""
    caps = own_caps(money=money, calls=calls, tokens=tokens)
    return declare(name, retries=retries, timeout=timeout, crashes=crashes, backoff=backoff, needs=needs, caps=caps)
