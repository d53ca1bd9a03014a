"""The schema, the type of the dict form and the reader are one table of keys."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints, is_typeddict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatch.config import Config, load, schema
from longwatch.config.keys import Key, Table, fields_of
from longwatch.config.lines import KeyPath, dotted
from longwatch.config.settings import FileSettings
from longwatch.errors import ConfigError

SHOP: dict[str, Any] = tomllib.loads((Path(__file__).parent / "shop.toml").read_text())
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}


def accepts(rule: Mapping[str, Any], value: Any) -> bool:
    """The part of JSON schema that ours uses."""
    kind = rule.get("type")
    return (
        (kind is None or (isinstance(value, TYPES[kind]) and not isinstance(value, bool)))
        and ("const" not in rule or value == rule["const"])
        and ("enum" not in rule or value in rule["enum"])
        and ("anyOf" not in rule or any(accepts(each, value) for each in rule["anyOf"]))
        and ("pattern" not in rule or not isinstance(value, str) or re.search(rule["pattern"], value) is not None)
        and ("minimum" not in rule or value >= rule["minimum"])
        and ("maximum" not in rule or value <= rule["maximum"])
        and ("exclusiveMinimum" not in rule or value > rule["exclusiveMinimum"])
        and _accepts_list(rule, value)
        and _accepts_table(rule, value)
    )


def _accepts_list(rule: Mapping[str, Any], value: Any) -> bool:
    if type(value).__name__ != "list":
        return True
    return len(value) >= rule.get("minItems", 0) and all(accepts(rule.get("items", {}), each) for each in value)


def _accepts_table(rule: Mapping[str, Any], value: Any) -> bool:
    if type(value).__name__ != "dict":
        return True
    more = rule.get("additionalProperties", True)
    named = rule.get("properties", {})
    return (
        rule.get("minProperties", 0) <= len(value) <= rule.get("maxProperties", len(value))
        and all(accepts(rule.get("propertyNames", {}), name) for name in value)
        and all(
            accepts(named[name], each) if name in named else more is True or (more is not False and accepts(more, each))
            for name, each in value.items()
        )
    )


def test_the_schema_accepts_the_example() -> None:
    assert accepts(schema(), SHOP)


@pytest.mark.parametrize(
    "document",
    [
        {"servce": {}},
        {"service": {"stripe": {"rates": "25/s"}}},
        {"service": {"stripe": {"rate": "25 per s"}}},
        {"service": {"stripe": {"rate": {"tokens": "25/s"}}}},
        {"service": {"stripe": {"key": "anything"}}},
        {"service": {"stripe": {"key": {"evn": "X"}}}},
        {"service": {"str ipe": {}}},
        {"fleet": {"money": 50.0}},
        {"fleet": {"money": "50 GBP"}},
        {"fleet": {"lease": 60}},
        {"agent": {"a": {"processes": 0}}},
        {"agent": {"a": {"overlap": "queu"}}},
        {"budget": {"b": {"warn": [80]}}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(document: dict[str, Any]) -> None:
    assert not accepts(schema(), document)


def test_the_schema_is_json_and_describes_every_key() -> None:
    assert json.loads(json.dumps(schema())) == schema()
    for section in _settings_classes(FileSettings):
        for each in fields_of(section).values():
            assert each.entry.doc


def test_the_type_of_the_dict_form_has_the_same_keys() -> None:
    assert _keys_of_type(Config) == _keys_of_settings(FileSettings)


GARBAGE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.dates(),
        st.text(max_size=12),
        st.sampled_from(
            ["5/s", "5 USD/day", "10m", "1 MiB", "client", "a:b", "env", "* * * * *", "file:", "~", "[::1]:1", "s3://"]
        ),
    ),
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.sampled_from(["env", "file", "requests", "USD", "x", ""]), below, max_size=2),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_a_key_holds_is_taken_or_refused_with_its_place(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(_all_keys(FileSettings, ()))))
    document: Any = data.draw(GARBAGE)
    for name in reversed(path):
        document = {name: document}
    refusal = _refusal(cast("dict[str, object]", document))
    assert refusal is None or refusal.message.startswith(f"config: {dotted(path)}")
    assert refusal is None or refusal.hint


def _refusal(document: dict[str, object]) -> ConfigError | None:
    try:
        load(document, environ={}, cwd=Path.cwd())
    except ConfigError as error:
        return error
    return None


def _all_keys(settings: type, above: KeyPath) -> Iterator[KeyPath]:
    """The path of every key, in sections that are called x."""
    for each in fields_of(settings).values():
        path = (*above, each.entry.name)
        if isinstance(each.entry, Key):
            yield path
        else:
            yield from _all_keys(each.kind, path if isinstance(each.entry, Table) else (*path, "x"))


def _settings_classes(settings: type) -> list[type]:
    below = [each.kind for each in fields_of(settings).values() if not isinstance(each.entry, Key)]
    return [settings, *(found for kind in below for found in _settings_classes(kind))]


def _keys_of_settings(settings: type) -> dict[str, Any]:
    return {
        each.entry.name: None if isinstance(each.entry, Key) else _keys_of_settings(each.kind)
        for each in fields_of(settings).values()
    }


def _keys_of_type(hint: Any) -> dict[str, Any]:
    return {name: _below(each) for name, each in get_type_hints(hint).items()}


def _below(hint: Any) -> dict[str, Any] | None:
    """The keys of a section, or of each section in a dict of them; None for a value."""
    inner = hint.__args__[1] if getattr(hint, "__origin__", None) is dict else hint
    return _keys_of_type(inner) if is_typeddict(inner) else None
