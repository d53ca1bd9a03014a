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
WIDE = 32  # bits of a hash
OF_RUN, OF_WORD = 3, 10  # bits to a run, of which one is set, and to a word


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
    runs = runs_of(b'"'.join(set(raw.split(b'"'))))
    return _bits(runs, OF_RUN * len(runs))


def may_hold(bits: bytes, hashes: Iterable[int]) -> bool:
    """Whether what has these hashes may be in a frame of these bits. No bits: it has no words."""
    size = 8 * len(bits)
    return size > 0 and all(bits[(at := found * size >> WIDE) >> 3] >> (at & 7) & 1 for found in hashes)


@lru_cache(50_000)
def hashes_of(word: str) -> tuple[int, ...]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return tuple(int.from_bytes(digest[at : at + 4]) for at in range(0, 16, 4))


def words_of(words: Collection[str]) -> bytes:
    """Bits of the words of a frame; none of none."""
    return _bits((each for word in words for each in hashes_of(word)), OF_WORD * len(words))


def _bits(hashes: Iterable[int], size: int) -> bytes:
    bits = bytearray(size // 8 + 1 if size else 0)
    size = 8 * len(bits)
    for found in hashes:
        at = found * size >> WIDE
        bits[at >> 3] |= 1 << (at & 7)
    return bytes(bits)


class Needed:
    """Runs of several spellings, of which a frame must have all of one."""

    def __init__(self, spellings: Sequence[bytes]) -> None:
        self._runs = [sorted(runs_of(each)) for each in spellings]

    def may_be_in(self, bits: bytes) -> bool:
        return any(may_hold(bits, runs) for runs in self._runs)
