"""Tasks that have ended and left for the archive, as who submits them again, or waits for them, gets them.

The state knows of their keys only that these are taken, and on which day the task ended. So the archive is looked into, outside
of any transaction, by whoever meets such a key, or an id that the state does not know, and by nobody else. It has of a task
all that was asked for: whether a request is the same is told as in the state. Where it cannot be told, nothing is submitted.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import NoReturn

from longwatch.errors import KeyConflict, StoreUnavailable
from longwatch.policy.window import DAY_MS
from longwatch.runtime.archive import Archives
from longwatch.runtime.persist import persist
from longwatch.store.archive import Archive, Entry
from longwatch.store.moves import NewTask, Task, task_of
from longwatch.store.restoring import decode
from longwatch.store.taken import Away
from longwatch.store.tasks import Submitted, Tasks, same_task


def submit(tasks: Tasks, archives: Archives | None, item: NewTask) -> Submitted:
    """Write the task down, or find the one that has its key, wherever that is.

    Errors: as `Tasks.submit`; StoreUnavailable when its key is taken by what is in an archive that cannot be read.
    """
    try:
        return persist(lambda: tasks.submit([item]))
    except Away as away:
        return Submitted((_same(archives, away, item),), 0)


def of_id(archives: Archives | None, task: str) -> Task | None:
    """A task that has left, as it ended; None: the archive has none of this id. Errors: StoreUnavailable."""
    archive = None if archives is None else archives.opened()
    found = [] if archive is None else [entry for entry in archive.show(task).entries if entry.kind == "task"]
    return task_of(_newest(found)) if found else None


def _same(archives: Archives | None, away: Away, item: NewTask) -> Task:
    """Errors: KeyConflict when it was another request, or its copy is no more there; StoreUnavailable."""
    archive = _opened(archives, away)
    try:
        found, faults = archive.of_key(away.key), archive.manifest().faults
    except (StoreUnavailable, OSError) as error:
        _refuse(away, str(error), error)
    same = [entry for entry in found.entries if entry.at_ms // DAY_MS == away.ended_day]
    if same:
        return same_task(_newest(same), item)
    if found.unread:
        _refuse(away, f"{found.unread[0].name}: {found.unread[0].what}")
    if faults:
        _refuse(away, f"line {faults[0][0]} of its manifest is broken: {faults[0][1]}")
    raise KeyConflict(
        f"the key {away.key!r} belongs to a task that ended, and that is no more in the archive",
        hint="Its segment was dropped, so that nobody can tell what it was; it is not run again. For new work use another key.",
    )


def _opened(archives: Archives | None, away: Away) -> Archive:
    try:
        archive = None if archives is None else archives.opened()
    except (StoreUnavailable, OSError) as error:
        _refuse(away, str(error), error)
    if archive is None:
        _refuse(away, "it is not there" if archives is None else f"there is no folder {archives.folder}")
    return archive


def _refuse(away: Away, why: str, cause: Exception | None = None) -> NoReturn:
    raise StoreUnavailable(
        f"{away.message}, which cannot be read: {why}",
        hint="Nothing was submitted. Put the archive back to where [archive] to names it, and submit again: longwatch archive "
        "verify says what is wrong with it. For new work use another key.",
    ) from cause


def _newest(copies: Iterable[Entry]) -> SimpleNamespace:
    """A row of the last copy: a task that was brought back and ran again was archived again."""
    newest = max(copies, key=lambda entry: entry.at_ms)
    return SimpleNamespace(**decode(newest.body), owner=None, until_ms=None)
