"""State diagrams, drawn from the tables of moves: nothing else lists states, so nothing can disagree with the code."""

from collections.abc import Iterable, Mapping
from typing import Any

Moves = Mapping[str, Mapping[Any, str]]
"""By name of a move: the state after it, by the state before."""


def mermaid(moves: Moves, *, begins: Iterable[str], ends: Iterable[str]) -> str:
    """A state diagram in Mermaid. begins: states that something new may be in; ends: outcomes."""
    lines = ["stateDiagram-v2", *(f"    [*] --> {state}" for state in begins)]
    lines += [f"    {one} --> {other}: {', '.join(names)}" for (one, other), names in _arrows(moves).items()]
    lines += [f"    {state} --> [*]" for state in ends]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def table(moves: Moves) -> str:
    """The same as rows: a move, where it may start, and where it leads."""
    rows = [f"| `{name}` | {_pairs(pairs)} |" for name, pairs in moves.items()]
    return "| move | from -> to |\n|---|---|\n" + "\n".join(rows) + "\n"


def _arrows(moves: Moves) -> dict[tuple[str, str], list[str]]:
    """The names of the moves between two states, in the order of the table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for name, pairs in moves.items():
        for one, other in pairs.items():
            arrows.setdefault((one, other), []).append(name)
    return arrows


def _pairs(pairs: Mapping[Any, str]) -> str:
    sources: dict[str, list[str]] = {}
    for one, other in pairs.items():
        sources.setdefault(other, []).append(one)
    return "; ".join(f"{', '.join(several)} -> {other}" for other, several in sources.items())
