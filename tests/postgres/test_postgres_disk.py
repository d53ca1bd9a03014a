"""What an admission changes is on the server's disk before anybody is told of it; what changes nothing does not wait for it."""

from pathlib import Path

import psycopg
import pytest

import longwatch
from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.limiter import Limiter
from longwatch.db.postgres import dialect
from longwatch.policy.admission import Later
from longwatch.testing.postgres import Server

LAZY = ("wal_writer_delay=10s", "autovacuum=off", "bgwriter_delay=10s", "checkpoint_timeout=1h")
"""Nobody writes to the disk but who waits for it."""


@pytest.mark.parametrize(
    ("statement", "writes"),
    [
        ("call.by_id", False),
        ("tasks.ready_of_kind", False),  # it locks rows
        ("spend.open", True),  # it answers with the row
        ("call.settle_at_once", True),
        ("line.leave", True),
        ("meter.keep", True),
    ],
)
def test_what_changes_anything_is_known(statement: str, writes: bool) -> None:
    assert dialect.load(reading=False)[statement].writes is writes


def unflushed(url: str) -> int:
    """Bytes that a crash of the server would take."""
    with psycopg.connect(url, autocommit=True) as server:
        ((left,),) = server.execute("select pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()").fetchall()
        return int(left)


def asked(service: str, number: int) -> CallRequest:
    return CallRequest(f"call_{service}_{number}", f"key_{number}", service, "seo", "owner", lane="batch")


@pytest.mark.parametrize(("service", "reason"), [("paced", "rate"), ("narrow", "concurrency")])
def test_only_what_has_changed_something_waits_for_the_disk(
    own_server: Server, tmp_path: Path, service: str, reason: str
) -> None:
    own_server.end()
    own_server.launch(*LAZY)
    url = own_server.new_database()
    services = {"paced": {"rate": "1/min", "burst": 1}, "narrow": {"concurrency": 1}}
    with longwatch.open(url, config={"fleet": {"root": str(tmp_path)}, "service": services}) as lw:
        limiter: Limiter = lw.opened.parts.calls.limiter
        first = asked(service, 1)
        assert isinstance(limiter.admit(first), Admitted)
        assert unflushed(url) == 0
        limiter.lines.stand(service, [asked(service, 2)], most=1)
        left = unflushed(url)
        assert left > 0
        refused = limiter.admit(asked(service, 3))
        assert isinstance(refused, Later)
        assert refused.reason == reason
        assert unflushed(url) >= left
        limiter.settle(first.id, owner="owner")
        assert unflushed(url) == 0


def test_who_tells_again_what_was_decided_waits_for_the_disk_too(own_server: Server, tmp_path: Path) -> None:
    own_server.end()
    own_server.launch(*LAZY)
    url = own_server.new_database()
    with longwatch.open(
        url, config={"fleet": {"root": str(tmp_path)}, "service": {"narrow": {"concurrency": 1}}}
    ) as lw:
        limiter: Limiter = lw.opened.parts.calls.limiter
        with pytest.MonkeyPatch.context() as patch:  # the connection is lost behind the commit
            patch.setattr(limiter.database, "_flushes", never)
            assert isinstance(limiter.admit(asked("narrow", 1)), Admitted)
        assert unflushed(url) > 0
        assert isinstance(limiter.admit(asked("narrow", 1)), Admitted)
        assert unflushed(url) == 0


def never(*_: object) -> bool:
    return False
