"""What an agent remembers: which kinds of record there are, what becomes of one, and what its digest covers.

A record is never changed. It is closed, or another one takes its place; both leave it where it was, to be shown, and out
of what counts as live. Only redaction takes its text away. Kinds that stand (a goal, a decision, a commitment, a lesson)
are live until that happens, however long ago they were written; the others tell what was, and fade into snapshots.
"""

import hashlib
from typing import Literal, get_args

import msgspec

from longwatch.errors import ConfigError, nearest

Kind = Literal[
    "goal", "decision", "fact", "commitment", "lesson", "failure", "result", "message", "tool_output", "call"
]
Trust = Literal["own", "tool", "untrusted"]
State = Literal["live", "closed", "superseded", "redacted"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STATES: tuple[State, ...] = get_args(State)
TRUSTS: tuple[Trust, ...] = get_args(Trust)
STANDING: tuple[Kind, ...] = ("goal", "decision", "commitment", "lesson")
ENDS: tuple[Kind, ...] = ("result", "failure")
"""What says that a task has ended, where it was made of one."""

MOVES: dict[str, dict[State, State]] = {
    "close": {"live": "closed"},
    "supersede": {"live": "superseded"},
    "redact": {"live": "redacted", "closed": "redacted", "superseded": "redacted"},
}
DEFAULT_TRUST: dict[str, Trust] = {"message": "untrusted", "tool_output": "tool"}


class Record(msgspec.Struct, frozen=True):
    """One thing remembered. place: its number among the agent's records, from 1. at_ms: epoch milliseconds.

    thread: the task or conversation it stands in. author: who said it, where that is not the agent. data: JSON.
    successor: the record that took its place.
    """

    seq: int
    id: str
    agent: str
    place: int
    kind: str
    state: str
    at_ms: int
    task: str | None
    thread: str | None
    author: str | None
    source: str
    trust: str
    key: str | None
    body: str
    data: str | None
    successor: str | None
    pinned: int

    @property
    def ref(self) -> str:
        """As briefs name it: short, and of this agent."""
        return f"r{self.place}"


def check_kind(name: str) -> Kind:
    """Errors: ConfigError for a kind that does not exist."""
    for kind in KINDS:
        if name == kind:
            return kind
    raise ConfigError(f"there is no kind of record {name!r}{nearest(name, KINDS)}", hint=f"Kinds: {', '.join(KINDS)}.")


def check_trust(name: str | None, kind: str) -> Trust:
    """The trust given, else what the kind says. Errors: ConfigError."""
    if name is None:
        return DEFAULT_TRUST.get(kind, "own")
    for trust in TRUSTS:
        if name == trust:
            return trust
    raise ConfigError(f"there is no trust {name!r}{nearest(name, TRUSTS)}", hint=f"One of {', '.join(TRUSTS)}.")


def place_of(ref: str) -> int | None:
    """The place that a short name such as "r4711" is of; None when it is none."""
    digits = ref[1:]
    return int(digits) if ref[:1] == "r" and digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def plain(text: str) -> str:
    """The text as every engine can keep it: no NUL, no half of a surrogate pair."""
    text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def digest(record: Record) -> bytes:
    """Of what of a record never changes."""
    facts = (record.id, record.place, record.kind, record.at_ms, record.task, record.thread, record.author)
    rest = (record.source, record.trust, record.key, record.body, record.data)
    return hashlib.sha256(msgspec.json.encode((*facts, *rest))).digest()


def charter_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
