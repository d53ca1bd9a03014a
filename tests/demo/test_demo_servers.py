"""Small demos on servers: their own, which end with them however they end, and somebody else's, on which they touch nothing."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest
from demo_player import SMALL, Played, command, play

from longwatch.testing.servers import started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE_S = 60
PRIVATE = ["--state", "postgresql", "--admission", "redis"]


def all_kept(played: Played) -> bool:
    assert played.status == 0, played.said
    assert all(promise["kept"] for promise in played.data["promises"]), played.data["promises"]
    assert played.data["tasks"]["done"] == played.data["tasks"]["submitted"] == 24
    return True


def homes(folder: Path) -> list[Path]:
    """Where the private servers of this demo live, by the addresses that it left."""
    database, cache = (urlsplit((folder / "longwatch" / f"{name}.url").read_text()) for name in ("state", "admission"))
    return [Path(parse_qs(database.query)["host"][0]), Path(cache.path).parent]


def until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, what
        time.sleep(0.05)


@pytest.mark.parametrize(
    "engines",
    [PRIVATE, ["--state", "postgresql"], ["--admission", "redis"]],
    ids=["postgresql and redis", "postgresql", "sqlite and redis"],
)
def test_every_promise_is_kept_on_servers_of_its_own(tmp_path: Path, engines: list[str]) -> None:
    assert all_kept(play(tmp_path / "out", *SMALL, *engines))
    for place in (tmp_path / "out" / "longwatch").glob("*.url"):
        found = urlsplit(place.read_text())
        assert not Path(parse_qs(found.query).get("host", [found.path])[0]).exists(), "a server was left behind"


def test_what_others_have_on_a_server_is_left_alone_and_nothing_is_left_in_redis(tmp_path: Path) -> None:
    with started(["postgresql", "redis"]) as urls:
        with psycopg.connect(urls["postgresql"]) as connection:
            connection.execute("create table thesis (page text)")
        words = ["--state", urls["postgresql"], "--admission", urls["redis"]]
        for _ in range(2):
            assert all_kept(play(tmp_path / "out", *SMALL, *words))
        with psycopg.connect(urls["postgresql"]) as connection:
            rows = connection.execute("select count(*) from longwatch_demo.task").fetchall()
            assert rows == [(24,)]
            tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        assert "thesis" in {name for (name,) in tables}
        assert keys(urls["redis"]) == 0


def keys(url: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(url.removeprefix("redis://"))
        line.sendall(b"DBSIZE\r\n")
        return int(line.recv(64).strip().lstrip(b":"))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "sigterm", "kill -9"]
)
def test_however_it_ends_no_process_and_no_folder_is_left(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "out"
    demo = subprocess.Popen(
        command(folder, *SMALL, *PRIVATE), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert demo.stderr is not None
    said = iter(demo.stderr.readline, "")
    assert any("worker" in line and "killed" in line for line in said)  # it is in the middle of its work
    left, places = psutil.Process(demo.pid).children(recursive=True), homes(folder)
    assert len(left) >= 10
    assert all(place.exists() for place in places)
    os.kill(demo.pid, number)
    demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode in (130, -signal.SIGKILL)
    until(lambda: not any(process.is_running() for process in left), "processes are left")
    until(lambda: not any(place.exists() for place in places), "folders are left")
