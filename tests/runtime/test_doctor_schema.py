"""What the doctor says about the schema: its number, what is pending, and who holds that back."""

import pytest

from longwatch.db.statements import Migration
from longwatch.runtime.doctor import examine_schema
from longwatch.store.workers import Enrolled

KNOWN = [Migration(6, "more", ""), Migration(100, "no_line", "")]


def worker(pid: int, schema: int) -> Enrolled:
    return Enrolled(f"w{pid}", "seo", pid, 1, "boot", None, 0, 0, schema)


@pytest.mark.parametrize(
    ("found", "alive", "level", "words", "hint"),
    [
        (100, [], "ok", "schema 100, no migration is pending", ""),
        (100, [worker(1, 100)], "ok", "schema 100", ""),
        (6, [], "notice", "schema 6, pending: 100 no_line", "longwatch state migrate applies it"),
        (6, [worker(1, 100)], "notice", "pending: 100 no_line", "longwatch state migrate applies it"),
        (
            6,
            [worker(1, 100), worker(2, 6)],
            "notice",
            "1 workers of older code hold that back: processes 2 (agent",
            "Upg",
        ),
        (101, [], "notice", "ahead of this Longwatch, which knows up to 100", "pip install --upgrade"),
    ],
)
def test_the_doctor_tells_how_an_upgrade_stands(
    found: int, alive: list[Enrolled], level: str, words: str, hint: str
) -> None:
    finding = examine_schema(found, KNOWN, alive)
    assert (finding.check, finding.level) == ("schema", level)
    assert words in finding.message
    assert finding.hint.startswith(hint) or hint in finding.hint
