"""Decisions that are refusals, as errors: what happened, why with figures, what to do."""

from longwatch.admission.calls import CallRequest
from longwatch.errors import BudgetExceeded, ConfigError, LimitRefused, LongwatchError, NotFound, Refused
from longwatch.policy.admission import Spent, TooHeavy
from longwatch.policy.aside import Missing
from longwatch.policy.limits import Limits
from longwatch.policy.money import Money
from longwatch.policy.scope import TASK
from longwatch.policy.window import LAST_MS, describe

PERIODS = {"minute": "this minute", "hour": "this hour", "day": "today", "week": "this week", "month": "this month"}


class KeyForgotten(LongwatchError):
    """The service has forgotten the key of this call: sent again, it would take effect twice. Find out by hand what
    became of its first use. Nothing was sent."""

    code = "key_forgotten"


def no_such_call(call: str) -> NotFound:
    hint = "longwatch show ID opens any call that exists, longwatch archive show ID one that has left the state."
    return NotFound(f"there is no call {call} of this process", hint=hint)


def too_heavy(refused: TooHeavy) -> LimitRefused:
    service, _, dimension = refused.name.partition("/")
    dimension = dimension.rpartition("/")[2]
    return LimitRefused(
        f"{service} can never take this call.\n"
        f"  it weighs {refused.weight} {dimension}, its limit takes {refused.most} at most.",
        hint=f"Split the call, or correct [service.{service}] rate in longwatch.toml.",
    )


def overruled() -> ConfigError:
    return ConfigError(
        "the limits or budgets of this fleet were changed by another process since this one opened it",
        hint="Give both the same config, then open the fleet again; longwatch journal --kind config. says what changed.",
    )


def spent(refused: Spent, limits: Limits, *, wall_ms: int) -> Refused:
    """A budget's cap as BudgetExceeded, a service's quota as LimitRefused."""
    found = refused.standing
    sort, _, name = found.purse.partition(":")
    message = f"{_who(sort, name)} cannot hold {_amount(refused.need, found.dimension, limits)} more{_period(refused)}."
    message += f"\n  {_figures(refused, limits)}"
    retry_after = None if found.ends_ms >= LAST_MS else max(0, found.ends_ms - wall_ms) / 1000
    if sort == "service":
        hint = f"Wait, or raise it: [service.{name}] quota in longwatch.toml."
        return LimitRefused(message, hint=hint, retry_after=retry_after)
    return BudgetExceeded(
        message,
        budget=name or sort,
        dimension=found.dimension,
        cap=found.cap.amount,
        spent=found.spent,
        held=found.held + found.aside,
        resets_at=None if found.ends_ms >= LAST_MS else found.ends_ms,
        hint=_raise_it(sort, name, found.dimension),
        retry_after=retry_after,
    )


def no_room(found: Missing, limits: Limits, *, wall_ms: int) -> Refused:
    """A batch that needs more of a cap than there is."""
    refused = spent(Spent(found.standing, found.need), limits, wall_ms=wall_ms)
    refused.message = refused.message.replace(" cannot hold ", " cannot set aside ", 1) + "\n  Nothing was submitted."
    if not found.never:
        refused.hint = (
            f"Submit it for the next {found.standing.cap.window}: schedule=True, or --schedule. {refused.hint}"
        )
    return refused


def nor_cheaper(refused: Refused, last: CallRequest, limits: Limits) -> Refused:
    """The refusal of a call, when none of the cheaper models got it through either. last: it with the cheapest of them."""
    refused.message += f"\n  nor {_amount(last.money, 'money', limits)} for {last.model}, the cheapest of its models."
    return refused


def _who(sort: str, name: str) -> str:
    return {"fleet": "the fleet", "agent": f"agent {name}", "service": f"the quota of {name}"}.get(sort, name)


def _period(refused: Spent) -> str:
    per = refused.standing.cap.window
    return f" {PERIODS[per]}" if per in PERIODS else ""


def _figures(refused: Spent, limits: Limits) -> str:
    found = refused.standing
    spent, held, cap = (
        _amount(value, found.dimension, limits) for value in (found.spent, found.held, found.cap.amount)
    )
    calls = f"{found.places} call{'' if found.places == 1 else 's'}"
    apart = f", set aside for batches {_amount(found.aside, found.dimension, limits)}" if found.aside else ""
    text = f"spent {spent}, held {held} by {calls}{apart}, cap {cap}"
    if found.ends_ms >= LAST_MS:
        if found.purse.startswith(TASK):
            return f"{text}; it is for all attempts of the task together."
        return f"{text}; it has no window and never resets."
    return f"{text}; the {found.cap.window} ends {describe(found.ends_ms, limits.timezone)}."


def _amount(value: int, dimension: str, limits: Limits) -> str:
    if dimension == "money":
        return str(Money(value, limits.currency))
    return f"{value} {dimension if value != 1 else dimension.removesuffix('s')}"


def _raise_it(sort: str, name: str, dimension: str) -> str:
    if sort == "budget":
        hint = f"Wait, or raise it: [budget.{name}] {dimension} in longwatch.toml"
        return f"{hint}, or longwatch budget set {name} AMOUNT --until DATE." if dimension == "money" else f"{hint}."
    if sort == "task":
        amount = "AMOUNT" if dimension == "money" else f"--{dimension} N"
        return f"Raise it: longwatch budget set {name} {amount}; if it has ended by then: longwatch task retry {name}."
    where = f"[agent.{name}]" if sort == "agent" else "[fleet]"
    return f"Wait, or raise it: {where} {dimension} in longwatch.toml."


def forgotten(key: str, service: str, *, age_ms: int, memory_ms: int) -> KeyForgotten:
    return KeyForgotten(
        f"{service} remembers a key for {memory_ms // 3_600_000} h; {key} was first used {age_ms // 60_000 / 60:.1f} h ago",
        hint=f"Look up at {service} what became of it, then settle it: longwatch task resolve.",
    )
