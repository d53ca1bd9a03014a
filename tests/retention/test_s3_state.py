"""A fleet whose archive is a bucket, used as its owner uses it: nothing is lost, and nothing waits, whatever the store does."""

import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import longwatch
from longwatch import Longwatch, Run, StoreUnavailable
from longwatch.policy.retention import Close
from longwatch.runtime import archive as archiving
from longwatch.runtime.archive import Archives
from longwatch.surface.cli import root
from longwatch.surface.cli_base import run
from longwatch.testing.postgres import shared

sys.path.insert(0, str(Path(__file__).parent))
from buckets import Store
from deaths import MARKS, SCRIPT, archive, config_of, places, survives
from dying_archivist import fill, remember

NOW = Close(0)
EACH = pytest.mark.parametrize("place", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True)
TO = "s3://archives/shop"


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    store = Store()
    yield store
    store.go_away()


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Generator[Store]:
    """Well, with one empty bucket."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    client = server.client()
    client.create_bucket(Bucket=server.name)
    yield server
    server.come_back()
    for found in client.list_objects_v2(Bucket=server.name).get("Contents", []):
        client.delete_object(Bucket=server.name, Key=found["Key"])


@pytest.fixture
def config(store: Store, tmp_path: Path) -> longwatch.Config:
    return config_of(tmp_path, TO)


@pytest.fixture
def lw(place: str, config: longwatch.Config) -> Generator[Longwatch]:
    with longwatch.open(place, config=config) as fleet:
        yield fleet


@pytest.fixture
def archives(lw: Longwatch) -> Archives:
    return archives_of(lw)


def archives_of(lw: Longwatch) -> Archives:
    found = lw.opened.parts.archives
    assert found is not None
    return found


def bill(lw: Longwatch, *keys: str) -> list[str]:
    """Tasks that have ended, and no round of the archive going on beside them."""
    tasks = work(lw, *keys)
    archives_of(lw).rest()
    return tasks


def work(lw: Longwatch, *keys: str) -> list[str]:
    @lw.task("bill")
    def one(run: Run) -> int:
        with run.call("api", budget="growth", money="0.02 USD"):
            pass
        return 1

    tasks = [lw.submit("bill", key=key).id for key in keys]
    assert lw.work(until_idle=True).failed == 0
    return tasks


def kept(archives: Archives) -> list[str]:
    return [entry.id for segment in archives.segments() for entry in archives.archive.entries(segment)]


class Answer(NamedTuple):
    status: int
    data: dict[str, Any]


@pytest.fixture
def say(
    place: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Say":
    """The command line, in a folder with a config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LONGWATCH_STATE", place)
    text = f'[fleet]\nname = "shop"\n[archive]\nto = "{TO}"\nroom = "1 B"\n[service.api]\nprice = "0.01 USD"\n'
    (tmp_path / "longwatch.toml").write_text(text + '[budget.growth]\nmoney = "50 USD/month"\n[budget.main]\n')
    return Say(capsys)


class Say:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, status: int = 0) -> dict[str, Any]:
        ended = run(root, [*words, "--json"])
        out = self._capsys.readouterr()
        assert ended == status, out
        answer: dict[str, Any] = json.loads(out.out)
        return answer

    def error(self, *words: str) -> tuple[str, str]:
        found = self(*words, status=1)["error"]
        assert found["code"] == "store_unavailable"
        return found["message"], found["hint"]


def finding(answer: dict[str, Any]) -> dict[str, str]:
    found: list[dict[str, str]] = [each for each in answer["checks"] if each["check"] == "archive"]
    assert len(found) == 1
    return found[0]


def test_an_archive_in_a_bucket_is_used_like_any_other(say: Say, tmp_path: Path) -> None:
    with longwatch.open() as lw:
        ids = bill(lw, "a", "b", "c")
        memory = lw.memory("seo")
        memory.record_many({"kind": "result", "text": f"order {n} went to Leeds"} for n in range(60))
        memory.compact(everything=True)
        memory.record("lesson", "the newest stays")
    assert len(say("archive", "now", "--older", "1ms")["segments"]) == 3
    segments = say("archive", "list")["segments"]
    assert [each["source"].partition("/")[0] for each in segments] == ["tasks", "journal", "records"]
    assert say("archive", "find", "bill", "--kind", "task")["entries"][0]["id"] == ids[0]
    assert {each["kind"] for each in say("archive", "show", ids[1])["entries"]} == {"task", "call", "journal"}
    assert say("archive", "verify") == {"segments": 3, "problems": []}
    assert say("archive", "restore", ids[0], "--yes")["restored"] == [ids[0]]
    assert len(say("archive", "export", str(tmp_path / "parquet"))["files"]) == 3
    with longwatch.open() as lw:
        assert bill(lw, "a", "b")[1] == ids[1]
        assert lw.wait(ids[1]).result == 1
        hits = lw.memory("seo").recall("order 3 Leeds", archive=True, limit=60)
        assert "order 3 went to Leeds" in {hit.text for hit in hits}
        assert lw.memory("seo").verify(whole=True) == ()
    journal = segments[1]["name"]
    assert say("archive", "pin", segments[0]["name"])["pinned"]
    assert say("archive", "drop", journal, "--yes")["dropped"] == [journal]
    assert journal not in {each["name"] for each in say("archive", "list")["segments"]}


@EACH
def test_what_somebody_did_to_the_bucket_is_named_and_the_rest_is_read(say: Say, store: Store) -> None:
    with longwatch.open() as lw:
        ids = bill(lw, "a", "b", "c")
        archives_of(lw).round(NOW)
        later = bill(lw, "d", "e")
        archives_of(lw).round(NOW)
    tasks, journal = [each["name"] for each in say("archive", "list")["segments"]][:2]
    client, at = store.client(), {"Bucket": store.name}
    client.delete_object(**at, Key=f"shop/segments/{journal}")
    damaged = bytearray(client.get_object(**at, Key=f"shop/segments/{tasks}")["Body"].read())
    damaged[40] ^= 1
    client.put_object(**at, Key=f"shop/segments/{tasks}", Body=bytes(damaged))
    problems = say("archive", "verify", status=3)["problems"]
    assert {each["segment"]: each["kind"] for each in problems} == {tasks: "damaged", journal: "missing"}
    found = say("archive", "find", "bill", "--kind", "task")
    assert {each["id"] for each in found["entries"]} == {ids[2], later[0]}
    assert {each["segment"] for each in found["unread"]} == {tasks}
    assert say("archive", "show", later[0])["entries"]


@EACH
def test_who_may_not_and_what_is_not_there_is_told(say: Say, store: Store, tmp_path: Path) -> None:
    with longwatch.open() as lw:
        bill(lw, "a", "b")
    store.mood = "denied"
    message, hint = say.error("archive", "now", "--older", "1ms")
    assert "403 Forbidden (InvalidAccessKeyId: The AWS Access Key Id you provided does not exist.)" in message
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in hint
    assert finding(say("doctor", status=1)) == {"check": "archive", "level": "wrong", "message": message, "hint": hint}
    store.mood = "well"
    file = tmp_path / "longwatch.toml"
    file.write_text(file.read_text().replace("s3://archives", "s3://nowhere"))
    message, hint = say.error("archive", "list")
    assert message == f"the archive s3://nowhere/shop cannot be used: there is no bucket nowhere at {store.address}"
    assert hint.startswith("Make the bucket, or correct [archive] to.")
    assert say("status")["tasks"]["done"] == 2


def test_work_goes_on_while_the_store_is_away_and_it_is_told(
    say: Say, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with longwatch.open() as lw:
        archives = archives_of(lw)
        ids = bill(lw, "a", "b")
        archives.rules = archives.rules._replace(every_ms=0)
        store.go_away()
        assert archives.step()
        ids += bill(lw, "c")
        assert archives.failure is not None
        assert [lw.get(each).state for each in ids] == ["done"] * 3  # all are hot
        why = f"{TO} cannot be used: {store.address} cannot be reached, asked 6 times in"
        assert why in say("status")["archive"]["error"]
        checked = finding(say("doctor", status=1))
        assert (checked["level"], why in checked["message"]) == ("wrong", True)
        assert "workers try again by themselves" in checked["hint"]
        archives._again_ms = 0  # pyright: ignore[reportPrivateUsage]
        assert archives.step()
        archives.rest()
        told = [each for each in lw.opened.parts.journal.latest(subject="archive") if each.kind == "archive.failed"]
        assert len(told) == 1, "once an hour"
        store.come_back()
        archives._again_ms = 0  # pyright: ignore[reportPrivateUsage]
        assert archives.step()
        archives.rest()
        assert archives.archivists.hot().tasks == 1
        assert say("status")["archive"]["error"] is None
        assert finding(say("doctor"))["message"].startswith("2 segments")


@EACH
def test_another_reason_is_news_within_the_hour(place: str, config: longwatch.Config) -> None:
    with longwatch.open(place, config=config) as lw:
        archivists = archives_of(lw).archivists
        for why, hint in (("away, asked 6 times", "a"), ("away, asked 7 times", "a"), ("the key is not taken", "b")):
            archivists.failed(why, hint=hint, again_ms=3_600_000)
        told = [each for each in lw.opened.parts.journal.latest(subject="archive") if each.kind == "archive.failed"]
        failing = archivists.failing()
        assert failing is not None
        assert (failing.why, len(told)) == ("the key is not taken", 2)
        fence = archivists.take("somebody", lease_ms=1_000)
        assert fence is not None
        time.sleep(0.002)
        archivists.close(fence)
        assert archivists.failing() is None


@EACH
def test_work_does_not_wait_for_a_store_that_does_not_answer_nor_does_its_end(
    place: str, config: longwatch.Config, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "CLOSES_S", 0.1)
    lw = longwatch.open(place, config=config)
    archives = archives_of(lw)
    bill(lw, "a", "b")
    archives.rules = archives.rules._replace(every_ms=0)
    store.requests.clear()
    store.hang()
    began = time.monotonic()
    assert archives.step()
    while not store.requests and time.monotonic() - began < 20:
        time.sleep(0.01)
    assert store.requests == ["GET /archives"]
    work(lw, "c", "d")
    assert archives._working.is_set()  # pyright: ignore[reportPrivateUsage]
    lw.close()
    assert time.monotonic() - began < 30, "a request may take twice that"
    store.come_back()
    archives.rest()
    with longwatch.open(place, config=config) as again:
        assert archives_of(again).archivists.hot().tasks == 4


@EACH
@pytest.mark.parametrize(
    ("fails", "done"),
    [
        ("PUT segments", False),
        ("GET segments", False),
        ("PUT manifest", True),
        *(
            pytest.param(fails, done, marks=pytest.mark.slow)
            for fails, done in (("PUT segments", True), ("PUT manifest", False), ("GET manifest", False))
        ),
    ],
)
def test_a_store_that_breaks_in_the_middle_loses_nothing(
    lw: Longwatch, archives: Archives, store: Store, fails: str, done: bool
) -> None:
    ids = bill(lw, "a", "b", "c")
    store.fails, store.done = fails, done
    with pytest.raises(StoreUnavailable, match="500 Internal Server Error"):
        archives.round(NOW)
    assert [lw.get(each).state for each in ids] == ["done"] * 3, "no row is dropped that is not in a verified segment"
    store.come_back()
    archives.round(NOW)
    assert archives.archivists.hot().tasks == 1
    found = kept(archives)
    assert len(found) == len(set(found))
    assert set(ids[:2]) <= set(found)
    assert archives.archive.verify() == []
    assert archives.archivists.begun() == []


@EACH
def test_the_side_index_outlives_an_absence(lw: Longwatch, archives: Archives, store: Store) -> None:
    ids = bill(lw, "a", "b", "c")
    archives.round(NOW)
    assert archives.archive.show(ids[0]).entries
    store.mood = "broken"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="answers 500"):
            archives.archive.show(ids[0])
    store.come_back()
    store.requests.clear()
    assert archives.archive.show(ids[0]).entries
    read = [each for each in store.requests if each.startswith("GET") and "segments" in each]
    assert len(read) == 2, "the frames that have the task, and no segment whole"


@EACH
def test_no_segment_is_shed_where_that_makes_no_room(lw: Longwatch, archives: Archives, store: Store) -> None:
    bill(lw, "a", "b", "c")
    archives.rules = archives.rules._replace(shed="archive", room=1 << 60)
    made = archives.round(NOW)
    assert (len(made.segments), made.freed) == (2, ())
    assert len(archives.segments()) == 2


@pytest.mark.parametrize(("engine", "mark"), [("sqlite", "published"), ("postgres", "listed")])
def test_whoever_is_killed_while_archiving_to_a_bucket_loses_nothing(
    store: Store, tmp_path: Path, engine: str, mark: str
) -> None:
    killed(engine, tmp_path, mark)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize("mark", MARKS)
def test_whoever_is_killed_at_any_step_to_a_bucket_loses_nothing(
    store: Store, tmp_path: Path, engine: str, mark: str
) -> None:
    killed(engine, tmp_path, mark)


def killed(engine: str, folder: Path, mark: str) -> None:
    state = str(folder / "state.db") if engine == "sqlite" else shared().new_database()
    config = config_of(folder, TO)
    try:
        fill(state, config)
        survives(state, config, places(state, config).hot, mark, 1)
    finally:
        if engine == "postgres":
            shared().drop(state)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_fleets_archive_into_one_place_of_a_bucket_at_once(store: Store, tmp_path: Path) -> None:
    """Processes of two hosts, as far as the store can see: nothing that one has on its disk is known to the other."""
    configs: list[longwatch.Config] = []
    states: list[str] = []
    for n in range(2):
        folder = tmp_path / str(n)
        folder.mkdir()
        configs.append(config_of(folder, TO))
        states.append(str(folder / "state.db"))
        fill(states[n], configs[n], 10 + n)
        remember(states[n], configs[n])
    every = [places(state, config).hot for state, config in zip(states, configs, strict=True)]
    refused = 0
    for _ in range(6):
        going = [
            subprocess.Popen([sys.executable, str(SCRIPT), state, json.dumps(config), "", "0"], stderr=subprocess.PIPE)
            for state, config in zip(states, configs, strict=True)
        ]
        ended = [process.communicate(timeout=100) for process in going]
        for process, (_, said) in zip(going, ended, strict=True):
            refused += process.returncode != 0
            assert process.returncode == 0 or b"at the same time" in said, said
        if not any(process.returncode for process in going):
            break
    print(f"{refused} refused")  # noqa: T201
    for n, (state, config) in enumerate(zip(states, configs, strict=True)):
        assert archive(state, config) is not None
        found = places(state, config)
        assert every[n] <= found.hot | set(found.archived)
        assert sum(name.startswith("task_") for name in found.hot) == 1
        tasks = [name for name in found.archived if name.startswith(("task_", "call_", "rec_"))]
        assert len(tasks) == len(set(tasks)), "nothing twice"
