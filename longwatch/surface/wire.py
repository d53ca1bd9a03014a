"""How every surface writes errors and records: exit status, HTTP status and JSON, in one table each.

Fields are added, never renamed. Instants are `*_at`, RFC 3339 in UTC; lengths `*_ms`; amounts `*_micros` with `currency`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from longwatch import errors
from longwatch.admission.calls import Call
from longwatch.admission.refusals import KeyForgotten
from longwatch.errors import LongwatchError
from longwatch.policy.task import LANES
from longwatch.store.journal import Entry
from longwatch.store.leases import Listed
from longwatch.store.look import StepRow, Tried
from longwatch.store.moves import Task
from longwatch.store.workers import Enrolled

if TYPE_CHECKING:
    from longwatch.surface.briefs import Hit, Snapshot
    from longwatch.surface.memory import Record

Json = dict[str, Any]

OK, REFUSED, USAGE, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Statuses:
    """exit: of the command line. http: of the same error over HTTP."""

    exit: int
    http: int


ERRORS: dict[type[LongwatchError], Statuses] = {
    errors.LongwatchError: Statuses(REFUSED, 500),
    errors.Refused: Statuses(REFUSED, 429),
    errors.LimitRefused: Statuses(REFUSED, 429),
    errors.ServicePaused: Statuses(REFUSED, 503),
    errors.BudgetExceeded: Statuses(REFUSED, 402),
    errors.UnknownPrice: Statuses(REFUSED, 402),
    errors.ResourceDirty: Statuses(REFUSED, 423),
    errors.WaitTimeout: Statuses(REFUSED, 408),
    errors.LeaseBusy: Statuses(REFUSED, 409),
    errors.LeaseLost: Statuses(REFUSED, 409),
    errors.EditConflict: Statuses(REFUSED, 409),
    errors.KeyConflict: Statuses(REFUSED, 409),
    errors.StepReused: Statuses(REFUSED, 409),
    errors.TaskFailed: Statuses(REFUSED, 200),
    errors.TaskCancelled: Statuses(REFUSED, 200),
    errors.TaskUnknown: Statuses(REFUSED, 200),
    errors.TaskNotDone: Statuses(REFUSED, 200),
    errors.NotFound: Statuses(REFUSED, 404),
    errors.NotStorable: Statuses(REFUSED, 422),
    errors.BudgetTooSmall: Statuses(REFUSED, 422),
    errors.ConfigError: Statuses(USAGE, 422),
    errors.StoreUnavailable: Statuses(REFUSED, 503),
    KeyForgotten: Statuses(REFUSED, 409),
}


def statuses(error: LongwatchError) -> Statuses:
    """Of the error's own class, or of the nearest one above it."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)


def error_json(error: LongwatchError) -> Json:
    return {"error": error.to_dict()}


def encode(value: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def at(epoch_ms: int | None) -> str | None:
    """An instant as RFC 3339 in UTC, to the millisecond."""
    if epoch_ms is None:
        return None
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def listing(name: str, rows: Sequence[Json], *, after: str | int | None = None) -> Json:
    """A page of a list. next: what `--before` takes to see the following page, null when this is the last."""
    return {name: list(rows), "next": after}


# -- records -------------------------------------------------------------------------------------------------------------


def task_json(task: Task) -> Json:
    return {
        "id": task.id,
        "kind": task.kind,
        "state": task.state,
        "args": json.loads(task.args),
        "result": None if task.result is None else json.loads(task.result),
        "error": task.error,
        "cause": task.cause,
        "key": task.key,
        "batch": task.batch,
        "agent": task.agent,
        "budget": task.budget,
        "lane": next(name for name, rank in LANES.items() if rank == task.lane),
        "retries": task.retries,
        "failures": task.failures,
        "crashes": task.crashes,
        "crash_limit": task.crash_limit,
        "timeout_ms": task.timeout_ms,
        "submitted_at": at(task.submitted_ms),
        "ready_at": at(task.ready_ms),
        "ended_at": at(task.ended_ms),
        "owner": task.owner,
        "fence": task.fence,
    }


def run_json(run: Tried) -> Json:
    return {
        "id": run.id,
        "task": run.task,
        "fence": run.fence,
        "owner": run.owner,
        "agent": run.agent,
        "outcome": run.outcome,
        "error": run.error,
        "started_at": at(run.started_ms),
        "ended_at": at(run.ended_ms),
    }


def step_json(step: StepRow) -> Json:
    return {
        "name": step.name,
        "sort": step.sort,
        "state": step.state,
        "result": None if step.result is None else json.loads(step.result),
        "started_at": at(step.started_ms),
        "stored_at": at(step.stored_ms),
    }


def entry_json(entry: Entry) -> Json:
    return {
        "seq": entry.seq,
        "at": at(entry.at_ms),
        "kind": entry.kind,
        "subject": entry.subject,
        "agent": entry.agent,
        "task": entry.task,
        "data": entry.data,
    }


def lease_json(lease: Listed) -> Json:
    return {
        "id": lease.id,
        "names": list(lease.names),
        "agent": lease.agent,
        "task": lease.task,
        "edit": lease.edit,
        "owner": lease.owner,
        "fence": lease.fence,
        "until_at": at(lease.until_ms),
    }


def call_json(call: Call, *, currency: str) -> Json:
    return {
        "id": call.id,
        "key": call.key,
        "state": call.phase,
        "service": call.service,
        "model": call.model,
        "agent": call.agent,
        "budget": call.budget,
        "task": call.task,
        "run": call.run,
        "step": call.step,
        "lane": call.lane,
        "money_micros": call.money,
        "currency": currency,
        "calls": call.calls,
        "tokens": call.tokens,
        "slot_at": at(call.slot_ms),
        "admitted_at": at(call.admitted_ms),
        "ended_at": at(call.ended_ms),
        "owner": call.owner,
    }


def worker_json(worker: Enrolled, *, alive: bool) -> Json:
    return {
        "owner": worker.owner,
        "agent": worker.agent,
        "pid": worker.pid,
        "name": worker.name,
        "alive": alive,
        "since_at": at(worker.since_ms),
        "beat_at": at(worker.beat_ms),
    }


def record_json(record: "Record") -> Json:
    """Of memory."""
    return {
        "id": record.id,
        "ref": record.ref,
        "agent": record.agent,
        "kind": record.kind,
        "state": record.state,
        "text": record.text,
        "data": record.data,
        "task": record.task,
        "thread": record.thread,
        "author": record.author,
        "at": at(round(record.at.timestamp() * 1000)),
        "trust": record.trust,
        "source": record.source,
        "key": record.key,
        "successor": record.successor,
        "pinned": record.pinned,
        "history": [
            {"at": at(round(when.timestamp() * 1000)), "who": who, "action": what, "note": note}
            for when, who, what, note in record.history
        ],
    }


def snapshot_json(snapshot: "Snapshot", *, currency: str) -> Json:
    """Of memory."""
    return {
        "id": snapshot.id,
        "agent": snapshot.agent,
        "level": snapshot.level,
        "first": snapshot.first,
        "last": snapshot.last,
        "records": snapshot.records,
        "tasks": snapshot.tasks,
        "starts_at": at(round(snapshot.starts_at.timestamp() * 1000)),
        "ends_at": at(round(snapshot.ends_at.timestamp() * 1000)),
        "made_at": at(round(snapshot.made_at.timestamp() * 1000)),
        "author": snapshot.author,
        "why_offline": snapshot.why,
        "money_micros": snapshot.micros,
        "currency": currency,
        "dropped_claims": snapshot.dropped,
    }


def hit_json(hit: "Hit") -> Json:
    """Of a recall."""
    return {
        "id": hit.id,
        "ref": hit.ref,
        "agent": hit.agent,
        "kind": hit.kind,
        "state": hit.state,
        "text": hit.text,
        "snippet": hit.snippet,
        "score": hit.score,
        "task": hit.task,
        "at": at(round(hit.at.timestamp() * 1000)),
        "trust": hit.trust,
        "author": hit.author,
        "thread": hit.thread,
        "context": list(hit.context),
    }
