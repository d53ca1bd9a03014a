"""What a task leaves behind, how that differs from what it leaves undisturbed, and how a person is told."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from longwatch.policy.paths import OWN

SHOWN = 6  # places, and differences of one sort, that are named one by one
LONGEST = 400  # characters of an error
SHORT = 60  # bytes of a file that are told in full

AGAIN = (
    "It was done again: code outside of steps is run by every run, a step by every run until its result is stored. "
    "Put it in a step and send call.key along; for a service that knows no keys take run.once."
)
UNDONE = "It was lost: what has not been done yet may not be taken for done."
WRITTEN = "Write files with run.edit: in a step they are published together with its result, once."


@dataclass(frozen=True)
class Ending:
    """result: its JSON. files: what each holds, by its path. outside: how often what was done.

    once: whether there was any. unknown: how many tasks of the fleet ended so.
    """

    state: str
    result: str | None
    error: str | None
    files: Mapping[str, str]
    outside: Mapping[str, int]
    once: bool
    unknown: int
    steady: bool = True  # whether two undisturbed runs have the same result

    def what_is_steady(self, other: "Ending") -> "Ending":
        """Only what another undisturbed run leaves too."""
        return replace(
            self,
            steady=self.result == other.result,
            files={path: digest for path, digest in self.files.items() if other.files.get(path) == digest},
            outside={what: n for what, n in self.outside.items() if other.outside.get(what) == n},
        )

    def compared_with(self, found: "Ending") -> list[str]:
        """What is different in a run that was killed, self being what is usual; nothing: all is well."""
        killed_under_way = self.once and found.unknown > self.unknown
        if killed_under_way and found.state in (self.state, "unknown"):
            return self._done_again(found)
        if found.state != self.state:
            return [f"the task ends {found.state}: {found.error}", *self._done_again(found)]
        return [*self._done_again(found), *self._not_done(found), *self._other_files(found), *self._other_result(found)]

    def _done_again(self, found: "Ending") -> list[str]:
        known = set(self.outside)
        more = [(what, n) for what, n in found.outside.items() if what in known and n > self.outside[what]]
        return [f"{what}: {n} instead of {self.outside[what]}. {AGAIN}" for what, n in more]

    def _not_done(self, found: "Ending") -> list[str]:
        less = [(what, n, found.outside.get(what, 0)) for what, n in self.outside.items()]
        return [f"{what}: {n} instead of {usual}. {UNDONE}" for what, usual, n in less if n < usual]

    def _other_files(self, found: "Ending") -> list[str]:
        other = [path for path, digest in self.files.items() if found.files.get(path) != digest]
        return [
            f"{path} {found.files.get(path, 'is not there')}, undisturbed it {self.files[path]}. {WRITTEN}"
            for path in other
        ]

    def _other_result(self, found: "Ending") -> list[str]:
        if not self.steady or found.result == self.result:
            return []
        return [f"the result is {_shortened(found.result)} instead of {_shortened(self.result)}"]


def files_below(root: Path) -> dict[str, str]:
    """What every file holds, by its path; Longwatch's own apart."""
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name != OWN]
        for name in names:
            path = Path(folder, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(root).as_posix()] = _holds(content)
    return found


def _holds(content: bytes) -> str:
    """What a file holds, in words: all of it while that is short."""
    if len(content) <= SHORT:
        return f"holds {content.decode(errors='backslashreplace')!r}"
    return f"holds {len(content)} bytes (sha256 {hashlib.sha256(content).hexdigest()[:12]})"


def report(kind: str, wrong: Sequence[tuple[str, list[str]]], *, of: int) -> str:
    """wrong: places, and what differs there; of: how many were tried. What differs is told once, with its places."""
    places_of: dict[str, list[str]] = {}
    for place, differences in wrong:
        for difference in differences:
            places_of.setdefault(difference, []).append(place)
    head = f"{kind} does not survive a crash at {len(wrong)} of its {of} places."
    return "\n".join([head, *(_told(difference, places) for difference, places in places_of.items())])


def in_short(error: BaseException) -> str:
    name = type(error).__name__
    return _shortened(f"{name}: {error}" if str(error) else name)


def _told(difference: str, places: list[str]) -> str:
    more = [f"    and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
    return "\n".join(
        [f"\n  {difference}", "  So it is when killed at:", *(f"    {one}" for one in places[:SHOWN]), *more]
    )


def _shortened(text: str | None) -> str:
    said = "null" if text is None else text
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
