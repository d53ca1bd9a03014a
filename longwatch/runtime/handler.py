"""Handlers: the functions that do tasks, what they are called, and how they are retried.

A handler is found by the name of its kind. `bind` ties arguments to it, checked by its own signature, before it is
submitted; calling it runs the plain function.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from longwatch.errors import ConfigError, nearest
from longwatch.policy.backoff import Backoff
from longwatch.policy.needs import Needs
from longwatch.policy.own_caps import OwnCaps
from longwatch.policy.task import CRASH_LIMIT
from longwatch.runtime.storable import annotations, from_json, rebuild, result_type
from longwatch.store.workers import Kind, Manner

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Options:
    """How a kind of task is run. retries: runs beyond the first. timeout_ms: of one run; None: none. needs: of services.
    caps: on what all calls of one task may cost."""

    retries: int = 0
    crashes: int = CRASH_LIMIT
    timeout_ms: int | None = None
    backoff: Backoff = field(default_factory=Backoff)
    needs: Needs = field(default_factory=Needs)
    caps: OwnCaps = field(default_factory=OwnCaps)


@dataclass(frozen=True)
class Bound(Generic[R_co]):
    """A handler with its arguments, ready to be submitted."""

    kind: str
    arguments: Mapping[str, Any]
    options: Options


def bound_by_name(kind: Kind, arguments: Mapping[str, Any]) -> Bound[Any]:
    """Arguments for a handler that this process does not have. Errors: ConfigError when they do not fit."""
    manner = kind.manner
    known = (*manner.required, *manner.optional)
    for name in arguments:
        if name not in known:
            raise ConfigError(
                f"{kind.name} takes no argument {name!r}{nearest(name, known)}", hint=f"It takes: {', '.join(known)}."
            )
    missing = [name for name in manner.required if name not in arguments]
    if missing:
        raise ConfigError(f"{kind.name} needs {', '.join(missing)}", hint=f"It takes: {', '.join(known)}.")
    options = Options(manner.retries, manner.crashes, manner.timeout_ms, needs=manner.needs, caps=manner.caps)
    return Bound(kind.name, dict(arguments), options)


class Handler(Generic[P, R]):
    """A function that does tasks of one kind. Call it to run the plain function; `bind` it to submit it."""

    def __init__(
        self,
        function: Callable[Concatenate[Any, P], R] | Callable[Concatenate[Any, P], Awaitable[R]],
        kind: str,
        options: Options,
    ) -> None:
        self.function = cast("Callable[..., Any]", function)
        self.kind, self.options = kind, options
        self.module, self.qualname = function.__module__, function.__qualname__
        self.is_async = inspect.iscoroutinefunction(function)
        self.__wrapped__, self.__name__, self.__doc__ = function, function.__name__, function.__doc__
        self._signature = _signature(function, kind)
        self._types = annotations(function)
        self.returns = result_type(function)

    def __call__(self, run: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", self.function(run, *args, **kwargs))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The handler with these arguments. Errors: ConfigError when they do not fit its signature."""
        return Bound(self.kind, self._bound(args, kwargs), self.options)

    def arguments(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `bind`, by name."""
        return self._bound((), dict(given))

    def kind_of(self) -> Kind:
        """What the fleet remembers of this handler."""
        options, parameters = self.options, list(self._signature.parameters.values())[1:]
        manner = Manner(
            retries=options.retries,
            crashes=options.crashes,
            timeout_ms=options.timeout_ms,
            required=tuple(one.name for one in parameters if one.default is one.empty),
            optional=tuple(one.name for one in parameters if one.default is not one.empty),
            needs=options.needs,
            caps=options.caps,
        )
        return Kind(self.kind, self.module, manner)

    def call(self, run: Any, args: str) -> Any:
        """Run the function with arguments from their JSON, rebuilt as its annotations say."""
        given = cast("dict[str, Any]", from_json(args))
        rebuilt = {name: self._rebuilt(name, value) for name, value in given.items()}
        return self.function(run, **rebuilt)

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        try:
            bound = self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            names = ", ".join(list(self._signature.parameters)[1:]) or "no arguments"
            raise ConfigError(f"{self.kind}: {error}", hint=f"It takes: {names}.") from error
        return dict(list(bound.arguments.items())[1:])

    def _rebuilt(self, name: str, value: object) -> object:
        if name not in self._types:
            return value
        return rebuild(value, self._types[name])


def _signature(function: Callable[..., Any], kind: str) -> inspect.Signature:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    odd = [p for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    positional = [p for p in parameters[1:] if p.kind is p.POSITIONAL_ONLY]
    if not parameters or odd or positional:
        raise ConfigError(
            f"the handler of {kind!r} must be a function of a run and named arguments: {signature}",
            hint="Write def name(run: Run, customer: str) -> ...; no *args, no **kwargs.",
        )
    return signature


class Registry:
    """The handlers of one fleet handle, by kind."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler[Any, Any]] = {}

    def add(self, handler: Handler[Any, Any]) -> None:
        """Errors: ConfigError when another function has this kind already."""
        known = self.handlers.get(handler.kind)
        same = known is not None and (known.module, known.qualname) == (handler.module, handler.qualname)
        if known is not None and not same:
            raise ConfigError(
                f"two handlers are called {handler.kind!r}: {known.module}.{known.qualname} and "
                f"{handler.module}.{handler.qualname}",
                hint='Give one another name: @lw.task("name").',
            )
        self.handlers[handler.kind] = handler
