"""Reads what a call used from the provider's answer: Anthropic messages, OpenAI chat completions and responses.

Works on SDK objects and on decoded JSON alike, by the names of their fields. Anthropic counts cached tokens beside
`input_tokens`, OpenAI inside the prompt's; both come out as `price.Usage`, which counts no token twice.
"""

from collections.abc import Mapping
from typing import Any, cast

from longwatch.errors import ConfigError, nearest
from longwatch.policy.price import Usage

NAMES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read": "cache_read",
    "cache_write_5m": "write_5m",
    "cache_write_1h": "write_1h",
}


def usage_of(answer: object) -> Usage | None:
    """The usage of an answer, or of its `usage` alone; None when it tells none."""
    found = _field(answer, "usage")
    found = answer if found is None else found
    if _count(found, "prompt_tokens") is not None:
        return _chat(found)
    if _count(found, "input_tokens") is None and _count(found, "output_tokens") is None:
        return None
    return _message(found) if _field(found, "input_tokens_details") is None else _response(found)


def usage_from(tokens: Mapping[str, int]) -> Usage:
    """From the names that `settle` takes: input_tokens, output_tokens, cache_read, cache_write_5m, cache_write_1h."""
    for name in tokens:
        if name not in NAMES:
            raise ConfigError(f"unknown usage {name}{nearest(name, NAMES)}", hint=f"Known are {', '.join(NAMES)}.")
    return Usage(**{NAMES[name]: amount for name, amount in tokens.items()})


def model_of(answer: object) -> str | None:
    """The model that the answer says it came from."""
    model = _field(answer, "model")
    return model if isinstance(model, str) else None


def metered(usage: Usage, service: str) -> dict[str, int]:
    """Units that the provider's rates count. Anthropic does not count what is read from the cache; OpenAI does."""
    uncached = usage.prompt - usage.cache_read
    return {
        "input_tokens": usage.prompt if service == "openai" else uncached,
        "output_tokens": usage.output,
    }


class Streamed:
    """The usage of an answer that comes in events: of Anthropic's messages, OpenAI's chat completions and responses.

    usage: as told so far, None while nothing is. ended: the last event that belongs to the answer has come.
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model: str | None = None
        self.ended = False

    def add(self, event: object) -> None:
        """The next event."""
        kind = _field(event, "type")
        whole = _field(event, "message" if kind == "message_start" else "response")
        told = event if whole is None else whole
        self.model = model_of(told) or self.model
        found = usage_of(told)
        if found is not None and self.usage is not None and kind == "message_delta":
            found = _later(self.usage, found)
        self.usage = self.usage if found is None else found
        self.ended = self.ended or kind in ENDS or (kind is None and _finished(event))


ENDS = ("message_stop", "response.completed", "response.incomplete", "response.failed")


def _later(before: Usage, now: Usage) -> Usage:
    """What the end of a message tells replaces what its start told, where it tells anything. For how long what it wrote
    to the cache is kept only the start tells."""
    both = Usage(*(new or old for old, new in zip(before, now, strict=True)))
    if now.write_1h or not now.write_5m:
        return both
    hour = min(before.write_1h, now.write_5m)
    return both._replace(write_5m=now.write_5m - hour, write_1h=hour)


def _finished(event: object) -> bool:
    choices = _field(event, "choices")
    several = isinstance(choices, list | tuple)
    return several and any(_field(choice, "finish_reason") for choice in cast("list[object]", choices))


def _message(found: object) -> Usage:
    written = _count(found, "cache_creation_input_tokens") or 0
    creation = _field(found, "cache_creation")
    hour = _count(creation, "ephemeral_1h_input_tokens") or _count(found, "cache_write_1h") or 0
    minutes = max(written - hour, _count(creation, "ephemeral_5m_input_tokens") or _count(found, "cache_write_5m") or 0)
    return Usage(
        input=_count(found, "input_tokens") or 0,
        output=_count(found, "output_tokens") or 0,
        cache_read=_count(found, "cache_read_input_tokens") or _count(found, "cache_read") or 0,
        write_5m=minutes,
        write_1h=hour,
    )


def _chat(found: object) -> Usage:
    cached = _count(_field(found, "prompt_tokens_details"), "cached_tokens") or 0
    prompt = _count(found, "prompt_tokens") or 0
    return Usage(input=max(0, prompt - cached), output=_count(found, "completion_tokens") or 0, cache_read=cached)


def _response(found: object) -> Usage:
    cached = _count(_field(found, "input_tokens_details"), "cached_tokens") or 0
    prompt = _count(found, "input_tokens") or 0
    return Usage(input=max(0, prompt - cached), output=_count(found, "output_tokens") or 0, cache_read=cached)


def _count(holder: object, name: str) -> int | None:
    value = _field(holder, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _field(holder: object, name: str) -> object:
    if isinstance(holder, Mapping):
        return cast("Mapping[str, Any]", holder).get(name)
    return getattr(holder, name, None)
