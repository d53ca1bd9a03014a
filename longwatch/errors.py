"""Every error Longwatch raises: a stable code, its facts as fields, and what to do about it.

A message says what happened, then why with figures; `.hint` says what to do next. Surfaces turn `.code` into exit
statuses and HTTP statuses (surface/wire.py); nothing else may depend on the words.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LongwatchError(Exception):
    """Something Longwatch refuses or could not do. Catch a subclass; `.code` is stable, the message is for people."""

    code = "error"
    hint = ""
    retry_after: float | None = None  # seconds

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        if hint:
            self.hint = hint
        if retry_after is not None:
            self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, object]:
        """The JSON form that every surface shows: code, message, hint, retry_after_ms (milliseconds or null)."""
        wait_ms = None if self.retry_after is None else round(self.retry_after * 1000)
        return {"code": self.code, "message": self.message, "hint": self.hint, "retry_after_ms": wait_ms}


class Refused(LongwatchError):
    """Not now: nothing was done and nothing was sent. Repeat after `.retry_after`, or do what `.hint` says."""

    code = "refused"


class LimitRefused(Refused):
    """The call can never fit its limit, or not within the time it may wait."""

    code = "limit_refused"


class ServicePaused(Refused):
    """The service takes no calls at the moment. `.until_ms`: epoch milliseconds, or None until somebody resumes it."""

    code = "service_paused"

    def __init__(
        self, message: str, *, until_ms: int | None = None, hint: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.until_ms = until_ms


class BudgetExceeded(Refused):
    """The budget cannot hold what the call may cost. Amounts are micro-units of the fleet's currency, or plain counts.

    `.budget` the purse, `.dimension` money, calls or tokens, `.cap`, `.spent` and `.held` now, `.resets_at` the epoch
    milliseconds at which the window ends (None: never). Wait for that instant, or raise the cap.
    """

    code = "budget_exceeded"

    def __init__(
        self,
        message: str,
        *,
        budget: str,
        dimension: str,
        cap: int,
        spent: int,
        held: int,
        resets_at: int | None,
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.budget, self.dimension = budget, dimension
        self.cap, self.spent, self.held, self.resets_at = cap, spent, held, resets_at


class UnknownPrice(Refused):
    """No price is known for this model or currency: an unknown price is never taken for 0. Add one to the config."""

    code = "unknown_price"


class ResourceDirty(Refused):
    """The last holder of the resource died half-way; it must be repaired before anybody uses it."""

    code = "resource_dirty"


class WaitTimeout(Refused, TimeoutError):
    """`wait=` or `timeout=` ran out before the thing waited for happened."""

    code = "wait_timeout"


class LeaseBusy(WaitTimeout):
    """Somebody else holds the resource. `.holder` who, `.until_ms` epoch milliseconds at which the lease runs out."""

    code = "lease_busy"

    def __init__(
        self, message: str, *, holder: str, until_ms: int, hint: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.holder, self.until_ms = holder, until_ms


class LeaseLost(LongwatchError):
    """Another owner holds the resource or the run: its fence is newer than yours. Stop; do not repeat the write."""

    code = "lease_lost"


class EditConflict(LongwatchError):
    """A file changed since the edit read it. Nothing was written: read again and repeat the edit."""

    code = "edit_conflict"


class KeyConflict(LongwatchError):
    """The key was used before with other arguments. Use another key, or the same arguments."""

    code = "key_conflict"


class StepReused(LongwatchError):
    """A step name was used twice in one run. Put the item in the name: f"page-{n}"."""

    code = "step_reused"


class TaskFailed(LongwatchError):
    """The task ended without a result. `.task` is its id; the message carries the task's own error and root cause."""

    code = "task_failed"

    def __init__(self, message: str, *, task: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.task = task


class TaskCancelled(TaskFailed):
    """The task was cancelled, by somebody or because a task it needs did not succeed."""

    code = "task_cancelled"


class TaskUnknown(TaskFailed):
    """Nobody knows how the task ended: an effect that must not be repeated lost its reply. A person has to resolve."""

    code = "task_unknown"


class TaskNotDone(LongwatchError):
    """The task has no outcome yet. Wait for it with lw.wait(task.id)."""

    code = "task_not_done"


class NotFound(LongwatchError, LookupError):
    """No such task, run, call, lease, batch, handler or name."""

    code = "not_found"


class NotStorable(LongwatchError, TypeError):
    """A value cannot be kept as JSON, or is too large. The message names the path of the value."""

    code = "not_storable"


class ConfigError(LongwatchError, ValueError):
    """The configuration, an argument or the way of calling is wrong; the message names file, line and key."""

    code = "config_error"


class BudgetTooSmall(LongwatchError, ValueError):
    """A brief of so few tokens cannot hold even the charter. `.tokens` asked for, `.least` needed. Ask for more."""

    code = "budget_too_small"

    def __init__(self, message: str, *, tokens: int, least: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tokens, self.least = tokens, least


class StoreUnavailable(LongwatchError, ConnectionError):
    """The state or the admission engine is away, read-only, full, damaged or too new. Nothing is lost: repeat later."""

    code = "store_unavailable"
    maybe_committed = False  # the reply to a commit was lost: look up whether it landed
    waits = False  # it is away and may soon be back: whoever may wait asks again
    undone = False  # nothing of the write was kept, and another try may succeed at once


class GiveUp(Exception):
    """Raised by a handler: no further attempt makes sense. The task fails now, whatever retries are left."""


class RetryLater(Exception):
    """Raised by a handler: try again after `delay` ("10m", seconds or a timedelta), counted as one attempt."""

    def __init__(self, delay: object, reason: str = "") -> None:
        super().__init__(reason or f"retry after {delay}")
        self.delay, self.reason = delay, reason


def nearest(name: str, known: Iterable[str]) -> str:
    """`": did you mean stripe?"` for "sripe", or an empty string when nothing is near."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else ""
