"""One snapshot as a program has it: all that it says, and the records that each statement is of."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from longwatch.policy import snapshot as policy
from longwatch.store.memory import Receipt
from longwatch.store.snapshots import Snapshot as Kept
from longwatch.surface.briefs import Snapshot, snapshot_view
from longwatch.surface.memory_files import instant
from longwatch.surface.wire import Json, at, snapshot_json

SECTIONS = (*policy.SECTION.values(), "failures", "narrative")


@dataclass(frozen=True)
class Said:
    """One statement. refs, ids: short names and ids of the records that it is of, newest first. times: how many say it.

    instead_of: short names of older records that it contradicts.
    """

    text: str
    refs: tuple[str, ...]
    ids: tuple[str, ...]
    at: datetime
    trust: str
    times: int
    instead_of: tuple[str, ...]


@dataclass(frozen=True)
class WholeSnapshot(Snapshot):
    """With everything in it. sections: statements, oldest first, by goals, decisions, commitments, lessons, facts, failures
    and narrative. kinds: how many records there are of each. work: by kind of task, how many were done and how many not.
    calls, calls_micros: how many the agent made, and what they cost. sha256: of the records that it covers. made_of: ids of
    the ten below it. part_of: the one above it. history: (when, who, what, note) of what was done to it.
    """

    sections: dict[str, tuple[Said, ...]]
    kinds: dict[str, int]
    work: dict[str, tuple[int, int]]
    calls: int
    calls_micros: int
    sha256: str
    made_of: tuple[str, ...]
    part_of: str | None
    history: tuple[tuple[datetime, str, str, str], ...] = ()

    def _repr_markdown_(self) -> str:
        return "\n".join([f"**{self.first} to {self.last}** of {self.agent}, by {self.author}  ", *_markdown(self)])


def whole_view(kept: Kept, children: Iterable[str], receipts: Iterable[Receipt]) -> WholeSnapshot:
    shape = kept.shape
    return WholeSnapshot(
        **vars(snapshot_view(kept)),
        sections={name: tuple(_said(item) for item in getattr(shape, name)) for name in SECTIONS},
        kinds=shape.numbers.kinds,
        work=shape.numbers.work,
        calls=shape.numbers.calls,
        calls_micros=shape.numbers.micros,
        sha256=kept.sha256,
        made_of=tuple(children),
        part_of=kept.parent,
        history=tuple((instant(each.at_ms), each.who, each.action, each.note) for each in receipts),
    )


def whole_json(snapshot: WholeSnapshot, *, currency: str) -> Json:
    return {
        **snapshot_json(snapshot, currency=currency),
        "sections": {name: [_said_json(said) for said in listed] for name, listed in snapshot.sections.items()},
        "kinds": snapshot.kinds,
        "work": {kind: {"done": done, "not_done": other} for kind, (done, other) in snapshot.work.items()},
        "calls": snapshot.calls,
        "calls_micros": snapshot.calls_micros,
        "sha256": snapshot.sha256,
        "made_of": snapshot.made_of,
        "part_of": snapshot.part_of,
        "history": [
            {"at": _at(when), "who": who, "action": what, "note": note} for when, who, what, note in snapshot.history
        ],
    }


def said_words(said: Said) -> str:
    """In one line, with the records that it is of."""
    about = [", ".join(said.refs)]
    about += [f"{said.times} times"] if said.times > 1 else []
    about += [f"instead of {', '.join(said.instead_of)}"] if said.instead_of else []
    about += [said.trust] if said.trust != "own" else []
    return f"- {said.text} [{'; '.join(about)}]"


def _said(item: policy.Item) -> Said:
    refs, instead_of = (tuple(f"r{place}" for place in places) for places in (item.places, item.instead_of))
    return Said(item.text, refs, item.ids, instant(item.at_ms), item.trust, item.times, instead_of)


def _said_json(said: Said) -> Json:
    return asdict(said) | {"at": _at(said.at)}


def _at(when: datetime) -> str | None:
    return at(round(when.timestamp() * 1000))


def _markdown(snapshot: WholeSnapshot) -> Iterable[str]:
    for name, listed in snapshot.sections.items():
        if listed:
            yield f"\n**{name}**\n"
            yield from (said_words(said) for said in listed)
