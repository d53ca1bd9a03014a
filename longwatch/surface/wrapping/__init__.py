"""`lw.wrap(client)`: a client of the same type whose every request waits its turn, is paid for, and is repeated in one place.

pacer.py one request, from its admission to its settlement; models.py Anthropic and OpenAI; stripe.py; github.py. Each of
these hooks in where its library makes a request, never below it: an error that is raised there reaches the caller as it is.
No library is imported here that the caller has not imported.
"""

from typing import Any, TypeVar

from longwatch.errors import ConfigError, UnknownPrice
from longwatch.policy.duration import parse_ms
from longwatch.policy.estimate import has_prices
from longwatch.policy.money import Money
from longwatch.policy.naming import resolve_lane
from longwatch.surface.wrapping import github, models, stripe
from longwatch.surface.wrapping.counting import refuse
from longwatch.surface.wrapping.pacer import Pacer, Terms

__all__ = ["Terms", "wrap"]

C = TypeVar("C")
WRAPPERS = {
    "Anthropic": ("anthropic", models.wrapped),
    "AsyncAnthropic": ("anthropic", models.wrapped),
    "OpenAI": ("openai", models.wrapped),
    "AsyncOpenAI": ("openai", models.wrapped),
    "StripeClient": ("stripe", stripe.wrapped),
    "GitHub": ("github", github.wrapped),
}
MODELS = ("anthropic", "openai")
LIBRARIES = {"anthropic": "anthropic", "openai": "openai", "stripe": "stripe", "github": "githubkit"}


def wrap(client: C, terms: Terms) -> C:
    """Errors: ConfigError for a client that nothing is known of, and for one that is wrapped already."""
    if getattr(client, "longwatch_wrapped", False):
        raise ConfigError(
            "this client is wrapped already", hint="Wrap the plain one: every request would be paid for twice."
        )
    for kind in type(client).__mro__:
        service, wrapped = WRAPPERS.get(kind.__name__, ("", None))
        if wrapped is not None and kind.__module__.partition(".")[0] == LIBRARIES[service]:
            if terms.count_tokens and service != "anthropic":
                raise refuse(kind.__name__)
            check(terms, service)
            made: Any = wrapped(client, Pacer(service, terms))
            made.longwatch_wrapped = True
            return made  # type: ignore[no-any-return]
    raise unknown(client)


def check(terms: Terms, service: str) -> None:
    """Say at once what every request would be refused for. service: the client's own. Errors: ConfigError, UnknownPrice."""
    agent, budget = terms.account
    found = terms.parts.calls.limiter.scope(terms.service or service, None, budget, agent).scope.service
    if service in MODELS and terms.money is None and found.price_micros is None and not has_prices(found):
        raise UnknownPrice(
            f"nothing says what a request of {found.name} costs",
            hint=f'Give its models a price, [service.{found.name}.model."*"] price, or wrap(..., money="0 USD") if it is free.',
        )
    resolve_lane(terms.options["lane"])
    if terms.money is not None:
        Money.parse(terms.money)
    if terms.wait is not None:
        parse_ms(terms.wait)


def unknown(client: object) -> ConfigError:
    found = f"{type(client).__module__.partition('.')[0]}.{type(client).__qualname__}"
    if type(client).__name__ == "module":
        found, hint = (
            f"the module {getattr(client, '__name__', '')}",
            "Wrap a client: stripe.StripeClient(key), for one.",
        )
    else:
        hint = f'Known are {", ".join(WRAPPERS)}. Around any other: with lw.call("service") as call: ...'
    return ConfigError(f"{found} cannot be wrapped", hint=hint)
