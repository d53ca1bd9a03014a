"""What a frame cannot hold is told without unpacking it: a few bits for every three letters, and for every word of a record.

Of a frame's lines all runs of three bytes are kept, in lower case and with every digit as a 0, but for those that a quote is
in; each as one bit of a number of bits that suits how many there are. A text that needs a run whose bit is not set is not in
the frame. Of records also the words are kept, as recall compares them, by two bits each. Bits say nothing of what was there
but that it may have been.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

LOWER = bytes(0x30 if 0x30 <= byte <= 0x39 else byte + 32 if 0x41 <= byte <= 0x5A else byte for byte in range(256))
QUOTE = ord('"')
ODD = 0x9E3779B1  # Knuth's multiplier: the upper bits depend on all bits
WIDEST = 32
TWICE, EIGHT = 2, 8  # bits to a run, and to a word


def runs_of(text: bytes) -> set[int]:
    """Hashes of 32 bits, of every run of three that has no quote."""
    folded = text.translate(LOWER)
    return {
        ((one << 16 | two << 8 | three) * ODD) & 0xFFFFFFFF
        for one, two, three in set(zip(folded, folded[1:], folded[2:], strict=False))
        if QUOTE not in (one, two, three)
    }


def grams_of(raw: bytes) -> bytes:
    """Bits of the lines of a frame. What stands between quotes is mostly there many times, and looked at once."""
    pieces = set(raw.split(b'"'))
    return _bits(runs_of(b'"'.join(pieces)), TWICE)


def may_hold(bits: bytes, runs: Iterable[int]) -> bool:
    """Whether a text of these runs may be in a frame of these bits. No bits: nobody knows."""
    if not bits:
        return True
    shift = WIDEST - (8 * len(bits)).bit_length() + 1
    return all(bits[(run >> shift) >> 3] >> ((run >> shift) & 7) & 1 for run in runs)


@lru_cache(50_000)
def hashes_of(word: str) -> tuple[int, int]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:])


def words_of(words: Collection[str]) -> bytes:
    """Bits of the words of a frame; none of none."""
    hashes = [each for word in words for each in hashes_of(word)]
    return _bits(hashes, EIGHT // 2) if hashes else b""


def _bits(hashes: Collection[int], each: int) -> bytes:
    width = max(10, (each * len(hashes) - 1).bit_length())
    bits, shift = bytearray(1 << width >> 3), WIDEST - width
    for found in hashes:
        place = found >> shift
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


class Needed:
    """Runs of several spellings, of which a frame must have all of one."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self._runs = [sorted(runs_of(each)) for each in spellings]

    def may_be_in(self, bits: bytes) -> bool:
        return any(may_hold(bits, runs) for runs in self._runs)
