"""Embeddings: texts to vectors by a function of the caller's, asked for what this process has not kept.

A model is another's program: it may be away, slow or wrong. What it gives is looked at before it is used, and no lock is held
while it works, so that nobody waits for another's model.
"""

import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import CellType
from typing import Any, Protocol

from longwatch.policy.meaning import Vector

KEPT = 10_000  # vectors that this process keeps
BATCH = 256  # texts to a call: providers take some thousand at most
PLAIN = (str, bytes, int, float)
LONGEST = 4_000  # characters of a text that are embedded: models read 256 to 8,192 tokens of it

ASKED = "\0"  # begins what a question is kept by, where a model reads questions in a way of its own


class Embedder(Protocol):
    """A model that reads a question otherwise than what may answer it, as most made for search do; as LangChain has it.
    Whatever can be called is called instead."""

    def embed_query(self, text: str, /) -> Sequence[float]: ...

    def embed_documents(self, texts: list[str], /) -> Sequence[Sequence[float]]: ...


Texts = Callable[[Sequence[str]], Sequence[Sequence[float]]]
Embed = Texts | Embedder


class NoVectors(ValueError):
    """What came back are no vectors, one for each text, of one length and of numbers."""


@dataclass
class Embeddings:
    _by: list[object] = field(default_factory=list[object])
    _kept: "OrderedDict[str, Vector]" = field(default_factory=OrderedDict[str, "Vector"])
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def of(self, question: str, texts: Sequence[str], embed: Embed) -> tuple[Vector, list[Vector]]:
        """Of the question, and one for each text. Errors: NoVectors; whatever the model raises."""
        question, texts = question[:LONGEST], [text[:LONGEST] for text in texts]
        if not callable(embed):
            return self._by_model(question, texts, embed)
        asked, *found = self._made([question, *texts], embed, embed)
        return asked, found

    def _by_model(self, question: str, texts: Sequence[str], embed: Embedder) -> tuple[Vector, list[Vector]]:
        (asked,) = self._made([ASKED + question], embed, lambda _: [embed.embed_query(question)])
        found = self._made(texts, embed, lambda some: embed.embed_documents(list(some)))
        if len({len(asked), *map(len, found)}) != 1:
            self.forget()
            raise NoVectors("vectors of several lengths")
        return asked, found

    def _made(self, texts: Sequence[str], embed: Embed, make: Texts) -> list[Vector]:
        kept, known = self._known(texts, embed)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for first in range(0, len(missing), BATCH):
            some = missing[first : first + BATCH]
            made = dict(zip(some, _vectors(make(some), len(some)), strict=True))
            known |= made
            if len({len(vector) for vector in known.values()}) != 1:
                self.forget()  # the function has another model behind it than before
                raise NoVectors("vectors of several lengths")
            self._keep(kept, made)
        return [known[text] for text in texts]

    def forget(self) -> None:
        """What is being embedded just now is not kept either: it goes where nobody looks any more."""
        with self._guard:
            self._kept = OrderedDict()

    def _known(self, texts: Sequence[str], embed: Embed) -> "tuple[OrderedDict[str, Vector], dict[str, Vector]]":
        """What this function made is kept until another one is asked."""
        with self._guard:
            if not _is_same(self._by, by := _made_of(embed)):
                self._by, self._kept = by, OrderedDict()
            for text in texts:
                if text in self._kept:
                    self._kept.move_to_end(text)
            return self._kept, {text: self._kept[text] for text in texts if text in self._kept}

    def _keep(self, kept: "OrderedDict[str, Vector]", made: dict[str, Vector]) -> None:
        with self._guard:
            kept |= made
            while len(kept) > KEPT:
                kept.popitem(last=False)


def _made_of(embed: object) -> list[object]:
    """What tells a function from others: a lambda that is made anew for each question is the same, of the same things."""
    if isinstance(embed, partial):
        return [*_made_of(embed.func), *embed.args, *embed.keywords.values()]
    code = getattr(embed, "__code__", None)
    if code is None:
        return [embed]
    closure: tuple[CellType, ...] = getattr(embed, "__closure__", None) or ()
    defaults: tuple[object, ...] = getattr(embed, "__defaults__", None) or ()
    return [code, getattr(embed, "__self__", None), *(cell.cell_contents for cell in closure), *defaults]


def _is_same(one: list[object], other: list[object]) -> bool:
    """By identity: whatever models are made of may not be comparable."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a is b or (isinstance(a, PLAIN) and a == b) for a, b in pairs)


def _vectors(given: Sequence[Sequence[float]], number: int) -> list[Vector]:
    rows: list[Any] = list(given)
    if len(rows) != number:
        raise NoVectors(f"{len(rows)} vectors for {number} texts")
    return [_unit([float(value) for value in row]) for row in rows]


def _unit(values: Sequence[float]) -> Vector:
    length = math.sqrt(sum(value * value for value in values))
    if not values or not math.isfinite(length):
        raise NoVectors("a vector without numbers, or with what is none")
    return array("f", [value / length for value in values] if length else values)
