"""One entry of the archive, and the line of JSON that it is in a segment."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Literal, NamedTuple

import msgspec

from longwatch.errors import NotStorable

Kind = Literal["journal", "task", "call", "record", "log"]

FAR_MS = 1 << 62

decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Entry(NamedTuple):
    """What is kept: everything that is to be known of it later is in `body`, one object of JSON on one line.

    id: unique within its kind. at_ms: epoch milliseconds by the calendar. agent, task: "" for none. cost_micros, currency,
    error: what sums by agent and day are made of; only a call's cost belongs there, so that nothing is counted twice.
    place: among its agent's records, from 1; 0 of what has none.
    """

    kind: Kind
    id: str
    at_ms: int
    agent: str
    task: str
    body: bytes
    cost_micros: int = 0
    currency: str = ""
    error: bool = False
    place: int = 0


class Line(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """An entry as a segment has it: any program that reads JSON can read it."""

    kind: Kind
    id: str
    at_ms: int
    agent: str = ""
    task: str = ""
    cost_micros: int = 0
    currency: str = ""
    error: bool = False
    place: int = 0
    body: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Line] = msgspec.json.Decoder(Line).decode


def line_of(entry: Entry) -> bytes:
    """With its newline. Errors: NotStorable for a body that is not one object of JSON, in UTF-8, on one line."""
    body = entry.body
    try:
        body.decode()
        decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(entry, str(error)) from error
    if b"\n" in body or b"\r" in body:
        raise _refused(entry, "it has line breaks outside of its texts")
    if abs(entry.at_ms) >= FAR_MS:
        raise NotStorable(f"{entry.kind} {entry.id} cannot be archived: {entry.at_ms} is no time in milliseconds")
    line = Line(
        kind=entry.kind,
        id=entry.id,
        at_ms=entry.at_ms,
        agent=entry.agent,
        task=entry.task,
        cost_micros=entry.cost_micros,
        currency=entry.currency,
        error=entry.error,
        place=entry.place,
        body=msgspec.Raw(body),
    )
    return _encode(line) + b"\n"


def entry_of(line: bytes) -> Entry:
    """Errors: msgspec.DecodeError for what is no line of a segment."""
    found = _decode(line)
    return Entry(
        found.kind,
        found.id,
        found.at_ms,
        found.agent,
        found.task,
        bytes(found.body),
        found.cost_micros,
        found.currency,
        found.error,
        found.place,
    )


def entries_of(raw: bytes) -> Iterator[Entry]:
    """Those of a frame."""
    return map(entry_of, raw.splitlines())


DAY_MS, EPOCH, LAST = 86_400_000, date(1970, 1, 1).toordinal(), date.max.toordinal()


def day_number(at_ms: int) -> int:
    """Days since 1 January 1970, in UTC. What no calendar has is on its first or last day."""
    return max(1 - EPOCH, min(at_ms // DAY_MS, LAST - EPOCH))


def day_of(at_ms: int) -> date:
    return date.fromordinal(EPOCH + day_number(at_ms))


def _refused(entry: Entry, reason: str) -> NotStorable:
    return NotStorable(
        f"{entry.kind} {entry.id} cannot be archived: its body is not one object of JSON on one line ({reason})",
        hint="Encode it with msgspec.json.encode or json.dumps; nothing was written.",
    )
