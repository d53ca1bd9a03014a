"""What the archive holds, as moves that follow from each other: a line of JSON each, which names the one before by hash.

A line ends with its `chain`, the sha256 of all that stands before it; `before` in it is the chain of the line before. Whoever
knows the last chain knows that nothing was changed, put in or taken out. A last line without its newline was being
written when its writer died: nobody was told of it, and the next one takes its place.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

MoveKind = Literal["add", "drop", "pin", "unpin", "redact"]
NAME = re.compile(r"\d{8}-[0-9a-f]{16}\.jsonl\.zst")
START = "0" * 64
MARK = b',"chain":"'
END = len(MARK) + 64 + 2  # bytes of a line from the mark on, without the newline


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A closed file of entries. sha256: of its bytes. entries: how many of each kind. chain: of the line that listed it.

    number: how many were added before it, and one; a redacted one keeps that of the original. raw_bytes: its lines.
    """

    name: str
    source: str
    number: int
    from_ms: int
    to_ms: int
    entries: dict[str, int]
    raw_bytes: int
    bytes: int
    sha256: str
    chain: str = ""
    pinned: bool = False
    dropped: bool = False

    @property
    def count(self) -> int:
        return sum(self.entries.values())


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """n: 1, 2, 3 and so on. at_ms: epoch milliseconds. name: the segment it is about; of `redact`, the one that went.

    segment: of `add` and `redact`, the new one. sha256: of `drop` and `redact`, that of the file that went.
    """

    n: int
    move: MoveKind
    at_ms: int
    name: str
    before: str
    segment: Segment | None = None
    sha256: str = ""
    reason: str = ""
    who: str = ""
    chain: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """moves: those that can be read. faults: (line, what is wrong). good_bytes: up to a torn last line. torn: its bytes."""

    moves: list[Move]
    segments: dict[str, Segment]
    faults: list[tuple[int, str]]
    good_bytes: int
    torn: int

    @property
    def head(self) -> tuple[int, str]:
        """Number and chain of the last move."""
        return (self.moves[-1].n, self.moves[-1].chain) if self.moves else (0, START)

    @property
    def standing(self) -> list[Segment]:
        """Those that are there, oldest first."""
        here = (segment for segment in self.segments.values() if not segment.dropped)
        return sorted(here, key=lambda segment: segment.number)

    @property
    def gone(self) -> set[str]:
        """Names of files that were dropped or replaced, and must not be there."""
        went = {move.name for move in self.moves if move.move in ("drop", "redact")}
        return went - {segment.name for segment in self.standing}

    def of_source(self, source: str) -> Segment | None:
        return next((segment for segment in self.segments.values() if segment.source == source), None)

    def next_number(self) -> int:
        return 1 + max((segment.number for segment in self.segments.values()), default=0)


def line_of_move(move: Move) -> bytes:
    """With its newline. move: its chain is left out, and made."""
    body = msgspec.json.encode(msgspec.structs.replace(move, chain=""))[:-1]
    return body + MARK + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def read_manifest(text: bytes) -> Manifest:
    """Of whatever is there: what cannot be read is a fault, and what follows it is read nevertheless."""
    whole, newline, rest = text.rpartition(b"\n")
    moves: list[Move] = []
    faults: list[tuple[int, str]] = []
    before, n = START, 1
    for number, line in enumerate(whole.split(b"\n") if newline else (), start=1):
        move = _move_of(line)
        if isinstance(move, str):
            faults.append((number, move))
            before = ""  # nobody knows what it was: the next line is taken at its word
            n = 0
            continue
        if (before and move.before != before) or (n and move.n != n):
            faults.append(
                (number, f"it does not follow from the line before: move {move.n} after {n - 1 if n else '?'}")
            )
        before, n = move.chain, move.n + 1
        moves.append(move)
    return Manifest(moves, _segments(moves), faults, len(whole) + len(newline), len(rest))


def _move_of(line: bytes) -> Move | str:
    """Or what is wrong with it."""
    body, end = line[:-END], line[-END:]
    if not end.startswith(MARK) or not end.endswith(b'"}'):
        return "it does not end with a chain"
    if hashlib.sha256(body).hexdigest().encode() != end[len(MARK) : -2]:
        return "its hash is not that of its text: it was changed"
    try:
        move = msgspec.json.decode(line, type=Move)
    except msgspec.DecodeError as error:
        return f"it cannot be read: {error}"
    names = [move.name, *([move.segment.name] if move.segment else [])]
    odd = [name for name in names if NAME.fullmatch(name) is None]
    return f"it names {odd[0]!r}, which no segment is called" if odd else move


def _segments(moves: Sequence[Move]) -> dict[str, Segment]:
    found: dict[str, Segment] = {}
    for move in moves:
        old = found.get(move.name)
        if move.segment is not None:
            pinned = old is not None and old.pinned and move.move == "redact"
            if move.move == "redact":
                found.pop(move.name, None)
            found[move.segment.name] = msgspec.structs.replace(move.segment, chain=move.chain, pinned=pinned)
        elif old is not None:
            changed = {"drop": {"dropped": True}, "pin": {"pinned": True}, "unpin": {"pinned": False}}[move.move]
            found[move.name] = msgspec.structs.replace(old, **changed)
    return found
