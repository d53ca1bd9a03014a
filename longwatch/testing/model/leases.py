"""Leases, the line before them, and commits of files under their fences, as dictionaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from longwatch.db.connection import Transaction
from longwatch.policy.edit import Item
from longwatch.policy.lease import SILENT_MS, Claim, Holder
from longwatch.store.edits import Also, Fences, Pending
from longwatch.store.leases import Busy, Listed, Names, Taken, lost

NO_TRANSACTION = cast("Transaction", None)  # the model has none: what goes with a commit may refuse, not write


@dataclass(frozen=True)
class Held:
    """A lease that was taken and not ended by anybody; it may have run out. boot: the one it was taken in."""

    fence: int
    holder: Holder
    names: Names
    ttl_ms: int
    until_ms: int
    edit: str | None
    boot: str


@dataclass(frozen=True)
class Place:
    """A place in line."""

    holder: Holder
    names: Names
    asked_ms: int


@dataclass(frozen=True)
class Commit:
    root: str
    holder: Holder
    items: tuple[Item, ...]
    applied: bool


@dataclass
class LeaseStore:
    """next_fence: greater than every one before."""

    now_ms: Callable[[], int]
    boot: Callable[[], str]
    next_fence: Callable[[], int]
    held: dict[str, Held] = field(default_factory=dict[str, Held])
    line: dict[str, Place] = field(default_factory=dict[str, Place])  # the first in line first

    def take(self, lease: str, names: Names, *, holder: Holder, ttl_ms: int, edit: str | None = None) -> Taken | Busy:
        if (mine := self.held.get(lease)) and self.alive(mine):
            return Taken(lease, mine.fence, mine.until_ms)
        self._drop_silent()
        if busy := self.blocked(lease, names):
            known = self.line.get(lease)
            place = replace(known, asked_ms=self.now_ms()) if known else Place(holder, names, self.now_ms())
            self.line[lease] = place
            return busy
        for other in [id for id, held in self.held.items() if id == lease or shares(held.names, names)]:
            del self.held[other]
        self.line.pop(lease, None)
        until_ms = self.now_ms() + ttl_ms
        mine = Held(self.next_fence(), holder, names, ttl_ms, until_ms, edit, self.boot())
        self.held[lease] = mine
        return Taken(lease, mine.fence, until_ms)

    def alive(self, held: Held) -> bool:
        return held.until_ms > self.now_ms() and held.boot == self.boot()

    def _drop_silent(self) -> None:
        """Whoever has not asked for a second has lost the place."""
        self.line = {id: place for id, place in self.line.items() if place.asked_ms > self.now_ms() - SILENT_MS}

    def blocked(self, lease: str, names: Names) -> Busy | None:
        spoken = [id for id, place in self.line.items() if place.asked_ms > self.now_ms() - SILENT_MS]
        ahead = spoken[: spoken.index(lease)] if lease in spoken else spoken
        before = [self._waiting(id) for id in ahead if shares(self.line[id].names, names)]
        holding = [
            (-held.until_ms, name, Claim(id, held.holder.agent, held.holder.task, (name,), held.until_ms))
            for id, held in self.held.items()
            if self.alive(held)
            for name in held.names
            if name in names
        ]
        claims = [claim for *_, claim in sorted(holding, key=lambda found: found[:2])] + before
        return Busy(claims[0], len(before)) if claims else None

    def _waiting(self, id: str) -> Claim:
        place = self.line[id]
        return Claim(id, place.holder.agent, place.holder.task, place.names, place.asked_ms + SILENT_MS)

    def renew(self, leases: Sequence[str], *, owner: str) -> dict[str, int]:
        mine = [
            id for id, held in self.held.items() if id in leases and held.holder.owner == owner and self.alive(held)
        ]
        for id in mine:
            self.held[id] = replace(self.held[id], until_ms=self.now_ms() + self.held[id].ttl_ms)
        return {id: self.held[id].until_ms for id in mine}

    def release(self, lease: str) -> None:
        self.line.pop(lease, None)
        self.held.pop(lease, None)

    def until(self, lease: str, *, fence: int) -> int | None:
        held = self.held.get(lease)
        return held.until_ms if held and held.fence == fence and self.alive(held) else None

    def expire(self, *, limit: int) -> int:
        over = sorted((held.until_ms, id) for id, held in self.held.items() if not self.alive(held))[:limit]
        for _, id in over:
            del self.held[id]
        return len(over)

    def bury(self, owner: str) -> int:
        self.line = {id: place for id, place in self.line.items() if place.holder.owner != owner}
        return self._drop([id for id, held in self.held.items() if held.holder.owner == owner])

    def live(self) -> list[Listed]:
        found = [
            Listed(
                id,
                held.fence,
                held.holder.owner,
                held.holder.agent,
                held.holder.task,
                held.edit,
                tuple(sorted(held.names)),
                held.until_ms,
            )
            for id, held in self.held.items()
            if self.alive(held)
        ]
        return sorted(found, key=lambda listed: (listed.until_ms, listed.id))

    def end_all(self) -> None:
        """The state was restored: nobody holds anything, and nobody stands in line."""
        self.line.clear()
        self._drop(list(self.held))

    def _drop(self, leases: list[str]) -> int:
        for lease in leases:
            del self.held[lease]
        return len(leases)


@dataclass
class EditStore:
    leases: LeaseStore
    commits: dict[str, Commit] = field(default_factory=dict[str, Commit])

    def commit(
        self, edit: str, items: tuple[Item, ...], *, root: str, holder: Holder, fences: Fences, also: Also
    ) -> None:
        if edit in self.commits:
            return
        for lease, fence in fences:
            if self.leases.until(lease, fence=fence) is None:
                raise lost(lease)
        also(NO_TRANSACTION)
        self.commits[edit] = Commit(root, holder, items, applied=not items)

    def landed(self, edit: str) -> bool:
        return edit in self.commits

    def apply(self, edit: str, *, agent: str, task: str | None, release: Sequence[str]) -> None:
        if edit in self.commits:
            self.commits[edit] = replace(self.commits[edit], applied=True)
        for lease in release:
            self.leases.release(lease)

    def pending(self, root: str) -> list[Pending]:
        return [
            Pending(id, commit.holder.agent, commit.holder.task, commit.items)
            for id, commit in self.commits.items()
            if commit.root == root and not commit.applied
        ]

    def live(self) -> set[str]:
        return {listed.edit for listed in self.leases.live() if listed.edit is not None}


def shares(one: Names, other: Names) -> bool:
    return bool(set(one) & set(other))
