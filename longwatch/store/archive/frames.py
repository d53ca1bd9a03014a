"""Segments as files: JSONL in zstd frames of about half a mebibyte, each of which can be read alone.

A file is a row of ordinary frames with checksums, then two frames that every reader of zstd skips: a table (JSON: the
source, and of each frame the place, size, count of entries, times and sha256) and the seek table of the seekable format
(facebook/zstd, contrib/seekable_format). `zstdcat` gives all lines; whoever wants one frame reads the file from its end.

Entries of one agent stand together, in the order in which they came: they resemble each other, and a task's are in one
or two frames. At most HELD bytes wait in memory, however many agents there are and however long a segment becomes.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import BinaryIO

import msgspec
import zstandard

from longwatch.errors import StoreUnavailable
from longwatch.store.archive.entry import Entry, line_of

RAW = 1 << 19  # bytes of lines in a frame: smaller ones shrink less, larger ones do not fit a processor's cache
HELD = 64 << 20  # bytes of lines that wait for their agent's frame to be full
LEVEL = 9  # above it a third more time for 2 % less
FORMAT = "longwatch-segment/1"
SKIPPED, SEEK, SEEK_END = 0x184D2A50, 0x184D2A5E, 0x8F92EAB1
MAGIC = b"\x28\xb5\x2f\xfd"
TAIL = 1 << 16  # bytes that nearly every table fits into
LARGEST = 1 << 30  # bytes that one frame may become: what claims more is damaged

Read = Callable[[int, int], bytes]
"""Bytes of a file: where they begin, and how many."""


class Frame(msgspec.Struct, frozen=True):
    """start, size: in the file. raw: bytes of lines in it. sha256: of its bytes in the file."""

    start: int
    size: int
    raw: int
    entries: int
    from_ms: int
    to_ms: int
    sha256: str


class Table(msgspec.Struct, frozen=True):
    source: str
    frames: list[Frame]
    format: str = FORMAT


class Written(msgspec.Struct, frozen=True):
    """What has been written: the bytes of the file and their sha256, and what is in it."""

    table: Table
    bytes: int
    sha256: str


class Writer:
    """Puts entries into a file that is open for writing, and empty."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file, self._source = file, source
        self._frames: list[Frame] = []
        self._digest, self._size = hashlib.sha256(), 0
        self._waiting: dict[str, _Group] = {}
        self._held = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)

    def add(self, entry: Entry) -> None:
        """Errors: NotStorable."""
        line = line_of(entry)
        group = self._waiting.get(entry.agent) or self._waiting.setdefault(entry.agent, _Group())
        group.add(line, entry.at_ms)
        self._held += len(line)
        if group.raw >= RAW:
            self._frame(self._waiting.pop(entry.agent))
        elif self._held > HELD:
            self._frame(self._waiting.pop(max(self._waiting, key=lambda agent: self._waiting[agent].raw)))

    def close(self) -> Written:
        """Write what still waits, the small rests of several agents together, and the tables."""
        rest = _Group()
        for agent in sorted(self._waiting):
            rest.join(self._waiting[agent])
            if rest.raw >= RAW:
                self._frame(rest)
                rest = _Group()
        if rest.lines:
            self._frame(rest)
        table = Table(self._source, self._frames)
        text = msgspec.json.encode(table)
        self._write(struct.pack("<II", SKIPPED, len(text)) + text)
        places = [*((frame.size, frame.raw) for frame in self._frames), (len(text) + 8, 0)]
        seek = b"".join(struct.pack("<II", *place) for place in places) + struct.pack("<IBI", len(places), 0, SEEK_END)
        self._write(struct.pack("<II", SEEK, len(seek)) + seek)
        return Written(table, self._size, self._digest.hexdigest())

    def _frame(self, group: "_Group") -> None:
        raw = b"".join(group.lines)
        data = self._compressor.compress(raw)
        digest = hashlib.sha256(data).hexdigest()
        self._frames.append(
            Frame(self._size, len(data), len(raw), len(group.lines), group.from_ms, group.to_ms, digest)
        )
        self._held -= len(raw)
        self._write(data)

    def _write(self, data: bytes) -> None:
        """Errors: StoreUnavailable."""
        try:
            self._file.write(data)
        except OSError as error:
            raise StoreUnavailable(
                f"a segment of {self._source} cannot be written: {error.strerror or error}",
                hint="Make room on the disk of the archive, and do it again. Nothing was taken out of the state.",
            ) from error
        self._digest.update(data)
        self._size += len(data)


class _Group:
    """Lines that will be one frame."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.raw, self.from_ms, self.to_ms = 0, 0, 0

    def add(self, line: bytes, at_ms: int) -> None:
        self.from_ms = min(self.from_ms, at_ms) if self.lines else at_ms
        self.to_ms = max(self.to_ms, at_ms) if self.lines else at_ms
        self.lines.append(line)
        self.raw += len(line)

    def join(self, other: "_Group") -> None:
        self.from_ms = min(self.from_ms, other.from_ms) if self.lines else other.from_ms
        self.to_ms = max(self.to_ms, other.to_ms) if self.lines else other.to_ms
        self.lines += other.lines
        self.raw += other.raw


# -- reading -------------------------------------------------------------------------------------------------------------


class Damaged(Exception):
    """Bytes that are not what was written; the message says what is wrong with them."""


def unpack(data: bytes) -> bytes:
    """The lines of a frame; its checksum is looked at. Errors: Damaged."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= LARGEST:
            raise Damaged(f"it claims {size} bytes")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(str(error)) from error


def read_table(read: Read, size: int) -> Table:
    """From the end of a file of `size` bytes. Errors: Damaged when the tables are not there or do not fit the file."""
    tail = read(max(0, size - TAIL), min(size, TAIL))
    if len(tail) < 17 or struct.unpack("<I", tail[-4:])[0] != SEEK_END:
        raise Damaged("it does not end with a seek table")
    count: int = struct.unpack("<I", tail[-9:-5])[0]
    seek_size = 8 * count + 17
    if not count >= 1 or seek_size > size:
        raise Damaged(f"its seek table claims {count} frames")
    seek = tail[-seek_size:] if seek_size <= len(tail) else read(size - seek_size, seek_size)
    if struct.unpack("<II", seek[:8]) != (SEEK, seek_size - 8):
        raise Damaged("its seek table does not begin where it should")
    pairs = list(struct.iter_unpack("<II", seek[8:-9]))
    text_size = pairs[-1][0]
    begins = size - seek_size - text_size
    if begins < 0 or begins != sum(pair[0] for pair in pairs[:-1]):
        raise Damaged("its seek table does not fit the file")
    return _decoded(read(begins, text_size), pairs)


def _decoded(text: bytes, pairs: list[tuple[int, int]]) -> Table:
    if len(text) < 8 or struct.unpack("<II", text[:8]) != (SKIPPED, len(text) - 8):
        raise Damaged("its table is not where the seek table says")
    try:
        table = msgspec.json.decode(text[8:], type=Table)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"its table cannot be read ({error})") from error
    if [(frame.size, frame.raw) for frame in table.frames] != pairs[:-1]:
        raise Damaged("its two tables do not say the same")
    if [frame.start for frame in table.frames] != [0, *accumulate(pair[0] for pair in pairs[:-1])][:-1]:
        raise Damaged("its table has gaps")
    return table


def walk(data: bytes) -> Iterator[tuple[int, int]]:
    """(start, size) of each frame with lines in a whole file, without its tables. Damage is passed over."""
    place = 0
    while place + 8 <= len(data):
        magic: int = struct.unpack("<I", data[place : place + 4])[0]
        if magic & 0xFFFFFFF0 == SKIPPED:
            place += 8 + struct.unpack("<I", data[place + 4 : place + 8])[0]
        elif end := _end_of(data, place):
            yield place, end - place
            place = end
        else:
            found = data.find(MAGIC, place + 1)
            place = found if found >= 0 else len(data)


def _end_of(data: bytes, place: int) -> int:
    """Where the frame that begins here ends, by the headers of its blocks; 0 when none does."""
    if data[place : place + 4] != MAGIC:
        return 0
    try:
        at = place + zstandard.frame_header_size(data[place : place + 18])
    except zstandard.ZstdError:
        return 0
    last = False
    while not last:
        if at + 3 > len(data):
            return 0
        header = int.from_bytes(data[at : at + 3], "little")
        last, sort, size = bool(header & 1), (header >> 1) & 3, header >> 3
        if sort == 3:
            return 0
        at += 3 + (1 if sort == 1 else size)
    at += 4 if data[place + 4] & 4 else 0  # its checksum
    return at if at <= len(data) else 0
