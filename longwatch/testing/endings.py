"""What a task leaves behind, how that differs from what it leaves undisturbed, and how a person is told."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from longwatch.policy.paths import OWN

SHOWN = 6  # places, and differences of one sort, that are named one by one
LONGEST = 400  # characters of an error

AGAIN = (
    "What is done outside of a step is done again by every run, and a step by every run until its result is stored: "
    "send its call.key along, or, to a service that knows no keys, use run.once."
)
UNDONE = "It was lost: what has not been done yet may not be taken for done."
WRITTEN = "Write files with run.edit: in a step they are published together with its result, once."


@dataclass(frozen=True)
class Ending:
    """result: its JSON. files: a digest by path below the root. outside: how often each thing was done. once: it has some."""

    state: str
    result: str | None
    error: str | None
    files: Mapping[str, str]
    outside: Mapping[str, int]
    once: bool
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
        if found.state == "unknown" and self.once:
            return self._done_again(found)
        if found.state != self.state:
            return [f"the task ends {found.state}: {found.error}", *self._done_again(found)]
        return [*self._done_again(found), *self._not_done(found), *self._other_files(found), *self._other_result(found)]

    def _done_again(self, found: "Ending") -> list[str]:
        known = set(self.outside)
        more = [(what, n) for what, n in found.outside.items() if what in known and n > self.outside[what]]
        return [f"{what} is there {_times(n)} instead of {_times(self.outside[what])}. {AGAIN}" for what, n in more]

    def _not_done(self, found: "Ending") -> list[str]:
        less = [(what, n, found.outside.get(what, 0)) for what, n in self.outside.items()]
        return [
            f"{what} is there {_times(n)} instead of {_times(usual)}. {UNDONE}" for what, usual, n in less if n < usual
        ]

    def _other_files(self, found: "Ending") -> list[str]:
        other = [path for path, digest in self.files.items() if found.files.get(path) != digest]
        return [f"{path} {'differs' if path in found.files else 'is not there'}. {WRITTEN}" for path in other[:SHOWN]]

    def _other_result(self, found: "Ending") -> list[str]:
        if not self.steady or found.result == self.result:
            return []
        return [f"the result is {_shortened(found.result)} instead of {_shortened(self.result)}"]


def files_below(root: Path) -> dict[str, str]:
    """A digest of every file, by its path; Longwatch's own apart."""
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        if folder == str(root):
            folders[:] = [name for name in folders if name != OWN]
        for name in names:
            path = Path(folder, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def report(kind: str, wrong: Sequence[tuple[str, list[str]]], *, of: int) -> str:
    """wrong: places, and what differs there; of: how many were tried. Places of one consequence stand together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for place, differences in wrong:
        groups.setdefault(tuple(differences), []).append(place)
    head = f"{kind} does not survive a crash at {len(wrong)} of its {of} places."
    return "\n".join([head, *(_group(differences, places) for differences, places in groups.items())])


def in_short(error: BaseException) -> str:
    name = type(error).__name__
    return _shortened(f"{name}: {error}" if str(error) else name)


def _group(differences: tuple[str, ...], places: list[str]) -> str:
    listed = [f"    {place}" for place in places[:SHOWN]]
    if len(places) > SHOWN:
        listed.append(f"    and {len(places) - SHOWN} more")
    return "\n".join([*(f"\n  {difference}" for difference in differences), "  It does when killed in:", *listed])


def _times(n: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(n, f"{n} times")


def _shortened(text: str | None) -> str:
    said = "null" if text is None else text
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
