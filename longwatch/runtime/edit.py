"""One edit, from entering its block to leaving it: private copies, and a note of everything that was seen."""

import hashlib
import json
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from longwatch.errors import ConfigError, NotFound, NotStorable, nearest
from longwatch.runtime.contents import Contents
from longwatch.runtime.lease import Lease
from longwatch.runtime.loop import Retry
from longwatch.runtime.root import Root, told
from longwatch.runtime.staging import Staged, Staging, mode_of

Then = Callable[[Staged], None]


class Edit(Contents):
    """Reads see what the edit wrote; nobody else does, before it is published."""

    def __init__(
        self,
        targets: Sequence[str],
        *,
        lease: Lease,
        root: Root,
        staging: Staging,
        after: Sequence[Staged],
        spell: Callable[[str], str],
        begin: Callable[[], None],
        then: Then | None,
        drop: Then,
    ) -> None:
        """targets: what may be written. spell: a name as its target. begin: once the lease is there.

        then: what to do with the staged edit at the end; None: drop it, it was committed before. drop: give it up.
        """
        self.id, self.lease = staging.edit, lease
        self._targets, self._root, self._staging, self._after = targets, root, staging, after
        self._spell, self._begin, self._then, self._drop = spell, begin, then, drop
        self._bases: dict[str, str | None] = {}
        self._modes: dict[str, int | None] = {}
        self._staged: set[str] = set()
        self._state: Literal["new", "open", "over"] = "new"

    @property
    def replayed(self) -> bool:
        """Whether this edit was committed by an earlier attempt, so that its writes are dropped."""
        return self._then is None

    @property
    def fence(self) -> int:
        """The lease's number: whoever comes later has a greater one."""
        return self.lease.fence

    def check(self) -> None:
        """Errors: LeaseLost when the right to write has been lost."""
        self.lease.check()

    # -- what a block does -------------------------------------------------------------------------------------------

    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace the file, or make it; its permission bits stay."""
        path = self._ours(name)
        self._staging.write(path, data, mode=None if path in self._staged else self._modes[path])
        self._staged.add(path)

    def write_text(self, name: str, text: str) -> None:
        """As UTF-8, line ends as given. Errors: NotStorable for what UTF-8 cannot say."""
        self.write_bytes(name, _encoded(name, text))

    def write_json(self, name: str, value: Any) -> None:
        """Two spaces, keys as given, a final newline. Errors: NotStorable."""
        try:
            text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotStorable(f"{name} cannot be written as JSON: {error}", hint="Pass JSON values only.") from error
        self.write_text(name, text + "\n")

    def append(self, name: str, text: str) -> None:
        """Add to the end of the file, or make it."""
        data = _encoded(name, text)
        self._staging.append(self._copied(name), data)

    def delete(self, name: str) -> None:
        """Remove the file. Errors: NotFound."""
        if self._bytes(name) is None and not self.replayed:
            raise NotFound(f"there is no file {name} to delete", hint="Read it with default=None to find out.")
        path = self._ours(name)
        self._staging.delete(path)
        self._staged.add(path)

    def path(self, name: str) -> Path:
        """The private copy, for programs that want a file; it does not exist if the file does not.

        What stands there when the block ends is published: new bytes, new permission bits, or a deletion.
        """
        return Path(self._staging.place(self._copied(name)))

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.lease.__enter__()
        return self._entered()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    def attempt(self) -> "Self | Retry":
        """As entering the block, but answers at once: the edit, or when to ask again (then `lease.give_up()`)."""
        answer = self.lease.attempt()
        return answer if isinstance(answer, Retry) else self._entered()

    def leave(self, error: BaseException | None = None) -> None:
        """End the block: publish or hand over what was changed, or drop it. Errors: as `Edits.publish`."""
        self._state = "over"
        nothing = Staged(self.id, self.lease, self._staging, {}, {})
        if error is not None or self._then is None:
            self._drop(nothing)
            return
        try:
            self._then(self._result())
        except BaseException:
            self._drop(nothing)
            raise

    def _entered(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.lease.leave()
            raise
        self._state = "open"
        return self

    def _result(self) -> Staged:
        changes = {path: self._staging.change(path) for path in sorted(self._staged)}
        return Staged(self.id, self.lease, self._staging, self._bases, changes)

    # -- what was seen -----------------------------------------------------------------------------------------------

    def _bytes(self, name: str) -> bytes | None:
        self._refuse_closed()
        path = self._spell(name)
        file = self._staging.open(path) if path in self._staged else self._original(path)
        if file is None:
            return None
        with told(path), file:
            data = file.read()
        if path not in self._staged:
            self._note(path, hashlib.sha256(data).hexdigest())
        return data

    def _ours(self, name: str) -> str:
        """The target of a name that may be written, its present state noted. Errors: ConfigError."""
        self._refuse_closed()
        path = self._spell(name)
        if path not in self._targets:
            hint = "Name every file that the edit writes: with lw.edit(...) as edit."
            raise ConfigError(f"{path} was not named for this edit{nearest(path, self._targets)}", hint=hint)
        if path not in self._modes:
            self._see(path)
        return path

    def _copied(self, name: str) -> str:
        """The target of a name that may be written, which has its private copy from here on."""
        path = self._ours(name)
        if path not in self._staged:
            if (original := self._original(path)) is not None:
                with original:
                    self._note(path, self._staging.copy(path, original))
            self._staged.add(path)
        return path

    def _see(self, path: str) -> None:
        original = self._original(path)
        if original is None:
            self._modes[path] = None
            return
        with told(path), original:
            self._modes[path] = mode_of(original)
            if path not in self._bases:
                self._note(path, hashlib.file_digest(original, "sha256").hexdigest())

    def _original(self, path: str) -> BufferedReader | None:
        """The file before this edit: as an earlier edit of the step staged it, else as it is."""
        earlier = next((one for one in reversed(self._after) if path in one.changes), None)
        found = self._root.open(path) if earlier is None else earlier.staging.open(path)
        if found is None:
            self._note(path, None)
        return found

    def _note(self, path: str, sha256: str | None) -> None:
        self._bases.setdefault(path, sha256)

    def _refuse_closed(self) -> None:
        if self._state != "open":
            state = "has not begun" if self._state == "new" else "has ended"
            raise ConfigError(f"the block of {self.id} {state}", hint="Use the edit inside of its with block.")


def _encoded(name: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotStorable(f"{name} cannot be written as UTF-8: {error}", hint="Write it with write_bytes.") from error
