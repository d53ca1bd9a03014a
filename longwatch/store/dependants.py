"""What a task's end, or its new beginning, means for those that need it, and for those that need them, in the same
transaction."""

from longwatch.db.connection import Row, Transaction
from longwatch.policy import task as policy
from longwatch.store.journal import Journal
from longwatch.store.moves import Task, move, read_task, task_of


def tell_dependants(tx: Transaction, journal: Journal, ended: Task) -> int:
    """Tell everybody who waits, to the last; how many tasks this made runnable. The root cause keeps its name."""
    runnable, queue = 0, [ended]
    while queue:
        task = queue.pop()
        if task.state not in policy.ENDED:
            runnable += 1 if task.state in ("scheduled", "ready") else 0
            continue
        for row in tx.all("tasks.dependants", needs=task.id):
            told = _tell(tx, journal, task, row)
            if told is not None:
                queue.append(told)
    return runnable


def run_again(tx: Transaction, journal: Journal, ended: Task) -> Task:
    """Anew and with all attempts: now, or once what it still needs has ended."""
    name = "retry" if tx.one("tasks.open_need", task=ended.id) is None else "revive"
    return move(tx, journal, ended, name, failures=0, crashes=0)


def revive_dependants(tx: Transaction, journal: Journal, again: Task) -> None:
    """Revive what a need had taken down, to the last, unless it needs another one that has ended badly."""
    queue = [again]
    while queue:
        task = queue.pop()
        for row in tx.all("tasks.dependants", needs=task.id):
            if row.cause is not None and tx.one("tasks.bad_need", task=row.task) is None:
                queue.append(run_again(tx, journal, read_task(tx, row.task)))


def _tell(tx: Transaction, journal: Journal, needed: Task, row: Row) -> Task | None:
    verdict = policy.fate_move(row.fate, needed.state)
    if verdict is None:
        return None
    if verdict == "need_met":
        tx.count("tasks.meet", task=row.task, needs=needed.id)
    if row.state != "waiting":
        return None
    if verdict == "need_met":
        if tx.one("tasks.open_need", task=row.task) is not None:
            return None
        return move(tx, journal, read_task(tx, row.task), "need_met")
    root = needed.cause or needed.id
    return move(tx, journal, read_task(tx, row.task), verdict, error=_blame(tx, needed, root), cause=root, ended=True)


def _blame(tx: Transaction, needed: Task, root: str) -> str:
    said = f"needs {needed.id} ({needed.kind}), which {'was' if needed.state == 'cancelled' else 'has'} {needed.state}"
    origin = needed if root == needed.id else _origin(tx, root)
    if origin is None:
        return said
    where = f"; root cause {origin.id} ({origin.kind})" if root != needed.id else ""
    return f"{said}{where}: {origin.error or origin.state}"


def _origin(tx: Transaction, root: str) -> Task | None:
    """None: it is in the archive, and what it took down was brought back without it."""
    found = tx.one("tasks.by_id", id=root)
    return None if found is None else task_of(found)
