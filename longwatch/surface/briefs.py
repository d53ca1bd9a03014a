"""A brief as a program has it."""

from dataclasses import dataclass
from typing import Any

from longwatch.policy.brief import Composed


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
