"""Logs of other programs, one line or one message at a time, as records: transcripts of Claude Code, messages of Anthropic's
and OpenAI's APIs, plain lines of JSON. What is no part of a conversation (titles, progress, file snapshots) is passed over.

The record of one entry has always the same key, so that importing a log twice, or a longer version of it, adds what is new.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

Format = Literal["claude-code", "anthropic", "openai", "jsonl"]
FORMATS: tuple[Format, ...] = ("claude-code", "anthropic", "openai", "jsonl")


class Entry(NamedTuple):
    """A record to be. at_ms: epoch milliseconds, None when the log does not tell. key: the same each time it is read."""

    kind: str
    body: str
    key: str
    trust: str
    author: str | None = None
    thread: str | None = None
    at_ms: int | None = None
    data: str | None = None


class Place(NamedTuple):
    """Where a line stands: name of its file without folders, and its number from 1."""

    file: str
    line: int


def entries(form: Format, line: Mapping[str, Any], place: Place) -> list[Entry]:
    """What one line says; nothing when it is of no conversation. Errors: ValueError for one that is not of this form."""
    return READERS[form](line, place)


def _claude_code(line: Mapping[str, Any], place: Place) -> list[Entry]:
    sort, message = line.get("type"), line.get("message")
    thread = str(line.get("sessionId") or place.file)
    at_ms, uuid = instant(line.get("timestamp")), line.get("uuid")
    if sort == "summary":
        return [
            Entry("fact", str(line.get("summary", "")), f"{place.file}/{place.line}", "tool", "summary", thread, at_ms)
        ]
    if sort not in ("user", "assistant") or not isinstance(message, dict) or line.get("isMeta"):
        return []
    found = _message(_table(message), thread, str(uuid or f"{place.file}/{place.line}"), at_ms)
    return [each._replace(author=f"{each.author} (sub-agent)") for each in found] if line.get("isSidechain") else found


def _messages(line: Mapping[str, Any], place: Place) -> list[Entry]:
    """A message, or a request, an answer or an object with a list of messages in it."""
    listed = line.get("messages")
    thread = str(line.get("thread") or line.get("session") or line.get("conversation") or place.file)
    at_ms = instant(line.get("timestamp") or line.get("created_at") or line.get("created"))
    if isinstance(listed, list):
        messages = [_table(each) for each in _list(listed)]
        thread = thread if thread != place.file else f"{place.file}/{place.line}"
        return [
            found
            for number, message in enumerate(messages)
            for found in _message(message, thread, f"{place.file}/{place.line}/{number}", at_ms)
        ]
    choices = _list(line.get("choices"))
    if choices:
        line = _table(_table(choices[0]).get("message"))
    if "role" not in line:
        raise ValueError("it has neither role, messages nor choices")
    return _message(line, thread, str(line.get("id") or f"{place.file}/{place.line}"), at_ms)


def _plain(line: Mapping[str, Any], place: Place) -> list[Entry]:
    body = line.get("text") if line.get("text") is not None else line.get("body")
    if not isinstance(body, str):
        raise ValueError("it has no text")
    data = line.get("data")
    kind = str(line.get("kind", "message"))
    return [
        Entry(
            kind=kind,
            body=body,
            key=str(line.get("key") or line.get("id") or f"{place.file}/{place.line}"),
            trust=str(line.get("trust") or ("tool" if kind == "tool_output" else "untrusted")),
            author=_text(line.get("author")),
            thread=_text(line.get("thread") or line.get("task")),
            at_ms=instant(line.get("at") or line.get("timestamp")),
            data=None if data is None else msgspec.json.encode(data).decode(),
        )
    ]


READERS: dict[str, Callable[[Mapping[str, Any], Place], list[Entry]]] = {
    "claude-code": _claude_code,
    "anthropic": _messages,
    "openai": _messages,
    "jsonl": _plain,
}


# -- messages --------------------------------------------------------------------------------------------------------------


def _message(message: Mapping[str, Any], thread: str, key: str, at_ms: int | None) -> list[Entry]:
    role, content = str(message.get("role", "")), message.get("content")
    if role == "system" or role == "developer":
        return []
    if role == "tool":
        return [Entry("tool_output", _said(content), key, "tool", _text(message.get("name")), thread, at_ms)]
    parts: list[Entry] = []
    blocks = _list(content) if isinstance(content, list) else [content]
    for number, block in enumerate(blocks):
        part = _block(block, role, thread, f"{key}/{number}" if number else key, at_ms)
        parts += [part] if part is not None else []
    for number, call in enumerate(_list(message.get("tool_calls"))):
        parts.append(_called(call, thread, f"{key}/call/{number}", at_ms))
    return [part for part in parts if part.body.strip()]


def _block(block: Any, role: str, thread: str, key: str, at_ms: int | None) -> Entry | None:
    if isinstance(block, str):
        block = {"type": "text", "text": block}
    made = _table(block)
    author, trust = ("assistant", "own") if role == "assistant" else (role or "user", "untrusted")
    sort = made.get("type")
    if sort in ("text", "input_text", "output_text"):
        return Entry("message", str(made.get("text", "")), key, trust, author, thread, at_ms)
    if sort == "tool_use":
        body = f"{made.get('name', 'tool')} {_json(made.get('input'))}"
        return Entry("call", body, key, "own", author, thread, at_ms)
    if sort == "tool_result":
        return Entry("tool_output", _said(made.get("content")), key, "tool", None, thread, at_ms)
    return None  # thinking, pictures, documents


def _called(call: Any, thread: str, key: str, at_ms: int | None) -> Entry:
    function = _table(_table(call).get("function"))
    body = f"{function.get('name', 'tool')} {function.get('arguments', '')}"
    return Entry("call", body, key, "own", "assistant", thread, at_ms)


def _said(content: Any) -> str:
    if isinstance(content, list):
        blocks = [_table(each) for each in _list(content)]
        return "\n".join(str(block["text"]) for block in blocks if "text" in block)
    return content if isinstance(content, str) else "" if content is None else _json(content)


def _list(value: Any) -> list[Any]:
    """Empty for what is none."""
    made: list[Any] = value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
    return made


def _table(value: Any) -> dict[str, Any]:
    """Empty for what is none."""
    made: dict[str, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return made


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def instant(value: Any) -> int | None:
    """Epoch milliseconds of RFC 3339, or of seconds or milliseconds since the epoch; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return round(value if value > 10**11 else value * 1000) if 0 < value < 10**14 else None
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def guess(lines: Iterator[Mapping[str, Any]]) -> Format:
    """Which form these lines have, by the first that tells."""
    for line in lines:
        if "sessionId" in line and "type" in line:
            return "claude-code"
        if "tool_calls" in line or "choices" in line:
            return "openai"
        if "role" in line or "messages" in line:
            return "anthropic"
        if "text" in line:
            return "jsonl"
    return "jsonl"


def short(key: str) -> str:
    """A key of bounded length."""
    return key if len(key) <= 200 else hashlib.sha256(key.encode()).hexdigest()
