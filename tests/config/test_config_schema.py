"""The schema, the type of the dict form and the reader are one table of keys."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints, is_typeddict

import pytest

from longwatch.config import Config, schema
from longwatch.config.keys import Key, fields_of
from longwatch.config.settings import FileSettings

SHOP: dict[str, Any] = tomllib.loads((Path(__file__).parent / "shop.toml").read_text())
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}


def accepts(rule: Mapping[str, Any], value: Any) -> bool:
    """The part of JSON schema that ours uses."""
    kind, shape = rule.get("type"), type(value)
    return (
        (kind is None or (isinstance(value, TYPES[kind]) and not isinstance(value, bool)))
        and ("const" not in rule or value == rule["const"])
        and ("enum" not in rule or value in rule["enum"])
        and ("anyOf" not in rule or any(accepts(each, value) for each in rule["anyOf"]))
        and ("pattern" not in rule or not isinstance(value, str) or re.search(rule["pattern"], value) is not None)
        and ("minimum" not in rule or value >= rule["minimum"])
        and ("maximum" not in rule or value <= rule["maximum"])
        and ("exclusiveMinimum" not in rule or value > rule["exclusiveMinimum"])
        and (shape is not list or _accepts_list(rule, value))
        and (shape is not dict or _accepts_table(rule, value))
    )


def _accepts_list(rule: Mapping[str, Any], value: list[Any]) -> bool:
    return len(value) >= rule.get("minItems", 0) and all(accepts(rule.get("items", {}), each) for each in value)


def _accepts_table(rule: Mapping[str, Any], value: dict[str, Any]) -> bool:
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
    for settings in _settings_classes(FileSettings):
        for each in fields_of(settings).values():
            assert each.entry.doc


def test_the_type_of_the_dict_form_has_the_same_keys() -> None:
    assert _keys_of_type(Config) == _keys_of_settings(FileSettings)


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
