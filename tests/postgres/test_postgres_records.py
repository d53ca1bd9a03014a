"""A record of memory is one row of the server's, written once: what is written twice takes twice the room in every index."""

from pathlib import Path

import psycopg

import longwatch


def test_a_record_is_written_once_and_found_by_its_words(url: str, tmp_path: Path) -> None:
    with longwatch.open(url, config={"fleet": {"root": tmp_path}}) as lw:
        memory = lw.memory("seo")
        memory.record_many({"kind": "result", "text": f"order {n} went to Leeds"} for n in range(10))
        memory.record("fact", "a van is blue")
        with psycopg.connect(url) as connection:
            places = connection.execute("select ctid::text from memory_record order by seq").fetchall()
        assert places == [(f"(0,{n})",) for n in range(1, 12)]
        assert {hit.text for hit in memory.recall("vans", limit=1)} == {"a van is blue"}
        assert memory.recall("Leeds", limit=1)[0].kind == "result"
