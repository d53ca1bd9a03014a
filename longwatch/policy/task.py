"""What may happen to a task. The table of moves is the only list of states; SQL guards, tests and diagrams follow it.

A task waits for what it needs, is scheduled until its instant, is ready, is claimed by a worker, runs under a lease,
and ends in exactly one outcome. Claimed is not started: a worker that dies with claimed tasks costs them nothing.
Failures (the handler raised) and crashes (the worker died) are counted apart, because a handler that fails is asked to
be patient with, and one that kills its worker is not.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["waiting", "scheduled", "ready", "claimed", "running", "done", "failed", "cancelled", "unknown"]
Fate = Literal["cancel", "fail", "ignore"]

MOVES: dict[str, dict[State, State]] = {
    "need_met": {"waiting": "scheduled"},  # the last of its needs succeeded, or may be ignored
    "come_due": {"scheduled": "ready"},
    "claim": {"ready": "claimed"},
    "start": {"claimed": "running"},
    "finish": {"running": "done"},
    "retry_later": {"running": "scheduled"},  # the handler failed, and has retries left
    "fail": {"running": "failed"},
    "hand_back": {"claimed": "ready", "running": "ready"},  # a graceful stop: costs no attempt
    "expire": {"claimed": "ready"},  # its worker died before it started
    "crash": {"running": "scheduled"},  # its worker died while it ran
    "crash_out": {"running": "failed"},  # once too often
    "lose": {"running": "unknown"},  # an effect that must not be repeated lost its reply
    "cancel": {
        "waiting": "cancelled",
        "scheduled": "cancelled",
        "ready": "cancelled",
        "claimed": "cancelled",
        "running": "cancelled",
    },
    "need_failed_cancel": {"waiting": "cancelled"},
    "need_failed_fail": {"waiting": "failed"},
    "resolve_done": {"unknown": "done"},
    "resolve_failed": {"unknown": "failed"},
    "resolve_cancelled": {"unknown": "cancelled"},
    "retry": {"failed": "scheduled", "cancelled": "scheduled", "unknown": "scheduled"},  # by a person
    "revive": {"cancelled": "waiting", "failed": "waiting"},  # what a retried task took down, and one that still waits
}  # fmt: skip

STATES: tuple[State, ...] = (
    "waiting",
    "scheduled",
    "ready",
    "claimed",
    "running",
    "done",
    "failed",
    "cancelled",
    "unknown",
)
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled", "unknown"})
LEASED: frozenset[State] = frozenset({"claimed", "running"})
SILENT: frozenset[State] = frozenset({"waiting", "scheduled", "ready"})

LANES: dict[str, int] = {"urgent": 0, "normal": 1, "batch": 2}
CRASH_LIMIT = 3


def moved(move: str, state: State) -> State | None:
    """The state after the move, or None when the table does not allow it."""
    return MOVES[move].get(state)


def sources(move: str) -> tuple[State, ...]:
    """The states that a move may start from."""
    return tuple(MOVES[move])


# -- how a run ends ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LastStep:
    """A step behind which its handler did nothing any more. result: JSON."""

    name: str
    result: str


@dataclass(frozen=True)
class Finished:
    """The handler returned. result: JSON. last: a step that is still to be stored, with the end."""

    result: str
    last: LastStep | None = None


@dataclass(frozen=True)
class Failed:
    """The handler raised. final: no retry, whatever is left (GiveUp). delay_ms: before the next attempt, if any."""

    error: str
    delay_ms: int = 0
    final: bool = False


@dataclass(frozen=True)
class Lost:
    """Nobody knows whether an effect that must not be repeated took place."""

    error: str


@dataclass(frozen=True)
class HandedBack:
    """The worker stops: somebody else shall run it, without an attempt spent."""


Outcome = Finished | Failed | Lost | HandedBack


def after_failure(*, failures: int, retries: int, final: bool) -> Literal["retry_later", "fail"]:
    """failures: with this one. retries: runs allowed beyond the first."""
    return "fail" if final or failures > retries else "retry_later"


def after_crash(*, crashes: int, limit: int, open_once: bool) -> Literal["crash", "crash_out", "lose"]:
    """crashes: with this one. open_once: an effect that is never repeated was begun and has no outcome."""
    if open_once:
        return "lose"
    return "crash_out" if crashes >= limit else "crash"


def fate_move(fate: Fate, state: State) -> str | None:
    """What a needed task's end in `state` means for one that waits for it; None: it goes on waiting.

    An `unknown` task leaves its dependants waiting until a person resolves it.
    """
    if state == "done" or (fate == "ignore" and state in ("failed", "cancelled")):
        return "need_met"
    if state in ("failed", "cancelled"):
        return "need_failed_cancel" if fate == "cancel" else "need_failed_fail"
    return None
