"""An archive in S3 is the same archive: against a real server that speaks it, on loopback."""

import itertools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from archives import Clock, made
from crash_script import clean
from moto.server import ThreadedMotoServer

from longwatch.errors import StoreUnavailable
from longwatch.store.archive import Archive, frames
from longwatch.store.archive.bucket import Bucket

prefixes = itertools.count()


@pytest.fixture(autouse=True)
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "RAW", 4 << 10)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client: Any = import_module("boto3").client("s3")  # it has no types
    client.create_bucket(Bucket="archives")
    return client


@pytest.fixture
def url(client: Any) -> str:
    return f"s3://archives/fleet-{next(prefixes)}"


def opened(url: str, cache: Path, clock: Clock | None = None) -> Archive:
    return Archive(Bucket(url, cache), clock or Clock())


def key(url: str, name: str) -> dict[str, str]:
    return {"Bucket": "archives", "Key": f"{url.rpartition('/')[2]}/segments/{name}"}


def test_everything_is_as_in_a_folder(url: str, tmp_path: Path) -> None:
    archive = opened(url, tmp_path / "cache")
    first = archive.write(made(200, seed=1), source="1")
    second = archive.write(made(100, seed=2), source="2")
    assert archive.write(made(1), source="1") == first
    assert sorted(archive.entries(second)) == sorted(made(100, seed=2))
    assert archive.find(task="task_1_7").entries == made(200, seed=1)[35:40]
    assert archive.show("call_2_7").entries == [made(100, seed=2)[7]]
    assert sum(cost.calls for cost in archive.costs()) == 300
    assert archive.verify() == []
    archive.pin(first.name)
    assert archive.redact(clean, ids=["call_1_3"], reason="asked for", who="jo").entries == 1
    archive.drop(second.name, "old")
    assert [segment.pinned for segment in archive.segments()] == [True]
    assert (len(archive.place.sizes()), archive.verify()) == (1, [])


def test_another_host_reads_it_with_nothing_but_its_address(url: str, tmp_path: Path) -> None:
    segment = opened(url, tmp_path / "here").write(made(200), source="1")
    other = opened(url, tmp_path / "there")
    assert other.segments() == [segment]
    assert other.find(task="task_1_7").entries == made(200)[35:40]
    assert other.verify() == []


def test_of_two_hosts_that_write_at_once_one_is_told_and_then_takes_it_up(url: str, tmp_path: Path) -> None:
    there = opened(url, tmp_path / "there")

    def meanwhile(mark: str) -> None:
        if mark == "archive.verified" and not there.segments():
            there.write(made(50, seed=2), source="2")

    here = opened(url, tmp_path / "here", Clock(meanwhile))
    with pytest.raises(StoreUnavailable, match="already exists"):
        here.write(made(50, seed=1), source="1")
    assert [finding.kind for finding in here.verify()] == ["unlisted"]
    here.write(made(50, seed=1), source="1")
    assert [segment.source for segment in there.segments()] == ["2", "1"]
    assert there.verify() == here.verify() == []


def test_a_move_whose_reply_was_lost_is_not_refused_when_it_is_sent_again(url: str, tmp_path: Path) -> None:
    place = Bucket(url, tmp_path / "cache")
    place.append(b"a move\n", n=1, good_bytes=0)
    place.append(b"a move\n", n=1, good_bytes=0)
    with pytest.raises(StoreUnavailable, match="already exists"):
        place.append(b"another\n", n=1, good_bytes=0)
    assert place.moves() == b"a move\n"


@pytest.mark.parametrize("kind", ["damaged", "half written", "missing", "manifest"])
def test_damage_is_found_named_and_the_rest_is_read(url: str, tmp_path: Path, client: Any, kind: str) -> None:
    archive = opened(url, tmp_path / "cache")
    victim, other = archive.write(made(200), source="1"), archive.write(made(100, seed=2), source="2")
    at = key(url, victim.name)
    data = bytearray(client.get_object(**at)["Body"].read())
    if kind == "damaged":
        data[100] ^= 1
        client.put_object(**at, Body=bytes(data))
    elif kind == "half written":
        client.put_object(**at, Body=bytes(data[: len(data) // 2]))
    elif kind == "missing":
        client.delete_object(**at)
    else:
        client.delete_object(Bucket="archives", Key=f"{url.rpartition('/')[2]}/manifest/00000001.json")
    findings = archive.verify()
    assert kind in {finding.kind for finding in findings}
    if kind != "manifest":
        assert {finding.name for finding in findings} == {victim.name}
        read = list(archive.entries(victim, damaged=lambda finding: None))
        assert len(read) == 200 - findings[0].entries
    assert len(list(archive.entries(other))) == 100
    assert len(archive.find(task="task_2_7").entries) == 5


def test_a_store_that_is_away_is_told_with_its_address(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=r"the archive s3://archives/fleet-\d+ cannot be used"):
        opened(url, tmp_path / "cache").segments()


def test_no_key_reaches_a_file(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-indeed")
    archive = opened(url, tmp_path / "cache")
    archive.write(made(10), source="1")
    archive.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]
