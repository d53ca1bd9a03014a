"""What the journal tells, said as a record of memory: the end of a task, a note of its handler, what a call cost."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from longwatch.policy.memory import DEFAULT_TRUST, KINDS

MOST = 600  # characters of arguments or a result in a sentence; the whole is in the record's data
DEPTH = 3


class Told(NamedTuple):
    """A record to be made. key: the same whenever the same entry is read. id: when whoever wrote the entry chose it."""

    kind: str
    body: str
    key: str
    source: str
    trust: str
    data: str | None
    id: str | None = None
    supersedes: str | None = None


def tell_note(kind: str, data: Mapping[str, Any], *, seq: int, task: str) -> Told | None:
    """Of `run.record`; None for a kind that memory does not know, or from before there was memory."""
    if kind not in KINDS or not isinstance(data.get("record"), str):
        return None
    facts = data.get("data")
    return Told(
        kind,
        str(data.get("text", "")),
        key=str(data.get("key") or f"{task}/{seq}"),
        source="run",
        trust=str(data.get("trust") or DEFAULT_TRUST.get(kind, "own")),
        data=msgspec.json.encode(facts).decode() if facts else None,
        id=str(data["record"]),
        supersedes=data.get("supersedes"),
    )


def tell_end(
    state: str, *, task: str, at_ms: int, kind: str | None, args: str | None, result: str | None, error: str | None
) -> Told:
    """Of a task that has ended: done is a result, failed and unknown are failures."""
    said = f"{kind or 'task'}({sentence(args)})"
    key = f"{task}/{state}/{at_ms}"
    if state == "done":
        data = f'{{"args":{args or "null"},"result":{result or "null"}}}'
        outcome = sentence(result)
        return Told("result", f"{said} done{': ' if outcome else ''}{outcome}", key, "task", "own", data)
    first = (error or "").splitlines()[0] if error else ""
    data = msgspec.json.encode({"args": _decoded(args), "error": error}).decode()
    return Told("failure", f"{said} {state}{': ' if first else ''}{first}", key, "task", "own", data)


def tell_call(state: str, data: Mapping[str, Any], *, call: str) -> Told:
    """Of a call that is over; money in micro-units."""
    return Told(
        "call",
        f"{data.get('service', 'call')} {state}, {data.get('money', 0)} micros",
        key=f"{call}/{state}",
        source="call",
        trust="own",
        data=msgspec.json.encode(data).decode(),
    )


def sentence(text: str | None, *, most: int = MOST) -> str:
    """JSON as a person would say it, on one line, cut off at `most` characters: `customer acme, pence 1200`."""
    value = _decoded(text)
    said = "" if value is None else _say(value, DEPTH)
    return said if len(said) <= most else said[: most - 1] + "…"


def _decoded(text: str | None) -> Any:
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _say(value: Any, depth: int) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{name} {_say(each, depth - 1)}" for name, each in value.items()) if depth else "…"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return inner if depth == DEPTH else f"({inner})"
    if isinstance(value, list):
        return "[" + (", ".join(_say(each, depth - 1) for each in value[:20]) if depth else "…") + "]"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return " ".join(str(value).split())
