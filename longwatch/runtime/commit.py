"""Publishes staged edits: all files or none, and never by a process whose lease has passed on.

The order survives a crash at any point, power cuts included:

1. copy the staged bytes into files of the commit's own, below `.longwatch/commits`, and sync them and the folder:
   a staged file may still be open for writing in some child process, a file of the commit is nobody else's;
2. take the root's lock, finish commits that others began, compare what the edit saw with what is there;
3. in one durable transaction: every fence is current, the redo record, and what else belongs to the commit. This is the
   instant at which the edit happens;
4. rename the commit's files to their targets and deleted targets into the commit's folder, sync the folders;
5. rename the commit's folder away, mark it applied, give the leases back.

Whoever takes the lock next finishes what stopped after 3. Every rename has one end in the commit's own folder, so a
committer that wakes up after that finds nothing to rename: it cannot undo its successor.

A program that writes without Longwatch between 2 and 4 is not noticed; one that wrote before 2 is an EditConflict.
"""

import contextlib
import os
import shutil
from collections.abc import Generator, Mapping, Sequence

from longwatch.errors import ConfigError, EditConflict, StoreUnavailable
from longwatch.policy.edit import Draft, Item, changed_meanwhile, fold, refuse_conflicts
from longwatch.policy.paths import folders_above
from longwatch.runtime.persist import persist
from longwatch.runtime.root import CREATE, Root, sync_folder, told
from longwatch.runtime.staging import Staged, Staging, copy_bytes
from longwatch.runtime.world import World
from longwatch.store.edits import Also, EditStore

COMMITTED = "It is committed: whoever uses the fleet's files next puts it in place, once the cause is gone."


class Committer:
    """For one root, whose lock it holds while it publishes and recovers."""

    def __init__(self, *, root: Root, store: EditStore, world: World) -> None:
        self.root, self.store, self.world = root, store, world

    def publish(self, staged: Sequence[Staged], *, also: Also) -> None:
        """Make the edits happen as one, in the transaction of `also`. Repeated after it has landed, it does nothing.

        Errors: LeaseLost, EditConflict, whatever `also` raises: nothing was written. StoreUnavailable: nothing was
        written, unless `.maybe_committed`. The staged edits stay as they are when it fails: repeat, or drop them.
        """
        if self.store.landed(staged[-1].id):
            self.recover()
            release(staged)
        else:
            self._publish(staged, also)
            for one in staged:
                one.lease.forget()
                one.staging.remove()

    def recover(self) -> int:
        """Finish what others began; how many commits. Errors: StoreUnavailable when one cannot be put in place."""
        with self.root.lock:
            return self.roll_forward()

    def _publish(self, staged: Sequence[Staged], also: Also) -> None:
        edit = staged[-1].id
        for one in staged:
            one.lease.check()
        draft = fold((one.bases, one.changes) for one in staged)
        try:
            items = self._prepare(edit, draft, {one.id: one.staging for one in staged})
            with self.root.lock:
                self.world.reach("edit.locked")
                self.roll_forward()
                self._compare(draft, staged)
                self._commit(edit, items, staged, also)
                self.world.reach("edit.committed")
                self._finish(edit, items, staged)
        except BaseException:
            self._put_away_unless_landed(edit)
            raise

    # -- 1: files of the commit's own --------------------------------------------------------------------------------

    def _prepare(self, edit: str, draft: Draft, stagings: Mapping[str, Staging]) -> tuple[Item, ...]:
        changes = enumerate(draft.changes.items())
        items = tuple(Item(place, target, change.sha256, change.mode) for place, (target, change) in changes)
        if not items:
            return ()
        folder = self.root.commit_of(edit)
        with told(folder):
            self._put_away(edit)  # of an attempt that did not land
            os.mkdir(folder, mode=0o700)
            for item in items:
                if item.sha256 is not None:
                    self._copy(stagings[draft.changes[item.target].edit], item, f"{folder}/{item.place}")
            sync_folder(folder)
            sync_folder(self.root.commits)
        self.world.reach("edit.prepared")
        return items

    def _copy(self, staging: Staging, item: Item, copy: str) -> None:
        source = staging.open(item.target)
        if source is None:
            raise changed_meanwhile([f"{staging.folder}/{item.target}"])
        with source, open(os.open(copy, CREATE, 0o600), "wb") as writing:
            sha256 = copy_bytes(source, writing)
            os.fchmod(writing.fileno(), item.mode)
            self._keep_owner(writing.fileno(), item.target)
            writing.flush()
            os.fsync(writing.fileno())
        if sha256 != item.sha256:  # a child of the edit still writes it
            raise changed_meanwhile([f"{staging.folder}/{item.target}"])
        self.world.reach("edit.copied")

    def _keep_owner(self, descriptor: int, target: str) -> None:
        """Give the new file the owner of the one that it replaces, if this process may."""
        with contextlib.suppress(FileNotFoundError, PermissionError), self.root.folder_of(target) as (folder, name):
            old = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, old.st_uid, old.st_gid)

    # -- 2 and 3: the instant of the commit --------------------------------------------------------------------------

    def _compare(self, draft: Draft, staged: Sequence[Staged]) -> None:
        try:
            refuse_conflicts(draft.bases, {target: self.root.digest(target) for target in draft.bases})
        except EditConflict:
            for one in staged:
                one.lease.check()  # whoever has the lease now is why
            raise

    def _commit(self, edit: str, items: tuple[Item, ...], staged: Sequence[Staged], also: Also) -> None:
        holder, fences = staged[-1].lease.holder, [(one.lease.id, one.lease.fence) for one in staged]
        with self._folders_for(items):
            self.world.reach("edit.checked")
            persist(lambda: self.store.commit(edit, items, root=self.root.id, holder=holder, fences=fences, also=also))

    @contextlib.contextmanager
    def _folders_for(self, items: tuple[Item, ...]) -> Generator[None]:
        """The targets' folders exist and can be renamed into; when the commit is refused, new ones go again."""
        above = {part for item in items for part in folders_above(item.target)}
        absent = sorted((part for part in above if not os.path.lexists(f"{self.root.path}/{part}")), reverse=True)
        try:
            for item in items:
                self._refuse_unfit(item.target)
            yield
        except BaseException:
            for folder in absent:
                with contextlib.suppress(OSError):
                    os.rmdir(f"{self.root.path}/{folder}")
            raise

    def _refuse_unfit(self, target: str) -> None:
        with told(target), self.root.folder_of(target, make=True) as (folder, _):
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
                hint = "Make the folder writable for this user, then repeat; nothing was written."
                raise StoreUnavailable(f"the folder of {target} is not writable", hint=hint)
            if os.fstat(folder).st_dev != self.root.device:
                hint = "Files are published by renaming them; make that folder a root of its own."
                raise ConfigError(f"{target} is on another file system than {self.root.own}", hint=hint)

    # -- 4 and 5: putting in place, by this process or the next one ------------------------------------------------------

    def _finish(self, edit: str, items: tuple[Item, ...], staged: Sequence[Staged]) -> None:
        holder, leases = staged[-1].lease.holder, [one.lease.id for one in staged]
        try:
            self._put_in_place(edit, items)
        except StoreUnavailable as error:
            error.maybe_committed, error.hint = True, COMMITTED
            raise
        with contextlib.suppress(
            StoreUnavailable
        ):  # it has happened; the next comer marks it, leases end by themselves
            self.store.apply(edit, agent=holder.agent, task=holder.task, release=leases)
        self.world.reach("edit.applied")

    def roll_forward(self) -> int:
        """As `recover`, for whoever has the root's lock."""
        if killed := self.root.lock.killed():
            self.store.killed(killed)
        pending = self.store.pending(self.root.id)
        for commit in pending:
            self.world.reach("edit.rolling_forward")
            self._put_in_place(commit.id, commit.items)
            self.store.apply(commit.id, agent=commit.agent, task=commit.task, release=())
        return len(pending)

    def _put_in_place(self, edit: str, items: tuple[Item, ...]) -> None:
        """Twice does no harm: what has been renamed is not there to be renamed again."""
        folder = self.root.commit_of(edit)
        if not os.path.isdir(folder):
            return  # put away: every rename was made and synced
        for item in items:
            self.world.reach("edit.moving")
            with told(item.target):
                self._remove(folder, item) if item.sha256 is None else self._place(folder, item)
        self.world.reach("edit.moved")
        for above in {item.target.rpartition("/")[0]: item.target for item in items}.values():
            with told(above), contextlib.suppress(FileNotFoundError), self.root.folder_of(above) as (descriptor, _):
                os.fsync(descriptor)
        with told(folder), contextlib.suppress(FileNotFoundError):
            sync_folder(folder)
        self.world.reach("edit.synced")
        self._put_away(edit)

    def _place(self, folder: str, item: Item) -> None:
        ours = f"{folder}/{item.place}"
        with self.root.folder_of(item.target, make=True) as (above, name):
            try:
                os.rename(ours, name, dst_dir_fd=above)
            except FileNotFoundError:
                if os.path.exists(ours):  # it is the target's folder that has just gone
                    raise StoreUnavailable(f"the folder of {item.target} was removed", hint="Repeat.") from None

    def _remove(self, folder: str, item: Item) -> None:
        """Move the target into the commit's folder: a folder that was put away cannot take a successor's file."""
        ours = f"{folder}/{item.place}.removed"
        if os.path.exists(ours):
            return
        with contextlib.suppress(FileNotFoundError), self.root.folder_of(item.target) as (above, name):
            os.rename(name, ours, src_dir_fd=above)

    def _put_away(self, edit: str) -> None:
        """Take the commit's folder out of the way in one rename, then remove it."""
        gone = f"{self.root.gone}/{self.world.new_id('gone')}"
        try:
            with told(str(self.root.commits)):
                os.rename(self.root.commit_of(edit), gone)
        except FileNotFoundError:
            return
        self.world.reach("edit.put_away")
        try:
            os.rmdir(gone)  # nearly always: whatever was in it is in place
        except OSError:
            shutil.rmtree(gone, ignore_errors=True)

    def _put_away_unless_landed(self, edit: str) -> None:
        with contextlib.suppress(StoreUnavailable):  # nobody knows: its files have to stay, the sweep looks again
            if not self.store.landed(edit):
                self._put_away(edit)


def release(staged: Sequence[Staged]) -> None:
    """Remove the private copies and give the leases back."""
    for one in staged:
        one.staging.remove()
        one.lease.leave()
