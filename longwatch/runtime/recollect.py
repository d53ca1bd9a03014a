"""Recall: candidates from the index, ranked with what stands beside them, and shown with it; where asked for, also of what has
gone into the archive.

A small memory is ranked as a whole, from what this process keeps of it; a large one by its candidates, so that the cost of a
question does not grow with the history. An embedding of any kind may have its say: of every record of a small memory, also of
one that has no word of the question, and of a large one's best candidates. One that fails leaves it to the words.
"""

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from longwatch.errors import GiveUp, LongwatchError, Refused, RetryLater
from longwatch.policy.meaning import blend, in_context, meant
from longwatch.policy.memory import Record
from longwatch.policy.recall import (
    AFTER,
    BEFORE,
    Corpus,
    Query,
    Scored,
    Text,
    fitting,
    forget,
    query_of,
    rank,
    said_of,
)
from longwatch.policy.tokens import most_tokens
from longwatch.runtime.archived import NOTHING, Away
from longwatch.runtime.embedding import Embed, Embeddings
from longwatch.runtime.memory import Memories
from longwatch.store.search import LAST_MS, Search, Wanted
from longwatch.store.snapshots import Snapshots

SMALL = 1_000  # records of a memory that is ranked as a whole
CANDIDATES = 60
POOL = 60  # of the best by words of a large memory, which an embedding is asked about
MOST = 1_000  # hits
CONTEXT = 2  # records on each side that a hit is shown with
SHORT = 16  # tokens of a record, of which many are longer
NAMED = 4  # tokens of who says it and when, beside the text

logger = logging.getLogger("longwatch")


class Hit(NamedTuple):
    """A record that was found. context: what stands beside it, in order."""

    record: Record
    score: float
    context: tuple[Record, ...]


class Known(NamedTuple):
    """A small memory as it is ranked. having: how many texts have a term."""

    texts: list[Text]
    having: "Counter[str]"


class Ranked(NamedTuple):
    """What the words have found. texts: in the order of places. chosen: places of what may be found at all. asked: of what an
    embedding is asked about.
    """

    scored: list[Scored]
    texts: list[Text]
    chosen: set[int]
    asked: set[int]


@dataclass
class Recollection:
    memories: Memories
    _known: dict[str, Known] = field(default_factory=dict[str, Known])
    _embeddings: Embeddings = field(default_factory=Embeddings)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def recall(
        self,
        agent: str,
        question: str,
        *,
        limit: int = 10,
        tokens: int | None = None,
        count: Callable[[str], int] | None = None,
        kinds: Sequence[str] | None = None,
        since_ms: int = 0,
        until_ms: int = LAST_MS,
        embed: Embed | None = None,
        archive: bool = False,
    ) -> list[Hit]:
        """The best first. tokens: as many as fit, and not `limit`. count: the tokens of a text. archive: also of what is there.

        Errors: StoreUnavailable when it is out of reach.
        """
        self.memories.catch_up()
        limit = min(limit if tokens is None else max(POOL, tokens // SHORT), MOST)
        query, now_ms = query_of(question), self.memories.world.wall_ms()
        places = self.memories.store.agent(agent).places
        wanted = Wanted(agent, query.forms, kinds, since_ms, until_ms)
        away = self.memories.whole.recalled(wanted, limit=max(CANDIDATES, limit)) if archive else NOTHING
        ranked = self._small if places <= SMALL and not away.records else self._large
        found = ranked(wanted, query, now_ms, limit if embed is None else max(limit, POOL), places, away)
        scored = (
            found.scored if embed is None else blend(found.scored, self._meant(question, found, embed), found.chosen)
        )
        scored = scored[:limit]
        if tokens is not None and scored:
            size, bodies = count or _most_tokens, {text.place: text.body for text in found.texts}
            scored = fitting(scored, {each.place: NAMED + size(bodies[each.place]) for each in scored}, tokens)
        return self._hits(agent, scored, away.records)

    def forget(self) -> None:
        """Something was redacted: nothing that this process keeps may still hold it."""
        with self._guard:
            self._known.clear()
        self._embeddings.forget()
        forget()

    # -- ranking -----------------------------------------------------------------------------------------------------------

    def _small(self, wanted: Wanted, query: Query, now_ms: int, _: int, places: int, __: Away) -> Ranked:
        known = self._all_of(wanted.agent, places)
        chosen = {text.place for text in known.texts if _is_wanted(text, wanted)}
        corpus = Corpus(len(known.texts), known.having)
        scored = rank(query, known.texts, chosen, corpus, now_ms=now_ms, limit=places)
        return Ranked(scored, known.texts, chosen, chosen | {text.place for text in known.texts if text.kind != "call"})

    def _all_of(self, agent: str, places: int) -> Known:
        """As it was kept, and what was added since."""
        with self._guard:
            known = self._known.setdefault(agent, Known([], Counter()))
            last = known.texts[-1].place if known.texts else 0
            if last < places:
                for record in Snapshots(self.memories.store.database).records(agent, last + 1, places):
                    known.texts.append(text_of(record))
                    known.having.update(said_of(record.body).counts.keys())
            return Known(list(known.texts), known.having)

    def _large(self, wanted: Wanted, query: Query, now_ms: int, limit: int, places: int, away: Away) -> Ranked:
        search = Search(self.memories.store.database)
        found = search.candidates(wanted, limit=max(CANDIDATES, limit))
        chosen = {record.place for record in found.records}
        near = {place + step for place in chosen for step in range(-len(BEFORE), len(AFTER) + 1)} - chosen
        here = {record.place: record for record in [*found.records, *search.around(wanted.agent, near)]}
        texts = [text_of(record) for _, record in sorted((away.records | here).items())]
        candidates = {text.place for text in texts if _is_wanted(text, wanted)}
        corpus = Corpus(places, {term: count + away.having.get(term, 0) for term, count in found.having.items()})
        scored = rank(query, texts, candidates, corpus, now_ms=now_ms, limit=limit, again=False)
        return Ranked(scored, texts, candidates, {each.place for each in scored[:POOL]})

    def _meant(self, question: str, found: Ranked, embed: Embed) -> Mapping[int, float]:
        """By place. Nothing when the embedding fails: then the words have it all."""
        texts = {text.place: text for text in found.texts}
        asked = [place for place in sorted(found.asked) if texts[place].body.strip()]
        if not asked or not question.strip():
            return {}
        said = [in_context(texts[place], texts.get(place - 1)) for place in asked]
        try:
            likened, vectors = self._embeddings.of(question, said, embed)
        except (GiveUp, RetryLater):
            raise
        except Exception as error:
            if isinstance(error, LongwatchError) and not isinstance(error, Refused):
                raise
            logger.warning("recall goes by words alone: its embedding failed", exc_info=True)
            return {}
        return meant(likened, dict(zip(asked, vectors, strict=True)), texts)

    def _hits(self, agent: str, scored: Sequence[Scored], away: Mapping[int, Record]) -> list[Hit]:
        near = {each.place + step for each in scored for step in range(-CONTEXT, CONTEXT + 1)}
        here = self.memories.store.at_places(agent, near) if near else []
        there = {**away, **{record.place: record for record in here}}
        return [
            Hit(there[each.place], each.score, _beside(there, each.place))
            for each in scored
            if each.place in there and there[each.place].state != "redacted"
        ]


_recollections: "weakref.WeakKeyDictionary[Memories, Recollection]" = weakref.WeakKeyDictionary()


def recollection_of(memories: Memories) -> Recollection:
    """One for all handles of a fleet in this process: it keeps what it has read."""
    found = _recollections.get(memories)
    if found is None:
        found = _recollections.setdefault(memories, Recollection(memories))
    return found


def text_of(record: Record) -> Text:
    thread, author = record.thread or "", record.author or ""
    return Text(record.place, thread, author, record.body, record.kind, record.at_ms)


def _most_tokens(text: str) -> int:
    return most_tokens(text.encode())


def _is_wanted(text: Text, wanted: Wanted) -> bool:
    of_kind = wanted.kinds is None or text.kind in wanted.kinds
    return (
        of_kind
        and wanted.since_ms <= text.at_ms <= wanted.until_ms
        and (text.kind != "call" or wanted.kinds is not None)
    )


def _beside(there: dict[int, Record], place: int) -> tuple[Record, ...]:
    thread = there[place].thread
    near = [there.get(place + step) for step in range(-CONTEXT, CONTEXT + 1) if step]
    return tuple(each for each in near if each is not None and each.thread == thread and each.state != "redacted")
