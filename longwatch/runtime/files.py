"""Edits: several files changed all or none, under leases.

    with edits.edit(["a.json", "b.json"], holder=holder, ttl_ms=60_000, wait_ms=None) as edit:
        a = edit.read_json("a.json", default={})
        edit.write_json("a.json", {**a, "n": 1})
        edit.append("b.json", "...\n")

The block works on private copies. When it ends the files are published in one instant (runtime/commit.py says how), or
not at all: when the block raised, when the lease was lost, when a file has changed since it was read. Inside a step the
edit is only staged; the step's result and all its edits are then published together.

`read` gives several files as of one instant, whatever commits are on their way.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from longwatch.db.connection import Transaction
from longwatch.errors import ConfigError
from longwatch.policy.lease import Holder
from longwatch.policy.paths import OWN, refuse_private, refuse_protected, target
from longwatch.runtime.commit import Committer, release
from longwatch.runtime.contents import Contents, Reading
from longwatch.runtime.edit import Edit, Then
from longwatch.runtime.lease import Lease, Leases
from longwatch.runtime.root import Root
from longwatch.runtime.staging import Staged, Staging, refuse_nested
from longwatch.runtime.world import World
from longwatch.store.edits import Also, EditStore

__all__ = ["Contents", "Edit", "Edits", "Reading", "Staged"]

OPTIMISTIC = 3  # readings without the root's lock, before one with it


class Edits:
    """The edits of one open fleet, below the root of its `leases`. state: the state's file, which nobody may edit."""

    def __init__(self, *, leases: Leases, store: EditStore, world: World, state: Path | None = None) -> None:
        self.path, self.leases, self.store, self.world = leases.root, leases, store, world
        self._state = "" if state is None else os.path.relpath(os.path.realpath(state), self.path)

    @cached_property
    def root(self) -> Root:
        """The folder with Longwatch's own below it; made when the first edit or reading needs it."""
        return Root(self.path, fleet=self.store.mark(), world=self.world)

    @cached_property
    def committer(self) -> Committer:
        return Committer(root=self.root, store=self.store, world=self.world)

    def edit(
        self,
        names: Iterable[str],
        *,
        holder: Holder,
        ttl_ms: int,
        wait_ms: int | None,
        inside: str = ".",
        then: Then | None = None,
        after: Sequence[Staged] = (),
    ) -> Edit:
        """Change the files `names`, all or none. Relative names start from `inside`, itself relative to the root.

        then: what to do with the staged edit when the block has ended; left out: publish it at once.
        after: staged edits of the same step: this one reads what they wrote, and needs no lease on their files.
        Errors: ConfigError; LeaseBusy when the block is entered.
        """
        targets = self._writable(names, inside)
        held = {name for one in after for name in one.lease.names}
        edit = self.world.new_id("edit")
        free = [name for name in targets if name not in held]
        watch = self.root.lock.look  # whoever is in the way may stand still inside
        lease = self.leases.on(free, holder=holder, ttl_ms=ttl_ms, wait_ms=wait_ms, edit=edit, watch=watch)
        return self._made(edit, targets, lease, inside=inside, after=after, then=then or self._publish_one)

    def replay(self, names: Iterable[str], *, holder: Holder, ttl_ms: int, inside: str = ".") -> Edit:
        """An edit that was committed before: it reads what is there now, and what it writes is dropped (`.replayed`)."""
        edit = self.world.new_id("edit")
        lease = self.leases.on((), holder=holder, ttl_ms=ttl_ms, wait_ms=0, edit=edit)
        return self._made(edit, self._writable(names, inside), lease, inside=inside, after=(), then=None)

    def _made(
        self,
        edit: str,
        targets: Sequence[str],
        lease: Lease,
        *,
        inside: str,
        after: Sequence[Staged],
        then: Then | None,
    ) -> Edit:
        return Edit(
            targets,
            lease=lease,
            root=self.root,
            staging=Staging(self.root, edit),
            after=after,
            spell=lambda name: self._readable(name, inside),
            begin=self._settle,
            then=then,
            drop=lambda staged: self.abandon([staged]),
        )

    def publish(self, staged: Sequence[Staged], also: Also) -> None:
        """Publish the edits of one step as one commit, in the transaction in which `also` writes the step's result.

        Repeated after it has landed, it does nothing. Errors: LeaseLost, EditConflict, whatever `also` raises: nothing
        was written, `abandon` them. StoreUnavailable: repeat it when `.maybe_committed`, or abandon.
        """
        if not staged:
            raise ConfigError("there is no staged edit to publish", hint="Write the step's result without one.")
        self.committer.publish(staged, also=also)

    def abandon(self, staged: Sequence[Staged]) -> None:
        """Drop staged edits: nothing of them is published, and their leases go back."""
        self.world.reach("edit.abandoning")
        release(staged)

    def read(self, names: Iterable[str], *, inside: str = ".") -> Reading:
        """Several files as of one instant: no commit is seen by half. Errors: ConfigError, StoreUnavailable."""
        targets = {name: self._readable(name, inside) for name in names}
        for _ in range(OPTIMISTIC):
            before = self.store.position(self.root.id)
            if before.pending:
                self.committer.recover()
                continue
            found = {name: self.root.read(path) for name, path in targets.items()}
            self.world.reach("edit.read")
            if self.store.position(self.root.id) == before:
                return Reading(found)
        with self.root.lock:
            self.committer.roll_forward()
            return Reading({name: self.root.read(path) for name, path in targets.items()})

    def recover(self) -> int:
        """Finish commits whose process has died; how many. Without an edit so far there is nothing to do."""
        return self.committer.recover() if self._is_used() else 0

    def sweep(self, *, limit: int = 100) -> int:
        """Finish what is unfinished, then remove what up to `limit` dead edits left behind; how many.

        A folder is in use while the lease of its edit lives, so the folders are listed before the leases.
        """
        if not self._is_used():
            return 0
        self.store.forget(limit=limit)
        found = self.root.edits()
        with self.root.lock:
            self.committer.roll_forward()
            dead = sorted(found - self.store.live())[:limit]
            for edit in dead:
                self.world.reach("edit.sweeping")
                for folder in (self.root.staging_of(edit), self.root.commit_of(edit)):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(folder, self.root.gone / self.world.new_id("gone"))
        for gone in list(self.root.gone.iterdir())[: 2 * limit]:
            shutil.rmtree(gone, ignore_errors=True)
        return len(dead)

    def close(self) -> None:
        """Give back the descriptor of the root's lock."""
        if "root" in self.__dict__:
            self.root.lock.close()

    def _settle(self) -> None:
        """Finish what others began, so that the files are what the last commit says."""
        if self.store.position(self.root.id).pending:
            self.committer.recover()

    def _is_used(self) -> bool:
        return (self.path / OWN / "root").exists()

    def _readable(self, name: str, inside: str) -> str:
        path = target(name, root=str(self.path), inside=inside)
        refuse_private(path, state=self._state)
        return path

    def _writable(self, names: Iterable[str], inside: str) -> tuple[str, ...]:
        targets = tuple(sorted({target(name, root=str(self.path), inside=inside) for name in names}))
        if not targets:
            raise ConfigError("an edit needs at least one file", hint="Name every file that it will write.")
        for path in targets:
            refuse_protected(path, state=self._state)
        refuse_nested(targets)
        return targets

    def _publish_one(self, staged: Staged) -> None:
        self.publish([staged], _nothing_else)


def _nothing_else(tx: Transaction) -> None:
    """What a commit outside of a step writes beside its own record."""
