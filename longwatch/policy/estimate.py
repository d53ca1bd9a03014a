"""What a call costs in the fleet's currency: the most it can, before it leaves; what it did, once its usage is known."""

from longwatch.errors import ConfigError, UnknownPrice, nearest
from longwatch.policy import price
from longwatch.policy.limits import Limits, Service
from longwatch.policy.money import Money, convert
from longwatch.policy.naming import resolve_service
from longwatch.policy.price import Caching, Price, Usage
from longwatch.policy.scope import narrowest


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
    if not has_prices(service):
        return 0
    row = price_of(service, model, limits, at_ms=at_ms)
    if not longest or not prompt:
        raise _untold(service.name, "costs", ", or money= with the most it can cost")
    micros = price.worst_case_micros(row, input_tokens=prompt, max_tokens=longest, caching=caching)
    return micros_of(Money(micros, row.currency), limits)


def has_prices(service: Service) -> bool:
    """Whether calls of this service are priced by model; then an unknown model is refused."""
    return bool(service.prices) or price.has_prices(service.name)


def price_of(service: Service, model: str | None, limits: Limits, *, at_ms: int) -> Price:
    """The config's price of this model, else the list's. Errors: UnknownPrice."""
    pattern = narrowest(service.prices, model)
    if pattern is None:
        return price.find(service.name, model, at_ms=at_ms)
    own = service.prices[pattern]
    return Price(service.name, pattern, "", own.base, own.above_tokens, own.long, limits.currency)


def check_priced(model: str, limits: Limits) -> None:
    """Some service has a price for the model. Errors: UnknownPrice, with the nearest name that has one."""
    unknown: UnknownPrice | None = None
    for name in sorted({*limits.services, *(found.service for found in price.PRICES)}):
        try:
            row = price_of(resolve_service(limits, name), model, limits, at_ms=0)
        except UnknownPrice:
            continue
        try:
            micros_of(Money(0, row.currency), limits)
        except UnknownPrice as error:
            unknown = error
        else:
            return
    known = [found.model for found in price.PRICES]
    raise unknown or UnknownPrice(
        f"no price is known for {model}{nearest(model, known)}",
        hint=f'Name a model of the list that is shipped, or give it a price: [service.NAME.model."{model}"] price.',
    )


def check_tokens(service: Service, *, prompt: int, longest: int) -> None:
    """A call that pays from a budget of tokens has to hold them. Errors: ConfigError for a model's call that tells none."""
    if has_prices(service) and not (prompt and longest):
        raise _untold(service.name, "takes from a budget of tokens", "")


def _untold(service: str, does: str, otherwise: str) -> ConfigError:
    return ConfigError(
        f"what this call of {service} {does} at most cannot be told without its tokens",
        hint=f'Give weight={{"input_tokens": ...}} and max_tokens={otherwise}.',
    )


def batched_micros(service: Service, model: str, limits: Limits, *, prompt: int, longest: int, at_ms: int) -> int:
    """The most that a request in a batch can cost: the service's own price, else half of the model's. Errors: UnknownPrice."""
    if service.price_micros is not None:
        return service.price_micros
    row = price_of(service, model, limits, at_ms=at_ms)
    micros = price.worst_case_micros(row, input_tokens=prompt, max_tokens=longest, percent=price.BATCHED)
    return micros_of(Money(micros, row.currency), limits)


def spent_micros(
    service: str, model: str | None, usage: Usage, limits: Limits, *, at_ms: int, percent: int = 100
) -> int | None:
    """What a usage cost; None where no price is known: the estimate stands then, the call was made already.

    percent: of the list price.
    """
    try:
        found = resolve_service(limits, service)
        if not has_prices(found):
            return None
        row = price_of(found, model, limits, at_ms=at_ms)
        return micros_of(Money(price.cost_micros(row, usage, percent=percent), row.currency), limits)
    except (UnknownPrice, ConfigError):
        return None
