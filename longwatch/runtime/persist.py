"""Writes whose reply was lost are made again: every one of them finds itself by its id, key or fence."""

from collections.abc import Callable
from typing import TypeVar

from longwatch.errors import StoreUnavailable

T = TypeVar("T")
TRIES = 4


def persist(write: Callable[[], T]) -> T:
    """Make the write; again, up to TRIES times, when it may have landed and the reply was lost. Errors: as the write."""
    for _ in range(TRIES - 1):
        try:
            return write()
        except StoreUnavailable as error:
            if not error.maybe_committed:
                raise
    return write()
