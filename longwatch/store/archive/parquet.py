"""Segments as Parquet, for DuckDB, pandas and whatever reads it: a file for each, with the body as JSON text.

A file is written under a name of its own, synced and renamed, so that one with its final name is whole. It carries the
name and hash of its segment; one that is there is not written again. What is dropped or redacted later stays in what was
exported before.

pyarrow, and not DuckDB: it writes batch by batch while the segment is read, with its checksums looked at and damage told of,
in little memory. A reader needs neither.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatch.errors import ConfigError, StoreUnavailable
from longwatch.store.archive.entry import Entry, entries_of
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.manifest import Segment
from longwatch.store.archive.places import Place, sync_folder
from longwatch.store.archive.reading import Part, parts_of

ROWS = 32_768  # in a batch: some tens of MB in memory
COLUMNS = ("kind", "id", "at_utc", "agent", "task", "cost_micros", "currency", "error", "body")

Damage = Callable[[Finding], None]


def export_parquet(place: Place, segments: Iterable[Segment], to: Path, damaged: Damage | None) -> list[Path]:
    """A file for each, in the folder `to`, which is made if it is not there; their paths.

    damaged: told of each part that cannot be read; what can be is exported. Without it: StoreUnavailable.
    Errors: ConfigError without the extra `parquet`.
    """
    arrow = _arrow()
    try:
        to.mkdir(parents=True, exist_ok=True)
        return [_export(arrow, place, segment, to, damaged) for segment in segments]
    except StoreUnavailable:
        raise
    except OSError as error:
        raise StoreUnavailable(f"{to} cannot be written: {error.strerror or error}") from error


def _arrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as error:
        hint = 'Install the extra: pip install "longwatch[parquet]".'
        raise ConfigError("exporting to Parquet needs pyarrow, which is not installed", hint=hint) from error


def _export(arrow: Any, place: Place, segment: Segment, to: Path, damaged: Damage | None) -> Path:
    path = to / f"{segment.name.partition('.')[0]}.parquet"
    schema = _schema(arrow, segment)
    if path.exists():
        return path
    draft = path.with_suffix(".draft")
    writer = arrow.parquet.ParquetWriter(draft, schema, compression="zstd")
    try:
        rows: list[Entry] = []
        for part in parts_of(place, segment):
            if isinstance(part, Part):
                rows += entries_of(part.raw)
            elif damaged is None:
                raise StoreUnavailable(f"{segment.name}: {part.what}", hint="longwatch archive verify names all of it.")
            else:
                damaged(part)
            if len(rows) >= ROWS:
                writer.write_batch(_batch(arrow, schema, rows))
                rows = []
        if rows:
            writer.write_batch(_batch(arrow, schema, rows))
        writer.close()
        _publish(draft, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    return path


def _schema(arrow: Any, segment: Segment) -> Any:
    text, names = arrow.string(), arrow.dictionary(arrow.int32(), arrow.string())
    types = (names, text, arrow.timestamp("ms", tz="UTC"), names, text, arrow.int64(), names, arrow.bool_(), text)
    told = {"longwatch.segment": segment.name, "longwatch.sha256": segment.sha256, "longwatch.source": segment.source}
    return arrow.schema(list(zip(COLUMNS, types, strict=True)), metadata=told)


def _batch(arrow: Any, schema: Any, rows: list[Entry]) -> Any:
    columns: list[list[object]] = [
        [row.kind for row in rows],
        [row.id for row in rows],
        [row.at_ms for row in rows],
        [row.agent for row in rows],
        [row.task or None for row in rows],
        [row.cost_micros for row in rows],
        [row.currency or None for row in rows],
        [row.error for row in rows],
        [row.body.decode() for row in rows],
    ]
    arrays = [arrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return arrow.RecordBatch.from_arrays(arrays, schema=schema)


def _publish(draft: Path, path: Path) -> None:
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(draft, path)
    sync_folder(path.parent)
