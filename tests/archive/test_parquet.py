"""What is exported is all that is there, as other programs read it."""

import json
from pathlib import Path

import duckdb
import pytest
from archives import file_of, flip, made, opened

from longwatch.errors import StoreUnavailable
from longwatch.store.archive import Archive, Entry, Finding, frames, parquet


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RAW", 4 << 10)
    monkeypatch.setattr(parquet, "ROWS", 50)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made_here = opened(tmp_path / "archive")
    made_here.write(made(200, seed=1), source="1")
    made_here.write(
        [*made(100, seed=2), Entry("log", "é\U0001f600", 5, "", "", b'{"text":"\\u00e9 \xc3\xa9"}')], source="2"
    )
    return made_here


def test_duckdb_finds_every_entry_with_its_time_its_sums_and_what_is_in_its_body(
    archive: Archive, tmp_path: Path
) -> None:
    paths = archive.export_parquet(tmp_path / "out")
    assert len(paths) == 2
    ask = duckdb.connect().execute
    table = f"read_parquet('{tmp_path}/out/*.parquet')"
    expected = sorted((e.id, e.at_ms, e.agent, e.body.decode()) for e in [*made(200, seed=1), *made(100, seed=2)])
    found = ask(f"select id, epoch_ms(at_utc), agent, body from {table} where kind = 'call' order by id").fetchall()
    assert sorted(found) == expected
    (total,) = ask(f"select sum(cost_micros)::bigint from {table} where currency = 'GBP'").fetchall()
    assert total == (sum(cost.cost_micros for cost in archive.costs()),)
    (log,) = ask(f"select id, task, currency, body, year(at_utc) from {table} where kind = 'log'").fetchall()
    assert log == ("é\U0001f600", None, None, '{"text":"\\u00e9 é"}', 1970)
    (n,) = ask(f"select sum((body::json ->> 'n')::int)::bigint from {table} where kind = 'call'").fetchall()
    assert n == (sum(json.loads(e.body)["n"] for e in [*made(200), *made(100)]),)


def test_a_file_says_of_which_segment_it_is_and_is_not_written_twice(archive: Archive, tmp_path: Path) -> None:
    first, *_ = archive.export_parquet(tmp_path / "out")
    told = dict(duckdb.connect().execute(f"select key, value from parquet_kv_metadata('{first}')").fetchall())
    assert told[b"longwatch.sha256"].decode() == archive.segments()[0].sha256
    before = first.stat().st_mtime_ns
    archive.write(made(20, seed=3), source="3")
    assert len(archive.export_parquet(tmp_path / "out")) == 3
    assert first.stat().st_mtime_ns == before
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


def test_what_is_damaged_is_told_of_and_the_rest_exported_or_nothing_is(archive: Archive, tmp_path: Path) -> None:
    flip(file_of(archive, archive.segments()[0]), 100)
    with pytest.raises(StoreUnavailable, match="are not what was written"):
        archive.export_parquet(tmp_path / "strict")
    assert list((tmp_path / "strict").iterdir()) == []
    told: list[Finding] = []
    paths = archive.export_parquet(tmp_path / "out", damaged=told.append)
    (left,) = duckdb.connect().execute(f"select count(*) from read_parquet('{paths[0]}')").fetchall()
    assert left[0] == 200 - told[0].entries
    assert 0 < told[0].entries < 30
