"""Briefs and hits as a program has them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from longwatch.policy.brief import Composed
from longwatch.policy.recall import snippet
from longwatch.runtime.recollect import Hit as Found


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
