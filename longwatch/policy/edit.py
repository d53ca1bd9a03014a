"""What a commit of several files consists of.

An edit records the *base* of every file it reads or changes: the SHA-256 of the bytes it saw, None for no file. A commit
is a list of items, one for each file that ends up different from its base. Several edits of one step fold into one
commit: the last change of a file counts, against the base that the first of them saw.

An item names one new file in the commit's own folder, or a place there for a deleted one. Applying it is one rename
between that folder and the target, so twice does no harm, and a committer that wakes up late can only repeat what
its own commit says: once the folder has been put away, not even that.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from longwatch.errors import EditConflict

Bases = Mapping[str, str | None]


@dataclass(frozen=True)
class Change:
    """The file's new bytes (`sha256`, None: deleted) and permission bits, staged by the edit `edit`."""

    edit: str
    sha256: str | None
    mode: int


@dataclass(frozen=True)
class Item:
    """One file of a commit. place: its number in the commit's folder; sha256: of the new bytes, None for a deletion."""

    place: int
    target: str
    sha256: str | None
    mode: int


@dataclass(frozen=True)
class Draft:
    """A commit before its bytes are copied: what must be unchanged, and what changes, by target in order of name."""

    bases: Bases
    changes: Mapping[str, Change]


def fold(edits: Iterable[tuple[Bases, Mapping[str, Change]]]) -> Draft:
    """Several edits, oldest first, as one. Errors: EditConflict when a later one did not see what an earlier one wrote."""
    bases: dict[str, str | None] = {}
    changes: dict[str, Change] = {}
    for seen, changed in edits:
        for path, sha256 in seen.items():
            before = changes[path].sha256 if path in changes else bases.setdefault(path, sha256)
            if before != sha256:
                raise changed_meanwhile([path])
        changes.update(changed)
    kept = {path: changes[path] for path in sorted(changes) if changes[path].sha256 != bases[path]}
    return Draft(bases, kept)


def refuse_conflicts(bases: Bases, found: Bases) -> None:
    """Errors: EditConflict, naming the files whose bytes are no longer those that the edit saw."""
    changed = sorted(path for path, sha256 in bases.items() if found[path] != sha256)
    if changed:
        raise changed_meanwhile(changed)


def changed_meanwhile(paths: list[str]) -> EditConflict:
    named = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
    hint = "Nothing was written. Read again and repeat the edit; something outside of Longwatch writes these files."
    return EditConflict(f"{named} changed since the edit read {'it' if len(paths) == 1 else 'them'}", hint=hint)
