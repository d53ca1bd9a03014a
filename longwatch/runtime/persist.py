"""Writes whose reply was lost are made again: every one of them finds itself by its id, key or fence.

So are those that the engine has undone: they lost against another writer, or the connection went before their commit.
"""

from collections.abc import Callable
from typing import TypeVar

from longwatch.errors import StoreUnavailable

T = TypeVar("T")
TRIES = 4


def persist(write: Callable[[], T]) -> T:
    """Make the write; up to TRIES times, when the reply was lost or the engine has undone it. Errors: as the write."""
    for _ in range(TRIES - 1):
        try:
            return write()
        except StoreUnavailable as error:
            if not (error.maybe_committed or error.undone):
                raise
    return write()
