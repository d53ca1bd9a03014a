"""The JSON schema of longwatch.toml, made from the table of keys, by which editors complete and check the file."""

from longwatch.config.forms import Schema
from longwatch.config.keys import Field, Key, Table, fields_of
from longwatch.config.settings import FileSettings


def schema() -> Schema:
    """JSON schema, draft 2020-12. It refuses what `load` refuses, except for what only all keys together can tell."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "longwatch.toml",
        **_section(FileSettings),
    }


def _section(settings: type) -> Schema:
    return {
        "type": "object",
        "properties": {each.entry.name: _entry(each) for each in fields_of(settings).values()},
        "additionalProperties": False,
    }


def _entry(each: Field) -> Schema:
    entry = each.entry
    if isinstance(entry, Key):
        default = {} if entry.default is None else {"default": entry.default}
        return {**entry.form.schema, "description": entry.doc, **default}
    if isinstance(entry, Table):
        return {**_section(each.kind), "description": entry.doc}
    return {
        "type": "object",
        "propertyNames": entry.names.schema,
        "additionalProperties": _section(each.kind),
        "description": entry.doc,
    }
