"""A fleet on PostgreSQL, from outside: workers killed, doorbells heard, the command line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
import warm

import longwatch
from longwatch import Run
from longwatch.runtime.worker import Worker
from longwatch.testing.postgres import VERSION, Server

SCRIPT = Path(__file__).with_name("fleet_script.py")
PATIENCE_S = 60


@pytest.fixture
def lw(url: str, tmp_path: Path) -> Generator[longwatch.Longwatch]:
    with longwatch.open(url, config={"fleet": {"root": str(tmp_path)}, "service": {"api": {"rate": "1000/s"}}}) as made:
        yield made


def test_workers_are_killed_and_every_task_is_done_once(url: str, tmp_path: Path) -> None:
    amount, kills = 400, 6
    environment = os.environ | {"DATABASE_URL": url, "FLEET_ROOT": str(tmp_path)}
    command = [sys.executable, str(SCRIPT), str(amount), "4"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as fleet:
        killed = 0
        while fleet.poll() is None and killed < kills:
            written = (tmp_path / "trace").read_text().split("\n") if (tmp_path / "trace").exists() else []
            if len(written) > 15 * (killed + 1):
                workers = [child.pid for child in psutil.Process(fleet.pid).children()]
                last = int(written[-2].split()[1])
                if last in workers:
                    os.kill(last, signal.SIGKILL)
                    killed += 1
            time.sleep(0.01)
        said, _ = fleet.communicate(timeout=PATIENCE_S)
    assert killed == kills
    assert said.split()[1:] == ["0", "True"]
    with longwatch.open(url, config={"fleet": {"root": str(tmp_path)}}) as lw:
        with lw.opened.parts.database.read() as tx:
            assert {row.state: row.tasks for row in tx.all("look.counts")} == {"done": amount}
        assert len(lw.opened.parts.journal.latest(limit=10_000, kind="task.done")) == amount


def test_an_idle_worker_starts_a_task_within_fifty_milliseconds(lw: longwatch.Longwatch) -> None:
    started: dict[int, float] = {}

    @lw.task()
    def note(run: Run, number: int) -> None:
        started[number] = time.monotonic()

    parts = lw.opened.parts
    worker = Worker(parts, lw.opened.registry, owner=parts.world.new_id("worker"))
    thread = threading.Thread(target=lambda: worker.work(until_idle=False))
    thread.start()
    took_ms: list[float] = []
    try:
        for number in range(12):
            time.sleep(0.13)  # at different places of its own sweep of a second
            submitted = time.monotonic()
            lw.submit(note.bind(number))
            until = submitted + PATIENCE_S
            while number not in started and time.monotonic() < until:
                time.sleep(0.001)
            took_ms.append((started[number] - submitted) * 1000)
    finally:
        worker.ask_to_stop()
        thread.join(10)
    assert sorted(took_ms)[len(took_ms) // 2] < 50, took_ms


def test_a_ring_wakes_as_many_as_there_are_tasks(lw: longwatch.Longwatch) -> None:
    bells = lw.opened.parts.bells
    assert bells is not None
    assert bells.ring(most=5) == 0
    hung = [bells.hang(f"owner{number}") for number in range(3)]
    assert bells.ring(most=2) == 2
    rung = lw.opened.parts.sleeper.wait_readable(
        [bell.descriptor for bell in hung if bell], lw.opened.parts.steady_ms() + 5_000
    )
    assert rung
    for bell in hung:
        assert bell is not None
        bell.heed()
        bell.silence()
    assert bells.ring(most=5) == 0


def test_calls_leases_edits_and_reads_work(lw: longwatch.Longwatch, tmp_path: Path) -> None:
    with lw.call("api") as call:
        call.settle()
    with lw.lease("name:deploy") as lease:
        assert lease.fence > 0
        lease.check()
    with lw.edit("a.json", "b.json") as edit:
        edit.write_json("a.json", {"n": 1})
        edit.write_json("b.json", [1])
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
    with lw.edit("a.json") as edit:
        assert edit.read_json("a.json", default={}) == {"n": 1}


def told(*arguments: str, code: int = 0, **environment: str) -> str:
    command = [sys.executable, "-m", "longwatch", *arguments]
    done = warm.run(command, env=os.environ | environment, timeout=PATIENCE_S)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_command_line_looks_at_the_state(server: Server, url: str, tmp_path: Path) -> None:
    secret = "hunter22secret"
    shown = url.replace("postgres@", f"postgres:{secret}@")
    with longwatch.open(url, config={"fleet": {"root": str(tmp_path)}}) as lw:
        lw.task("note")(lambda run: None)
        lw.submit("note", {}, key="one")
    (tmp_path / "longwatch.toml").write_text('[fleet]\nname = "shop"\nstate = { env = "DATABASE_URL" }\n')
    config = ("--config", str(tmp_path / "longwatch.toml"))
    said = [
        told(*config, "status", DATABASE_URL=shown),
        told(*config, "doctor", DATABASE_URL=shown),
        told(*config, "task", "list", DATABASE_URL=shown),
        told(*config, "journal", DATABASE_URL=shown),
        told(*config, "config", "show", DATABASE_URL=shown),
        told(*config, "state", "backup", str(tmp_path / "copy"), code=2, DATABASE_URL=shown),
        told(*config, "state", "restore", str(tmp_path / "copy"), code=2, DATABASE_URL=shown),
        told(*config, "status", code=1, DATABASE_URL=shown.replace("state_", "none_")),
        told(*config, "doctor", code=1, DATABASE_URL=shown.replace("state_", "none_")),
    ]
    assert secret not in "".join(said)
    assert f"PostgreSQL {VERSION}" in said[1]
    assert "pg_dump" in said[5]
    assert "pg_restore" in said[6]
    assert "there is no such database" in said[7]


def test_without_the_driver_the_hint_says_how_to_get_it(url: str) -> None:
    code = f"import sys; sys.modules['psycopg'] = None; import longwatch; longwatch.open({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "pip install 'longwatch[postgres]'" in done.stderr
