"""Which names are known: nothing is unlimited by a typo.

As soon as the limits name any service, an unknown one is refused, and likewise for budgets. anthropic, openai, stripe
and github are always known, and so is the budget `main`, which pays when nobody names another.
"""

from collections.abc import Collection

from longwatch.errors import ConfigError, nearest
from longwatch.policy.limits import KNOWN_SERVICES, LANES, Budget, Limits, Service
from longwatch.policy.profiles import complete

MAIN = "main"


def resolve_service(limits: Limits, name: str) -> Service:
    """The service of this name; without limits of its own when no service is named at all. Errors: ConfigError."""
    if name in limits.services:
        return limits.services[name]
    if limits.services and name not in KNOWN_SERVICES:
        raise unknown("service", name, {*limits.services, *KNOWN_SERVICES})
    return complete(Service(name))


def resolve_budget(limits: Limits, name: str) -> Budget:
    """The budget of this name; without caps when no budget is named at all. Errors: ConfigError."""
    if name in limits.budgets:
        return limits.budgets[name]
    if limits.budgets and name != MAIN:
        raise unknown("budget", name, {*limits.budgets, MAIN})
    return Budget(name)


def resolve_lane(name: str) -> str:
    """The lane itself. Errors: ConfigError for any that does not exist."""
    if name not in LANES:
        raise ConfigError(f"unknown lane {name}{nearest(name, LANES)}", hint=f"Lanes are {', '.join(LANES)}.")
    return name


def unknown(sort: str, name: str, known: Collection[str]) -> ConfigError:
    """The refusal of a name that is neither in the config nor well known."""
    return ConfigError(
        f"unknown {sort} {name}{nearest(name, sorted(known))}",
        hint=f"Add [{sort}.{name}] to longwatch.toml, or use one of: {', '.join(sorted(known))}.",
    )


def check_name(what: str, name: str) -> None:
    """Errors: ConfigError for a name that not every engine can keep: one with a NUL, or with half of a surrogate pair."""
    if "\0" in name or not (name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)):
        raise ConfigError(f"{what} {name!r} holds a character that is no text", hint="Take it out of the name.")
