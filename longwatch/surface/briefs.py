"""Briefs and hits as a program has them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from longwatch.policy.brief import Composed
from longwatch.policy.recall import snippet
from longwatch.runtime.recollect import Hit as Found
from longwatch.store.snapshots import Snapshot as Kept


@dataclass(frozen=True)
class Brief:
    """What an agent reads first.

    tokens: how many it is at most. sources: ids of the records that its statements are made of. left_out: by part, how
    many statements had no room. parts: the text in three: what changes seldom, snapshots, what changes often.
    """

    agent: str
    text: str
    tokens: int
    sources: tuple[str, ...]
    left_out: dict[str, int]
    parts: tuple[str, str, str]

    def blocks(self, *, cache: bool = False) -> list[dict[str, Any]]:
        """As content blocks of Anthropic's API; cache: with breakpoints behind what changes seldom."""
        made: list[dict[str, Any]] = [{"type": "text", "text": part} for part in self.parts if part]
        if cache:
            for block in made[:-1] if self.parts[2] else made:
                block["cache_control"] = {"type": "ephemeral"}
        return made

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


@dataclass(frozen=True)
class Snapshot:
    """What an agent did between two of its records, in short.

    level: 1 of records, above of ten of the level below. first, last: short names of records. author: "offline", the model
    that wrote it, or "mixed" of others that several wrote. why: it is offline although a model is to write it. micros: what
    the answers to it have cost, in micro-units of the fleet's currency. dropped: claims of the model that were not kept.
    """

    id: str
    agent: str
    level: int
    first: str
    last: str
    records: int
    tasks: int
    starts_at: datetime
    ends_at: datetime
    made_at: datetime
    author: str
    why: str | None
    micros: int
    dropped: int


def snapshot_view(kept: Kept) -> Snapshot:
    starts, ends, made = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (kept.starts_ms, kept.ends_ms, kept.made_ms))
    first, last = f"r{kept.first_place}", f"r{kept.last_place}"
    about = (kept.id, kept.agent, kept.level, first, last, kept.records, kept.tasks, starts, ends, made)
    return Snapshot(*about, author=kept.author, why=kept.why, micros=kept.micros, dropped=kept.dropped)


def brief_view(agent: str, composed: Composed) -> Brief:
    return Brief(agent, composed.text, composed.tokens, composed.sources, composed.left_out, composed.parts)


@dataclass(frozen=True)
class Hit:
    """A record that recall has found. score: the greater the better, of this question only. snippet: where it says it.

    context: what stands beside it in its task or conversation, as "author: text".
    """

    id: str
    ref: str
    agent: str
    kind: str
    state: str
    text: str
    snippet: str
    score: float
    task: str | None
    at: datetime
    trust: str
    author: str | None
    thread: str | None
    context: tuple[str, ...]

    def _repr_markdown_(self) -> str:
        return f"**{self.kind}** {self.snippet}  \n`{self.id}` {self.at:%Y-%m-%d}"


def hit_view(hit: Found, question: str) -> Hit:
    record = hit.record
    return Hit(
        id=record.id,
        ref=record.ref,
        agent=record.agent,
        kind=record.kind,
        state=record.state,
        text=record.body,
        snippet=snippet(record.body, question),
        score=round(hit.score, 4),
        task=record.task,
        at=datetime.fromtimestamp(record.at_ms / 1000, UTC),
        trust=record.trust,
        author=record.author,
        thread=record.thread,
        context=tuple(f"{each.author}: {each.body}" if each.author else each.body for each in hit.context),
    )
