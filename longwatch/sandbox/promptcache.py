"""Prompt caching: which part of a prompt was seen before.

A block with `cache_control` ends a prefix. The longest prefix of a prompt that the cache still holds is read, what follows up
to the last such block is written, the rest is plain input. Prefixes belong to one key and model, are equal only character for
character, live five minutes or an hour from their last use, and count only from a least length on.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from longwatch.sandbox.answers import Part, tokens

PREFIXES_MAX = 20_000
TTL_NS = {"5m": 300 * 1_000_000_000, "1h": 3_600 * 1_000_000_000}


class Prefix(NamedTuple):
    """A prefix that ends at a cache_control block."""

    digest: bytes
    tokens: int
    ttl: str


class Split(NamedTuple):
    """Tokens of one prompt by what they cost, and the prefixes to remember."""

    input: int
    write_5m: int
    write_1h: int
    read: int
    prefixes: list[Prefix]


class PromptCache:
    """Prefixes and the instants until which they live; the one unused longest is forgotten first."""

    def __init__(self) -> None:
        self._until_ns: dict[bytes, int] = {}

    def split(self, scope: str, parts: Iterable[Part], *, tokens_min: int, now_ns: int) -> Split:
        """What a prompt would read and write now. Changes nothing: the call may yet be refused."""
        prefixes, total = _prefixes(scope, parts)
        prefixes = [prefix for prefix in prefixes if prefix.tokens >= tokens_min]
        read = max((prefix.tokens for prefix in prefixes if self._until_ns.get(prefix.digest, 0) > now_ns), default=0)
        hour = max((prefix.tokens for prefix in prefixes if prefix.ttl == "1h"), default=read)
        last = max((prefix.tokens for prefix in prefixes), default=0)
        write_1h = max(0, hour - read)
        write_5m = max(0, last - max(read, hour))
        return Split(total - read - write_1h - write_5m, write_5m, write_1h, read, prefixes)

    def remember(self, prefixes: Iterable[Prefix], now_ns: int) -> None:
        for prefix in prefixes:
            self._until_ns.pop(prefix.digest, None)
            self._until_ns[prefix.digest] = now_ns + TTL_NS[prefix.ttl]
        while len(self._until_ns) > PREFIXES_MAX:
            del self._until_ns[next(iter(self._until_ns))]


def _prefixes(scope: str, parts: Iterable[Part]) -> tuple[list[Prefix], int]:
    """The prefixes of a prompt, shortest first, and the tokens of the whole."""
    running = hashlib.sha256(scope.encode())
    prefixes: list[Prefix] = []
    characters = 0
    for part in parts:
        characters += len(part.text)
        running.update(part.text.encode())
        if part.cache_control is not None:
            prefixes.append(Prefix(running.copy().digest(), tokens(characters), part.cache_control.ttl))
    return prefixes, tokens(characters)
