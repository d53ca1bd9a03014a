"""What is wrong with an archive, by name."""

from typing import Literal

import msgspec

FindingKind = Literal["damaged", "missing", "half written", "unlisted", "left over", "manifest", "index"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """name: a segment, a draft, or "" for the manifest and the index. at: byte of the segment, or line of the manifest.

    damaged: bytes are not those that were written. missing: it is listed and not there. half written: it is shorter than
    listed. unlisted: it is there and no line lists it. left over: it was to go; the next writer removes it. manifest: a
    line is broken, or lines are lost. index: it does not say what the segments say; making it anew mends it.
    """

    kind: FindingKind
    what: str
    name: str = ""
    at: int = 0
    entries: int = 0
    """How many entries cannot be read for it, as far as that is known."""
