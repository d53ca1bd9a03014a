"""Compares an archive with what was written: hashes, counts, times, names, and the chain of the manifest."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from longwatch.errors import NotFound
from longwatch.store.archive.entry import Entry, entries_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.frames import Damaged, Frame, unpack
from longwatch.store.archive.manifest import START, Manifest, Segment
from longwatch.store.archive.places import Place
from longwatch.store.archive.reading import Part, missing, parts_of, table_of

Progress = Callable[[int, int], None]
Told = Callable[[Frame, list[Entry], bytes], None]


def check_all(place: Place, manifest: Manifest, progress: Progress | None = None) -> list[Finding]:
    """progress: bytes looked at, of how many."""
    findings = [Finding("manifest", f"line {line}: {what}", at=line) for line, what in manifest.faults]
    if manifest.torn:
        what = f"its last {manifest.torn} bytes are a line that was never finished; the next writer takes them off"
        findings.append(Finding("manifest", what, at=len(manifest.moves) + len(manifest.faults) + 1))
    sizes = place.sizes()
    findings += _strays(place, manifest, sizes)
    done, of = 0, sum(segment.bytes for segment in manifest.standing)
    for segment in manifest.standing:
        findings += check_segment(place, segment)
        done += segment.bytes
        if progress is not None:
            progress(done, of)
    return findings


def check_end(manifest: Manifest, remembered: tuple[int, str] | None) -> list[Finding]:
    """Whether the manifest goes on from where somebody saw it: lines lost at its end leave a chain that is in order."""
    if remembered is None or remembered == (0, START):
        return []
    n, chain = remembered
    if any(move.n == n and move.chain == chain for move in manifest.moves):
        return []
    what = f"move {n}, which the side index has seen, is not in it: its end was lost, or it is that of another archive"
    return [Finding("manifest", what, at=n)]


def _strays(place: Place, manifest: Manifest, sizes: dict[str, int]) -> Iterator[Finding]:
    listed = {segment.name for segment in manifest.standing}
    for name in sorted(set(sizes) - listed):
        if name in manifest.gone:
            yield Finding(
                "left over", "it was dropped or replaced, and is still there; the next writer removes it", name
            )
        else:
            yield Finding("unlisted", f"no line of the manifest lists its {sizes[name]} bytes", name)
    for name in place.drafts():
        yield Finding("half written", "a draft whose writer is at work or died; the next writer removes it", name)


def check_segment(place: Place, segment: Segment, told: Told | None = None) -> list[Finding]:
    """All that is wrong with it, frame by frame. told: of each frame that is in order, its entries, and its lines."""
    try:
        return _check(place, segment, told)
    except NotFound:
        return [missing(segment)]


def _check(place: Place, segment: Segment, told: Told | None) -> list[Finding]:
    try:
        table = table_of(place, segment)
    except Damaged:
        return [part for part in parts_of(place, segment) if not isinstance(part, Part)]
    findings: list[Finding] = []
    digest, counts, at = hashlib.sha256(), Counter[str](), 0
    for frame in table.frames:
        data = place.read(segment.name, frame.start, frame.size)
        digest.update(data)
        at = frame.start + frame.size
        read = _entries(segment.name, frame, data)
        if isinstance(read, Finding):
            findings.append(read)
            continue
        entries, raw = read
        counts.update(entry.kind for entry in entries)
        if told is not None:
            told(frame, entries, raw)
    digest.update(place.read(segment.name, at, segment.bytes - at + 1))  # one byte more shows what was added
    if not findings:
        findings += _as_a_whole(segment, table.source, digest.hexdigest(), dict(counts))
    return findings


def _entries(name: str, frame: Frame, data: bytes) -> tuple[list[Entry], bytes] | Finding:
    where = f"bytes {frame.start} to {frame.start + frame.size}"
    try:
        if hashlib.sha256(data).hexdigest() != frame.sha256:
            raise Damaged("their sha256 is another")
        raw = unpack(data)
        entries = list(entries_of(raw))
        times = [entry.at_ms for entry in entries]
        if (len(entries), min(times, default=0), max(times, default=0)) != (frame.entries, frame.from_ms, frame.to_ms):
            raise Damaged("they do not hold what the table says")
    except (Damaged, msgspec.DecodeError, UnicodeDecodeError) as error:
        return Finding("damaged", f"{where} are not what was written: {error}", name, frame.start, frame.entries)
    return entries, raw


def _as_a_whole(segment: Segment, source: str, sha256: str, counts: dict[str, int]) -> Iterator[Finding]:
    if sha256 != segment.sha256:
        yield Finding("damaged", f"its sha256 is {sha256[:12]}..., listed is {segment.sha256[:12]}...", segment.name)
    elif (source, counts) != (segment.source, segment.entries):
        what = f"it holds {counts} of {source}, listed are {segment.entries} of {segment.source}"
        yield Finding("damaged", what, segment.name)
