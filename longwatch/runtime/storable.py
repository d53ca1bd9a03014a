"""Arguments and results as JSON, and back to what the annotation says.

Dataclasses, TypedDicts, msgspec and pydantic models, datetimes and Decimals are stored as JSON and rebuilt. What a step
returns on its first run goes through the same rebuilding as on a retry, so that both see the same value.
"""

import hashlib
import inspect
import math
import typing
from collections.abc import Callable
from typing import Any, cast

import msgspec

from longwatch.errors import NotStorable

PAYLOAD_MAX = 1 << 20  # bytes of JSON


def to_json(value: object, *, what: str, most: int = PAYLOAD_MAX) -> str:
    """The value as JSON text. what: names it in errors ("result of step 'charge'"). Errors: NotStorable, with the path."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise _not_storable(value, what, str(error)) from error
    if len(encoded) > most:
        raise NotStorable(
            f"{what} is {len(encoded):,} bytes of JSON, at most {most:,} are kept",
            hint="Write it to a file and return its path, or raise [fleet] payload.",
        )
    if b"null" in encoded and (path := _nan(value, "")) is not None:
        raise _not_storable(value, what, f"{path or 'it'} is not a finite number")
    return encoded.decode()


def from_json(text: str, annotation: object = Any) -> Any:
    """The value rebuilt as the annotation says; without one (or one JSON cannot follow), plain JSON values."""
    try:
        return msgspec.json.decode(text, type=cast("type[Any]", annotation), dec_hook=_model)
    except (TypeError, msgspec.ValidationError):
        return msgspec.json.decode(text)


def rebuild(value: object, annotation: object) -> Any:
    """As `from_json`, for a value that is plain JSON already."""
    try:
        return msgspec.convert(value, type=cast("type[Any]", annotation), dec_hook=_model)
    except (TypeError, msgspec.ValidationError):
        return value


def canonical(value: object, *, what: str, most: int = PAYLOAD_MAX) -> str:
    """As `to_json`, with sorted keys: two equal values give the same text."""
    plain = msgspec.json.decode(to_json(value, what=what, most=most))
    return msgspec.json.encode(plain, order="sorted").decode()


def digest(text: str) -> str:
    """A short name for a text: equal texts, and in practice only those, have the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def annotations(function: Callable[..., object]) -> dict[str, Any]:
    """Parameter and return annotations as types; what cannot be resolved is left out."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        found = getattr(function, "__annotations__", {})
        return {name: kind for name, kind in found.items() if not isinstance(kind, str)}


def result_type(function: Callable[..., object]) -> Any:
    """What the function says it returns; Any when it does not say."""
    target = inspect.unwrap(function)
    returned = getattr(target, "__annotations__", {}).get("return", Any)
    return returned if returned is Any or isinstance(returned, type) else annotations(target).get("return", Any)


def _plain(value: object) -> object:
    """What msgspec does not know: pydantic models by their own dump."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _model(kind: type, value: object) -> object:
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return validate(value)
    raise TypeError(f"{kind.__name__} has no JSON form")


def _nan(value: object, path: str) -> str | None:
    """The path of a float that JSON has no word for; None: there is none. Looks into lists and dictionaries only."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    return next((found for inner, name in _children(value) if (found := _nan(inner, path + name)) is not None), None)


def _culprit(value: object, path: str) -> str:
    """The path of the innermost value that cannot be encoded."""
    for inner, name in _children(value):
        try:
            msgspec.json.encode(inner, enc_hook=_plain)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
            return _culprit(inner, path + name)
    return f"{path or 'it'} is a {type(value).__name__}"


def _children(value: object) -> list[tuple[object, str]]:
    if isinstance(value, dict):
        return [(inner, f"[{key!r}]") for key, inner in cast("dict[object, object]", value).items()]
    if isinstance(value, list | tuple):
        return [(inner, f"[{place}]") for place, inner in enumerate(cast("list[object]", value))]
    return []


def _not_storable(value: object, what: str, reason: str) -> NotStorable:
    try:
        where = _culprit(value, "")
    except RecursionError:
        where = "it refers to itself"
    return NotStorable(
        f"{what} cannot be kept as JSON: {where} ({reason})",
        hint="Return plain values, dataclasses, TypedDicts, msgspec or pydantic models, datetimes or Decimals.",
    )
