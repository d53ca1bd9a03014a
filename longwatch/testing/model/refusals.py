"""Decisions that are refusals, as the errors that the engines raise; their words do not count."""

from longwatch.admission.refusals import KeyForgotten
from longwatch.errors import BudgetExceeded, LimitRefused, ServicePaused
from longwatch.policy.admission import Shut, Spent, TooHeavy


def refusal(answer: TooHeavy | Spent | Shut | KeyForgotten) -> Exception:
    match answer:
        case Shut():
            return ServicePaused(answer.gate)
        case KeyForgotten():
            return answer
        case TooHeavy():
            return LimitRefused(answer.name)
        case Spent(standing) if standing.purse.startswith("service:"):
            return LimitRefused(standing.purse)
        case Spent(at, _):
            return BudgetExceeded(
                at.purse,
                budget=at.purse,
                dimension=at.dimension,
                cap=at.cap.amount,
                spent=at.spent,
                held=at.held,
                resets_at=at.ends_ms,
            )
