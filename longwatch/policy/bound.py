"""At most how many tokens a text has, for sure: what a brief is measured by where no tokenizer is at hand.

Tokenizers of today's models merge bytes, so that no text has more tokens than bytes: that is the bound of everything that is
not plain English words. Of those, common ones are one token, and a quarter is added, because vocabularies differ; letters
that are none of them (names, rare words, nonsense) were never found to need more than seven tokens for ten letters and one
for the word, up to twelve letters. It errs by up to double in prose and more in code. `policy/tokens.py` estimates, and is
for money; this is not.

The bound of two texts behind each other, each of whole lines, is at most the sum of theirs.
"""

import re
from functools import lru_cache

from longwatch.policy.common_words import COMMON

PIECE = re.compile(r" ?[A-Za-z]+|[^A-Za-z]+?(?= ?[A-Za-z]|$)", re.DOTALL)
SCALE = 100
SHORT, LONG = 4, 12  # letters of a word; of shorter and longer ones each letter may be a token


def bound(text: str) -> int:
    """Tokens, rounded up."""
    return -(-sum(map(_hundredths, PIECE.findall(text))) // SCALE)


@lru_cache(20_000)
def line_bound(line: str) -> int:
    """Of one line of a brief: most of them are in every brief."""
    return bound(line)


@lru_cache(50_000)
def _hundredths(piece: str) -> int:
    letters = piece[1:] if piece[0] == " " else piece
    if not (letters.isascii() and letters.isalpha()):
        return SCALE * len(piece.encode("utf-8", "replace"))
    spaced = len(letters) < len(piece)
    if not (letters.islower() or letters.istitle()):
        return SCALE * len(piece)
    if letters.lower() in COMMON:
        return 125 if spaced else min(200, SCALE * len(letters))
    plausible = SHORT <= len(letters) <= LONG
    return SCALE + 70 * len(letters) if plausible else SCALE * len(letters)
