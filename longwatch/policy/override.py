"""A budget's cap on money that a person has set for a while: it stands in for the config's of the same window.

It is kept with the limits of the fleet, and ends by itself: from its instant on, by the budgets' calendar, the config's cap
counts again, whoever is awake then. Whatever changes the config leaves it as it is, unless the budget goes or the currency
changes.
"""

from collections.abc import Iterable
from dataclasses import replace

from longwatch.policy.limits import Budget, Cap, Limits, Override
from longwatch.policy.naming import unknown
from longwatch.policy.window import LAST_MS


def bare(limits: Limits) -> Limits:
    """As the config has them."""
    return replace(limits, overrides=())


def at(limits: Limits, at_ms: int) -> Limits:
    """The caps that count at this instant of the calendar."""
    going = standing(limits, at_ms)
    if not going:
        return limits
    budgets = dict(limits.budgets)
    for override in going:
        budgets[override.budget] = _overridden(budgets[override.budget], override.cap)
    return replace(limits, budgets=budgets)


def standing(limits: Limits, at_ms: int) -> tuple[Override, ...]:
    """Those that count at this instant."""
    return tuple(each for each in limits.overrides if _ends_ms(each) > at_ms and each.budget in limits.budgets)


def turns_ms(limits: Limits, at_ms: int) -> int:
    """The first instant after this one at which other caps count; LAST_MS: never."""
    return min((_ends_ms(each) for each in standing(limits, at_ms)), default=LAST_MS)


def put(limits: Limits, override: Override, at_ms: int) -> Limits:
    """With this one, in place of any other of its budget and window. Errors: ConfigError for an unknown budget."""
    check_budget(limits, override.budget)
    others = [each for each in standing(limits, at_ms) if _place(each) != _place(override)]
    return replace(limits, overrides=_in_order([*others, override]))


def clear(limits: Limits, budget: str, at_ms: int) -> Limits:
    """Without any of this budget. Errors: ConfigError for an unknown budget."""
    check_budget(limits, budget)
    return replace(limits, overrides=_in_order(each for each in standing(limits, at_ms) if each.budget != budget))


def carry(old: Limits, new: Limits) -> Limits:
    """Limits of another config, with the overrides of the old one that it has the budget and the currency for."""
    if old.currency != new.currency:
        return new
    return replace(new, overrides=tuple(each for each in old.overrides if each.budget in new.budgets))


def configured(limits: Limits, budget: str, window: str) -> Cap | None:
    """The cap on money that the config has, None: none for this window."""
    found = limits.budgets.get(budget, Budget(budget)).caps.get("money", ())
    return next((cap for cap in found if cap.window == window), None)


def check_budget(limits: Limits, name: str) -> None:
    """Errors: ConfigError for a budget that the config does not name, with the nearest that it does."""
    if name not in limits.budgets:
        raise unknown("budget", name, limits.budgets)


def _overridden(budget: Budget, cap: Cap) -> Budget:
    before = budget.caps.get("money", ())
    caps = [cap if each.window == cap.window else each for each in before]
    if cap not in caps:
        caps.append(cap)
    return replace(budget, caps={**budget.caps, "money": tuple(caps)})


def _ends_ms(override: Override) -> int:
    return LAST_MS if override.until_ms is None else override.until_ms


def _place(override: Override) -> tuple[str, str]:
    return override.budget, override.cap.window


def _in_order(overrides: Iterable[Override]) -> tuple[Override, ...]:
    return tuple(sorted(overrides, key=_place))
