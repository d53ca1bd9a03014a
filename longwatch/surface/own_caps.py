"""Caps of single tasks, as the command line shows and moves them."""

from collections.abc import Sequence

from longwatch.errors import ConfigError
from longwatch.policy.budget import Standing
from longwatch.policy.limits import Limits
from longwatch.policy.money import Money
from longwatch.policy.scope import TASK
from longwatch.surface.caps import move_caps
from longwatch.surface.cli_base import BadUse
from longwatch.surface.session import Session
from longwatch.surface.wire import Json


def own_json(caps: Sequence[Standing], currency: str) -> list[Json]:
    """Every cap with what is spent and held of it. Money in micro-units with its currency; calls and tokens as counts."""
    return [_json(cap, currency) for cap in caps]


def _json(cap: Standing, currency: str) -> Json:
    unit = "_micros" if cap.dimension == "money" else ""
    amounts = {"cap": cap.cap.amount, "spent": cap.spent, "held": cap.held}
    money = {"currency": currency} if unit else {}
    named = {f"{name}{unit}": amount for name, amount in amounts.items()}
    return {"dimension": cap.dimension, **named, **money, "open_calls": cap.places}


def own_words(caps: Sequence[Standing], currency: str, *, begin: str = "") -> str:
    """Of each what is spent and held; empty where there are none."""
    said = [_words(cap, currency) for cap in caps]
    return f"{begin}{', '.join(said)}" if said else ""


def _words(cap: Standing, currency: str) -> str:
    spent, held, most = (amount_of(value, cap.dimension, currency) for value in (cap.spent, cap.held, cap.cap.amount))
    more = f" and held {held} by {cap.places} call{'' if cap.places == 1 else 's'}" if cap.places else ""
    return f"spent {spent}{more} of {most}"


def amount_of(value: int, dimension: str, currency: str) -> str:
    return str(Money(value, currency)) if dimension == "money" else f"{value} {dimension}"


def task_named(name: str, limits: Limits) -> str | None:
    """The task that `budget set` is told of, None: it is told of a budget."""
    if name in limits.budgets:
        return None
    task = name.removeprefix(TASK)
    return task if task.startswith("task_") else None


def set_caps(session: Session, task: str, money: Sequence[str], calls: int | None, tokens: int | None) -> None:
    """Other caps of the task from now on. Errors: NotFound; ConfigError for what it was submitted without a cap on."""
    if len(money) > 1 or not (money or calls is not None or tokens is not None):
        raise BadUse(
            "a task has one cap on money, one on calls and one on tokens",
            hint=f'longwatch budget set {task} "3 USD", or --calls N, or --tokens N',
        )
    agent, one = session.settings.agent, money[0] if money else None
    before, amounts = move_caps(session.parts, task, agent=agent, money=one, calls=calls, tokens=tokens)
    currency = session.limits.currency
    rows = own_json(session.parts.calls.limiter.task_caps.all(task), currency)
    said = [
        f"{task}: {amount_of(before[name], name, currency)} -> {amount_of(amount, name, currency)}"
        for name, amount in amounts.items()
    ]
    session.out.answer({"task": task, "caps": rows}, "\n".join(said))


def refuse_counts(calls: int | None, tokens: int | None) -> None:
    """Of a budget only money is set by hand. Errors: ConfigError."""
    if calls is not None or tokens is not None:
        raise ConfigError(
            "--calls and --tokens are of a task's own caps, not of a budget's",
            hint="A budget's calls and tokens stand in longwatch.toml: [budget.NAME] calls, tokens.",
        )
