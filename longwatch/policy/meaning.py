"""What an embedding says about which records answer a question, beside what the words say.

How like the question each record is, behind what was said before it, and above what is usual among them: models differ in what
they call alike. What stands beside a record counts for it in part, most for the reply to a question. This is added to what
the words say, as the words' ranks say nothing of how well they fit; and the less, the more of the question the words have
found: of an identifier a model knows nothing, and to it many records of one kind are alike.
"""

from collections.abc import Collection, Mapping, Sequence
from operator import mul
from statistics import fmean

from longwatch.policy.recall import Scored, Text, said_of

SAY = 0.2  # for the likest record, where one that says all that was asked for has about 1
SURE = 2.2  # score of the best record by words from which on a likeness says nothing; it says all where that is less by one
BEFORE, AFTER = (0.2, 0.1), (0.3, 0.15)  # of how like the records before and after are
REPLY = 0.4  # of how like the question is that a record answers; the question takes nothing from it
BEHIND = (
    300  # characters of what was said before, its last: a model that reads a few hundred words must reach the record
)

Vector = Sequence[float]
"""Of length one, or of zeros only."""


def in_context(text: Text, before: Text | None) -> str:
    """What a record says behind what was said before it, and by whom."""
    told = [(text.author, text.body)]
    if before is not None and before.thread == text.thread:
        told.insert(0, (before.author, before.body[-BEHIND:]))
    return " ".join(f"{author}: {said}" if author else said for author, said in told)


def meant(asked: Vector, vectors: Mapping[int, Vector], texts: Mapping[int, Text]) -> dict[int, float]:
    """By place, from 0 for what is no more like the question than others to 1 for the likest. vectors: by place."""
    alike = _above({place: sum(map(mul, asked, vector)) for place, vector in vectors.items()})
    above = _above({place: value + _beside(place, alike, texts) for place, value in alike.items()})
    best = max(above.values(), default=0.0)
    return {place: max(0.0, value / best) for place, value in above.items()} if best > 0 else {}


def blend(words: Collection[Scored], meaning: Mapping[int, float]) -> list[Scored]:
    """Best first. What neither speaks for is left out."""
    scores = {each.place: each.score for each in words}
    say = SAY * min(1.0, max(0.0, SURE - max(scores.values(), default=0.0)))
    for place, value in meaning.items():
        scores[place] = scores.get(place, 0.0) + say * value
    found = [Scored(place, score) for place, score in scores.items() if score > 0]
    return sorted(found, key=lambda each: (-each.score, -each.place))


def _above(values: Mapping[int, float]) -> dict[int, float]:
    mean = fmean(values.values()) if values else 0.0
    return {each: value - mean for each, value in values.items()}


def _beside(place: int, alike: Mapping[int, float], texts: Mapping[int, Text]) -> float:
    """What the records beside it have to say for it."""
    thread, total = texts[place].thread, 0.0
    for step, share in enumerate(BEFORE, 1):
        other = place - step
        if other in alike and texts[other].thread == thread:
            total += (REPLY if step == 1 and said_of(texts[other].body).asks else share) * alike[other]
    for step, share in enumerate(AFTER, 1):
        other = place + step
        if other in alike and texts[other].thread == thread:
            total += (0.0 if step == 1 and said_of(texts[place].body).asks else share) * alike[other]
    return total
