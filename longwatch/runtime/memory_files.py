"""Claude's memory tool as it acts: a command of a model, carried out on an agent's files, and its answer.

In a run the fence is looked at first, so that one that was overtaken changes nothing. The journal tells of what was changed
(runtime/file_telling.py).
"""

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from longwatch.errors import StoreUnavailable
from longwatch.policy import memory_files as policy
from longwatch.policy.memory import plain
from longwatch.policy.memory_files import Command, Create, Delete, Entry, Insert, Rename, StrReplace, View
from longwatch.policy.memory_paths import Declined, below, shown
from longwatch.policy.naming import check_name
from longwatch.runtime.file_telling import LATE_MS
from longwatch.runtime.memory import Memories
from longwatch.runtime.persist import persist
from longwatch.store.memory_files import FileStore
from longwatch.store.memory_versions import By, Untold, Version
from longwatch.store.moves import Run as Claimed
from longwatch.store.runs import hold


class Answer(NamedTuple):
    """What the model is told. declined: nothing was done."""

    text: str
    declined: bool


@dataclass(frozen=True)
class Files:
    """Of one agent. who: as receipts name them. run: the run that acts, if one does."""

    memories: Memories
    agent: str
    who: str
    run: Claimed | None = None

    @property
    def store(self) -> FileStore:
        """Errors: StoreUnavailable."""
        return self.memories.files

    def answer(self, given: object) -> Answer:
        """given: the input of a tool_use block. Errors: LeaseLost, StoreUnavailable."""
        try:
            return Answer(self._done(policy.command_of(given)), declined=False)
        except Declined as declined:
            return Answer(plain(str(declined)), declined=True)

    def restore(self, path: str, version: int) -> Version:
        """path: as it is kept. Errors: NotFound, Refused, LeaseLost."""
        by = self._by(self.who)
        made = persist(lambda: self.store.restore(self.agent, path, version, by))
        self._tell(by, "restore", path)
        return made

    def path(self, given: str) -> str:
        """As it is kept. Errors: Declined, also for one that holds a secret."""
        kept = below(given)
        if self.memories.journal.redactor.clean(kept) != kept:
            raise Declined("Error: The path holds a secret. Name the file by what it is about.")
        return kept

    # -- commands ----------------------------------------------------------------------------------------------------------

    def _done(self, command: Command) -> str:
        match command:
            case View():
                return self._view(command)
            case Create():
                return self._create(command)
            case StrReplace():
                return self._replace(command)
            case Insert():
                return self._insert(command)
            case Delete():
                return self._delete(command)
            case Rename():
                return self._rename(command)

    def _view(self, command: View) -> str:
        path = self.path(command.path)
        file, inside = self.store.at(self.agent, path)
        if file is not None:
            return policy.viewed(shown(path), file.body or "", command.view_range)
        if path and not inside:
            raise policy.unknown(shown(path))
        return policy.listed(path, (Entry(each.path, each.bytes) for each in inside))

    def _create(self, command: Create) -> str:
        path, by = self.path(command.path), self._by(self._model)
        if not path:
            raise Declined("Error: File /memories already exists")
        persist(lambda: self.store.create(self.agent, path, command.file_text, by))
        self._tell(by, "create", path)
        return policy.created(shown(path))

    def _replace(self, command: StrReplace) -> str:
        """The text is looked for as it is kept: without its secrets."""
        path, by = self.path(command.path), self._by(self._model)
        old = self.memories.journal.redactor.clean(plain(command.old_str))
        change = partial(policy.replaced, old=old, new=plain(command.new_str or ""), path=shown(path))
        made, line = persist(lambda: self.store.edit(self.agent, path, change, "str_replace", by))
        self._tell(by, "str_replace", path)
        return policy.replacement(policy.Edited(made.body or "", line))

    def _insert(self, command: Insert) -> str:
        path, by = self.path(command.path), self._by(self._model)
        text = plain(command.insert_text)
        change = partial(policy.inserted, line=command.insert_line, new=text, path=shown(path))
        persist(lambda: self.store.edit(self.agent, path, change, "insert", by))
        self._tell(by, "insert", path)
        return policy.insertion(shown(path))

    def _delete(self, command: Delete) -> str:
        path = self.path(command.path)
        if not path:
            raise Declined("Cannot delete the /memories directory itself")
        by = self._by(self._model)
        count = persist(lambda: self.store.delete(self.agent, path, by))
        self._tell(by, "delete", path, files=count)
        return policy.deletion(shown(path))

    def _rename(self, command: Rename) -> str:
        old, new = self.path(command.old_path), self.path(command.new_path)
        if not old:
            raise Declined("Cannot rename the /memories directory itself")
        if not new:
            raise Declined("Error: The destination /memories already exists")
        by = self._by(self._model)
        count = persist(lambda: self.store.rename(self.agent, old, new, by))
        self._tell(by, "rename", new, files=count, other=old)
        return policy.renaming(shown(old), shown(new))

    # -- who acts ----------------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> str:
        """Who a command is of: outside of a run, too, the agent's model asks for it, and no person."""
        return self.agent if self.run is None else self.who

    def _by(self, who: str) -> By:
        """Errors: LeaseLost when the run was overtaken; ConfigError for a name that cannot be an agent's."""
        check_name("the agent", self.agent)
        if self.run is not None:
            with self.memories.state.read() as tx:
                hold(tx, self.run)
        change, run = self.memories.world.new_id("file"), self.run
        return By(change, who) if run is None else By(change, who, run.id, run.task.id)

    def _tell(self, by: By, action: str, path: str, *, files: int = 1, other: str | None = None) -> None:
        telling = self.memories.telling
        with contextlib.suppress(
            StoreUnavailable
        ):  # the change is made, and so is what it answers; it is told late then
            telling.tell(Untold(by.change, self.agent, action, path, other, files, by.who, by.run, by.task))
            telling.tell_late(age_ms=LATE_MS)
