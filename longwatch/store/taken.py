"""Keys that stay taken when their tasks have gone into the archive: what was done is not done again.

There may be millions, and they stay for as long as segments do, so of each only eight bytes are kept, and the day. Two keys
of the same eight bytes are not to be met with. A batch leaves one, for its name: its tasks' own keys are made of that.
"""

import hashlib

from longwatch.db.connection import Transaction
from longwatch.errors import KeyConflict
from longwatch.policy.window import DAY_MS


class Away(KeyConflict):
    """The task that has the key ended, on this day, and has left for the archive: what it was is to be looked up there."""

    def __init__(self, key: str, ended_day: int) -> None:
        super().__init__(
            f"the key {key!r} belongs to a task that ended and is in the archive",
            hint=f"longwatch archive find {key} --kind task tells what came of it. For new work use another key.",
        )
        self.key, self.ended_day = key, ended_day


def keep(tx: Transaction, *, key: str | None = None, batch: str | None = None, ended_ms: int) -> None:
    """batch: a name of one, instead of a task's key."""
    tx.count("retire.keep_key", short=_short(key, batch), ended_day=ended_ms // DAY_MS)


def free(tx: Transaction, key: str) -> None:
    """Its task is back, and has it again."""
    tx.count("retire.free_key", short=_short(key, None))


def forget(tx: Transaction, *, before_ms: int) -> None:
    """Keys of tasks that ended before: their segments were dropped with their age."""
    tx.count("retire.forget_keys", ended_day=before_ms // DAY_MS)


def refuse(tx: Transaction, *, key: str | None = None, batch: str | None = None) -> None:
    """Errors: Away for a key, KeyConflict for a batch's name, that is taken by what has gone."""
    found = tx.one("retire.key", short=_short(key, batch))
    if found is None:
        return
    if batch is None:
        raise Away(str(key), found.ended_day)
    raise KeyConflict(
        f"there was a batch {batch!r}, whose tasks have ended and are in the archive",
        hint=f"longwatch archive find {batch} --kind task tells what came of them. Give new items another batch name.",
    )


def short(whose: str, key: str) -> int:
    """Eight bytes that stand for a key, among those of its owner or its sort."""
    return int.from_bytes(hashlib.blake2b(f"{whose}\0{key}".encode(), digest_size=8).digest(), signed=True)


def _short(key: str | None, batch: str | None) -> int:
    return short("key", str(key)) if batch is None else short("batch", batch)
