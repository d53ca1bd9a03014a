"""Finds the candidates of a recall: a bounded number of records, whatever is asked and however many there are.

How many records say a word is told from how far back its newest reach. The rarest words are searched, until they would bring
more records than can be weighed in a few milliseconds; what is said everywhere finds nothing, and only weighs. A record that
says more and rarer words is likelier, and of equals the newer one: the index keeps no positions, and so cannot rank.
Where even the rarest are everywhere, records have to say two of them.

Whose records they are is in the index too, as one more word. To look for that as well takes two thirds of a search, so an agent
that wrote most of all records asks for those of everybody, for as many more, and keeps its own.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longwatch.db.connection import Database, Transaction
from longwatch.policy.memory import Record
from longwatch.store.memory import encode, record_of, tag_of

WEIGHED = 5_000  # records that one search may weigh
LOOKED_AT = 48  # of the newest that say a word
PART = 2  # an agent that wrote half of all asks for everybody's
SPARE = 1.5  # times as many as should do
PLAIN = re.compile(r"[^\W_]+")
LAST_MS = 1 << 52


class Wanted(NamedTuple):
    """terms: words without endings, each with how it may be written. kinds: of records, None for all.

    since, until: epoch milliseconds, 0 and LAST_MS for any.
    """

    agent: str
    terms: Mapping[str, Sequence[str]]
    kinds: Sequence[str] | None = None
    since_ms: int = 0
    until_ms: int = LAST_MS


class Found(NamedTuple):
    """records: the likeliest first. having: how many records say each term, nearly."""

    records: list[Record]
    having: dict[str, int]


@dataclass(frozen=True)
class Search:
    database: Database

    def candidates(self, wanted: Wanted, *, limit: int) -> Found:
        with self.database.read() as tx:
            part = _part(tx, wanted)
            having = {term: self._having(tx, wanted, term, part) for term in wanted.terms}
            records = self._likeliest(tx, wanted, having, limit, part)
            if not records and any(having.values()):
                rarest = sorted((term for term in having if having[term]), key=lambda term: having[term])
                pairs = [(one, other) for at, one in enumerate(rarest[:3]) for other in rarest[at + 1 : 4]]
                either = [_all(wanted, pair) for pair in pairs]
                records = [record for both in either for record in self._newest(tx, wanted, both, limit // 4)]
                records = records or self._newest(tx, wanted, _any(wanted, rarest[:2]), limit)
        return Found(list({record.seq: record for record in records}.values())[:limit], having)

    def around(self, agent: str, places: set[int]) -> list[Record]:
        """Records at these places, in their order."""
        with self.database.read() as tx:
            listed = encode(sorted(places)).decode()
            return [record_of(row) for row in tx.all("memory.by_places", agent=agent, listed=listed)]

    def _having(self, tx: Transaction, wanted: Wanted, term: str, part: "Part") -> int:
        asked = _asked(wanted, _any(wanted, [term]), of_all=part.of_all)
        rows = tx.all("memory.match_newest", **asked, limit=LOOKED_AT)
        own = len(_own(tx, wanted, [int(row.seq) for row in rows], part))
        if len(rows) < LOOKED_AT:
            return own
        if part.of_all and 2 * own * part.last < LOOKED_AT * part.own:  # others say it far more often than the agent
            return self._having(tx, wanted, term, part._replace(of_all=False))
        reach = part.last - int(rows[-1].seq) + 1
        return max(own, own * part.last // reach)

    def _likeliest(
        self, tx: Transaction, wanted: Wanted, having: Mapping[str, int], limit: int, part: "Part"
    ) -> list[Record]:
        """By how rare the words are that they say."""
        chosen = _rarest(having)
        if not chosen:
            return []
        most = max(having.values())
        weights = {term: round(1000 + 1000 * math.log(1 + most / having[term])) for term in chosen}
        enough = part.enough(limit)
        found = self._matching(tx, wanted, weights, enough, of_all=part.of_all)
        own = _own(tx, wanted, found, part)[:limit]
        if len(own) < limit and len(found) == enough and part.of_all:
            own = self._matching(tx, wanted, weights, limit, of_all=False)
        return self._records(tx, own)

    def _matching(
        self, tx: Transaction, wanted: Wanted, weights: Mapping[str, int], limit: int, *, of_all: bool
    ) -> list[int]:
        asked = [
            {**_asked(wanted, _any(wanted, [term]), of_all=of_all), "weight": weight}
            for term, weight in weights.items()
        ]
        common = {name: asked[0][name] for name in ("agent", "kinds")}
        between = {"since_ms": wanted.since_ms, "until_ms": wanted.until_ms}
        name = "memory.match" if _is_of_any_time(wanted) else "memory.match_between"
        rows = tx.all(name, asked=encode(asked).decode(), **common, **between, limit=limit)
        return [int(row.seq) for row in rows]

    def _newest(self, tx: Transaction, wanted: Wanted, asked: "Asked", limit: int) -> list[Record]:
        between = {"since_ms": wanted.since_ms, "until_ms": wanted.until_ms}
        name = "memory.match_newest" if _is_of_any_time(wanted) else "memory.match_newest_between"
        rows = tx.all(name, **_asked(wanted, asked), **between, limit=limit)
        return self._records(tx, [int(row.seq) for row in rows])

    def _records(self, tx: Transaction, seqs: Sequence[int]) -> list[Record]:
        """In the order of these."""
        found = {row.seq: record_of(row) for row in tx.all("memory.by_seqs", listed=encode(seqs).decode())}
        return [found[seq] for seq in seqs if seq in found]


class Part(NamedTuple):
    """own: records that the agent wrote; last: the last of all records. of_all: it asks for everybody's."""

    own: int
    last: int
    of_all: bool

    @property
    def mixed(self) -> bool:
        """Others' may be among what is found."""
        return self.of_all and self.own < self.last

    def enough(self, limit: int) -> int:
        """Of everybody's, for `limit` of its own to be among them."""
        return math.ceil(limit * SPARE * self.last / self.own) if self.mixed else limit


def _part(tx: Transaction, wanted: Wanted) -> Part:
    row = tx.one("memory.part", agent=wanted.agent)
    assert row is not None
    own, last = int(row.own), int(row.last)
    plain = row.tagged and wanted.kinds is None and _is_of_any_time(wanted)
    return Part(own, last, bool(plain and 0 < last <= own * PART))


def _own(tx: Transaction, wanted: Wanted, seqs: Sequence[int], part: Part) -> list[int]:
    """Those of them that are the agent's, in their order."""
    if not part.mixed or not seqs:
        return list(seqs)
    rows = tx.all("memory.seqs_of", agent=wanted.agent, listed=encode(list(seqs)).decode())
    own = {int(row.seq) for row in rows}
    return [seq for seq in seqs if seq in own]


def _is_of_any_time(wanted: Wanted) -> bool:
    return (wanted.since_ms, wanted.until_ms) == (0, LAST_MS)


class Asked(NamedTuple):
    """The same question for both engines: FTS5's grammar, and tsquery's."""

    fts: str
    tsquery: str


def _any(wanted: Wanted, terms: Sequence[str]) -> Asked:
    said = [form for term in terms for form in wanted.terms[term]]
    return Asked(" OR ".join(map(_quoted, said)), " | ".join(map(_plain, said)))


def _all(wanted: Wanted, terms: Sequence[str]) -> Asked:
    each = [_any(wanted, [term]) for term in terms]
    return Asked(" AND ".join(f"({one.fts})" for one in each), " & ".join(f"({one.tsquery})" for one in each))


def _asked(wanted: Wanted, asked: Asked, *, of_all: bool = False) -> dict[str, str | None]:
    """of_all: whoever wrote them, on an engine that has whose they are in the index."""
    kinds = [] if wanted.kinds is None else [f'"qqk{kind.replace("_", "")}"' for kind in wanted.kinds]
    tags = f'"{tag_of(wanted.agent)}"' + (f" AND ({' OR '.join(kinds)})" if kinds else "")
    listed = None if wanted.kinds is None else encode(list(wanted.kinds)).decode()
    match = asked.fts if of_all else f"{tags} AND ({asked.fts})"
    return {"match": match, "words": asked.tsquery, "agent": wanted.agent, "kinds": listed}


def _quoted(form: str) -> str:
    """Of an identifier, all of its parts: the index knows of no phrases."""
    parts = [f'"{part}"' for part in PLAIN.findall(form)]
    return f"({' AND '.join(parts)})" if len(parts) > 1 else "".join(parts) or '""'


def _plain(form: str) -> str:
    parts = PLAIN.findall(form)
    return "(" + " & ".join(parts) + ")" if parts else "''"


def _rarest(having: Mapping[str, int]) -> list[str]:
    """As many of the rarest as may be searched together."""
    chosen: list[str] = []
    weighed = 0
    for term in sorted((term for term in having if having[term]), key=lambda term: (having[term], term)):
        weighed += having[term]
        if weighed > WEIGHED:
            break
        chosen.append(term)
    return chosen
