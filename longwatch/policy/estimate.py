"""What a call costs in the fleet's currency: the most it can, before it leaves; what it did, once its usage is known."""

from longwatch.errors import ConfigError, UnknownPrice
from longwatch.policy import price
from longwatch.policy.limits import Limits, Service
from longwatch.policy.money import Money, convert
from longwatch.policy.price import Caching, Usage


def micros_of(money: str | Money, limits: Limits) -> int:
    """An amount in micro-units of the fleet's currency, rounded up. Errors: ConfigError, UnknownPrice."""
    return convert(Money.parse(money), limits.currency, limits.exchange).micros


def most_micros(
    service: Service,
    model: str | None,
    limits: Limits,
    *,
    prompt: int,
    longest: int,
    caching: Caching,
    requests: int,
    at_ms: int,
) -> int:
    """The most a call can cost whose price nobody gave: the service's own price, else the model's, else nothing.

    prompt, longest: tokens of the prompt and of the longest answer. requests: how many it makes, each at the service's own
    price. at_ms: today, for the price list.
    Errors: UnknownPrice for a model or currency without a price; ConfigError when the tokens are not known.
    """
    if service.price_micros is not None:
        return service.price_micros * requests
    if not price.has_prices(service.name):
        return 0
    row = price.find(service.name, model, at_ms=at_ms)
    if not longest or not prompt:
        raise _untold(service.name, "costs", ", or money= with the most it can cost")
    micros = price.worst_case_micros(row, input_tokens=prompt, max_tokens=longest, caching=caching)
    return micros_of(Money(micros, row.currency), limits)


def check_tokens(service: str, *, prompt: int, longest: int) -> None:
    """A call that pays from a budget of tokens has to hold them. Errors: ConfigError for a model's call that tells none."""
    if price.has_prices(service) and not (prompt and longest):
        raise _untold(service, "takes from a budget of tokens", "")


def _untold(service: str, does: str, otherwise: str) -> ConfigError:
    return ConfigError(
        f"what this call of {service} {does} at most cannot be told without its tokens",
        hint=f'Give weight={{"input_tokens": ...}} and max_tokens={otherwise}.',
    )


def spent_micros(service: str, model: str | None, usage: Usage, limits: Limits, *, at_ms: int) -> int | None:
    """What a usage cost; None where no price is known: the estimate stands then, the call was made already."""
    if not price.has_prices(service):
        return None
    try:
        row = price.find(service, model, at_ms=at_ms)
        return micros_of(Money(price.cost_micros(row, usage), row.currency), limits)
    except UnknownPrice:
        return None
