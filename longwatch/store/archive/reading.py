"""Reads segments part by part. What is damaged is told of, and what is not is read."""

from collections.abc import Iterator

import msgspec

from longwatch.errors import NotFound
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.frames import Damaged, Table, read_table, unpack, walk
from longwatch.store.archive.manifest import Manifest, Segment
from longwatch.store.archive.places import Place


class Part(msgspec.Struct, frozen=True):
    """One frame of a segment, and its lines."""

    start: int
    size: int
    raw: bytes


def table_of(place: Place, segment: Segment) -> Table:
    """Errors: Damaged; NotFound."""
    return read_table(lambda start, size: place.read(segment.name, start, size), segment.bytes)


def parts_of(place: Place, segment: Segment) -> Iterator[Part | Finding]:
    """Each frame; for one that cannot be read, why not."""
    try:
        frames = table_of(place, segment).frames
    except NotFound:
        yield missing(segment)
        return
    except Damaged as error:
        yield from _without_table(place, segment, str(error))
        return
    for frame in frames:
        part = part_of(place, segment.name, frame.start, frame.size)
        yield part if isinstance(part, Part) else msgspec.structs.replace(part, entries=frame.entries)


def part_of(place: Place, name: str, start: int, size: int) -> Part | Finding:
    """One frame, or why it cannot be read."""
    try:
        return Part(start, size, unpack(place.read(name, start, size)))
    except NotFound:
        return Finding("missing", "it is listed and not there", name)
    except Damaged as error:
        return Finding("damaged", f"bytes {start} to {start + size} are not what was written: {error}", name, start)


def missing(segment: Segment) -> Finding:
    return Finding("missing", "it is listed and not there", segment.name, entries=segment.count)


def _without_table(place: Place, segment: Segment, why: str) -> Iterator[Part | Finding]:
    """All frames that can still be made out: the file is read whole, and its frames found by their own headers."""
    data = place.read(segment.name, 0, segment.bytes)
    short = len(data) < segment.bytes
    found = 0
    for start, size in walk(data):
        try:
            part = Part(start, size, unpack(data[start : start + size]))
        except Damaged as error:
            what = f"bytes {start} to {start + size} are not what was written: {error}"
            yield Finding("damaged", what, segment.name, start)
        else:
            found += part.raw.count(b"\n")
            yield part
    lost = segment.count - found
    if short:
        what = f"it has {len(data)} bytes of {segment.bytes}: {found} of {segment.count} entries can be read"
        yield Finding("half written", what, segment.name, len(data), lost)
    else:
        what = f"its tables cannot be read ({why}): {found} of {segment.count} entries can"
        yield Finding("damaged", what, segment.name, entries=lost)


def overtaken(place: Place, manifest: Manifest, sizes: dict[str, int]) -> list[str]:
    """Unlisted files of a source for which another file is listed, and is there: their writers died before they listed them."""
    there = {segment.source for segment in manifest.standing if sizes.get(segment.name) == segment.bytes}
    listed = {segment.name for segment in manifest.standing} | manifest.gone
    return [name for name in sorted(sizes.keys() - listed) if _source_of(place, name, sizes[name]) in there]


def _source_of(place: Place, name: str, size: int) -> str | None:
    try:
        return read_table(lambda start, length: place.read(name, start, length), size).source
    except (Damaged, NotFound):
        return None
