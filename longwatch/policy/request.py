"""What a request of a model's API needs, read from its body before it is sent: model, tokens in and out at most, caching.

A body is decoded JSON. Pictures and documents inside it are counted by the piece and not by their letters. What the body
only refers to (an earlier conversation, an uploaded file) is not here to be counted; it is settled by the answer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from longwatch.policy.price import Caching
from longwatch.policy.tokens import most_tokens

PICTURE_TOKENS = 5_000
PAGE_TOKENS, PAGE_BYTES = 3_000, 20_000  # of a document: a dense page, and the least it takes in a file
DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)
MARKS = ("media_type", "format")  # beside `data`: it is a picture, a document, a sound
ASKS = {
    "anthropic": ("/messages",),
    "openai": ("/chat/completions", "/responses", "/completions", "/embeddings"),
}
LONGEST = ("max_tokens", "max_completion_tokens", "max_output_tokens")
ORDER: tuple[Caching, ...] = ("none", "5m", "1h")
FREE = (
    "/messages/count_tokens",
    "/input_tokens",
    "/cancel",
    "/files",
    "/models",
)  # ends of paths that cost nothing, whatever is sent there


class Needs(NamedTuple):
    """model None: it is not a model that is asked. free: it costs nothing. longest: tokens of one answer, 0: not told;
    choices: how many answers."""

    model: str | None = None
    prompt: int = 0
    longest: int = 0
    caching: Caching = "none"
    free: bool = False
    choices: int = 1


def needs_of(service: str, method: str, path: str, body: object) -> Needs:
    """path: of the request, with or without its query."""
    path = path.partition("?")[0].rstrip("/")
    if method.upper() != "POST" or path.endswith(FREE):
        return Needs(free=True)
    told: Mapping[str, Any] = cast("Mapping[str, Any]", body) if isinstance(body, Mapping) else {}
    model = told.get("model")
    if not isinstance(model, str) or not path.endswith(ASKS.get(service, ())):
        return Needs(model if isinstance(model, str) else None)
    text, beside = bytearray(), [0]
    _read(told, text, beside)
    longest = next((told[name] for name in LONGEST if isinstance(told.get(name), int)), 0)
    choices = told.get("n")
    return Needs(
        model,
        most_tokens(bytes(text)) + beside[0],
        1 if path.endswith("/embeddings") else max(0, longest),  # an embedding has no words
        _caching(told) if service == "anthropic" else "none",
        choices=choices if isinstance(choices, int) and choices > 0 else 1,
    )


def _read(value: object, text: bytearray, beside: list[int]) -> None:
    """Adds the words of a body to `text`, and the tokens of what is no text to `beside`."""
    if isinstance(value, str):
        if DATA_URL.match(value):
            beside[0] += _media_tokens(value)
        else:
            text += value.encode("utf-8", "replace") + b'" '
    elif isinstance(value, Mapping):
        told = cast("Mapping[str, object]", value)
        data = told.get("data")
        media = isinstance(data, str) and told.get("type") != "text" and any(mark in told for mark in MARKS)
        beside[0] += _media_tokens(cast("str", data)) if media else 0
        for key, found in told.items():
            text += f'"{key}": '.encode("utf-8", "replace")
            if not (media and key == "data"):
                _read(found, text, beside)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for found in cast("Sequence[object]", value):
            _read(found, text, beside)
    elif value is not None:
        text += f"{value}, ".encode("utf-8", "replace")


def _media_tokens(value: str) -> int:
    document = value.startswith(("JVBERi0", "data:application/pdf"))
    return max(PICTURE_TOKENS, len(value) * 3 // 4 // PAGE_BYTES * PAGE_TOKENS) if document else PICTURE_TOKENS


def _caching(body: object) -> Caching:
    """For how long the request asks its prompt to be kept, the longest of all marks in it."""
    if isinstance(body, Mapping):
        found = cast("Mapping[str, object]", body)
        mark = found.get("cache_control")
        own: Caching = "none"
        if isinstance(mark, Mapping):
            own = "1h" if cast("Mapping[str, object]", mark).get("ttl") == "1h" else "5m"
        return max([own, *map(_caching, found.values())], key=ORDER.index)
    if isinstance(body, Sequence) and not isinstance(body, str | bytes):
        return max(["none", *map(_caching, cast("Sequence[object]", body))], key=ORDER.index)
    return "none"
