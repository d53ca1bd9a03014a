"""A state is copied while its fleet runs, and put back so that nothing of the lost time can happen twice."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Said, Shell, shop

STATE = ".longwatch/longwatch.db"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "shop"
    folder.mkdir()
    shop(folder)
    return folder


@pytest.fixture
def shell(made: Path, tmp_path: Path) -> Shell:
    """A fleet of its own for each test."""
    return Shell(Path(shutil.copytree(made, tmp_path / "shop")))


def submit(shell: Shell, *words: str) -> str:
    said = shell("task", "submit", *words, "--json")
    assert said.status == 0, said
    return str(said.json["id"])


def state_of(shell: Shell, task: str) -> str:
    return str(shell("task", "show", task, "--json").json["state"])


def backup(shell: Shell, name: str = "copy.db") -> Said:
    said = shell("state", "backup", name, "--json")
    assert said.status == 0, said
    return said


def restore(shell: Shell, name: str = "copy.db") -> Said:
    said = shell("state", "restore", name, "--yes", "--json")
    assert said.status == 0, said
    return said


def start_slow(shell: Shell) -> "subprocess.Popen[str]":
    """A worker in the middle of a task."""
    worker = shell.start("work", "shop")
    for _ in range(600):
        if (shell.folder / "slow.started").exists():
            return worker
        try:
            worker.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            continue
    worker.kill()
    raise AssertionError(f"the worker did not start: {worker.communicate()}")


def end(worker: "subprocess.Popen[str]") -> None:
    worker.kill()
    worker.communicate()


def test_a_backup_is_taken_while_workers_run_and_overwrites_nothing(shell: Shell) -> None:
    submit(shell, "slow")
    worker = start_slow(shell)
    try:
        said = backup(shell).json
    finally:
        end(worker)
    assert said["tasks"] == {"running": 1}
    assert said["bytes"] == (shell.folder / "copy.db").stat().st_size
    assert (shell.folder / "copy.db").stat().st_mode & 0o777 == 0o600
    before = (shell.folder / "copy.db").read_bytes()
    again = shell("state", "backup", "copy.db")
    assert again.status == 2
    assert "overwrites nothing" in again.err
    assert (shell.folder / "copy.db").read_bytes() == before
    assert [place.name for place in shell.folder.iterdir() if "backup_" in place.name] == [], "nothing is left behind"


def test_a_restore_brings_back_the_copy_and_keeps_what_was_there(shell: Shell) -> None:
    old = submit(shell, "greet", "name=ada")
    backup(shell)
    new = submit(shell, "greet", "name=bob")
    said = restore(shell).json
    assert said["restored"] is True
    assert state_of(shell, old) == "ready"
    assert shell("task", "show", new).status == 1
    kept = Shell(shell.folder, {"LONGWATCH_STATE": said["kept"]})
    assert state_of(kept, new) == "ready", "the former state is whole"
    assert shell("journal", "--kind", "state.restored", "--json").json["entries"][0]["data"]["epoch"] == said["epoch"]
    assert shell("work", "shop", "--until-idle").status == 0
    assert state_of(shell, old) == "done"


def test_a_dry_run_and_an_unanswered_question_change_nothing(shell: Shell) -> None:
    backup(shell)
    new = submit(shell, "greet", "name=bob")
    assert shell("state", "restore", "copy.db", "--dry-run", "--json").json["restored"] is False
    assert shell("state", "restore", "copy.db", given="").status == 2
    assert state_of(shell, new) == "ready"
    assert sorted(place.name for place in (shell.folder / ".longwatch").iterdir() if "before" in place.name) == []


def test_a_restore_is_refused_while_a_worker_lives_and_names_it(shell: Shell) -> None:
    backup(shell)
    submit(shell, "slow")
    worker = start_slow(shell)
    try:
        said = shell("state", "restore", "copy.db", "--yes")
    finally:
        end(worker)
    assert said.status == 2
    assert str(worker.pid) in said.err
    assert shell.tasks() == {"running": 1}, "nothing was changed"


@pytest.mark.slow
def test_a_restore_is_refused_while_any_program_has_the_state_open(shell: Shell) -> None:
    backup(shell)
    program = subprocess.Popen(
        [sys.executable, "-c", "import shop, sys; print('open', flush=True); sys.stdin.read()"],
        cwd=shell.folder,
        env=shell.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    said = shell("state", "restore", "copy.db", "--yes")
    program.communicate("")
    assert said.status == 2
    assert str(program.pid) in said.err
    restore(shell)


@pytest.mark.slow
def test_fences_rise_above_both_histories(shell: Shell) -> None:
    backup(shell, "first.db")
    first = restore(shell, "first.db").json["epoch"]
    second = restore(shell, "first.db").json["epoch"]
    backup(shell, "second.db")
    third = restore(shell, "first.db").json["epoch"]
    fourth = restore(shell, "second.db").json["epoch"]
    assert first < second < third < fourth


def test_what_ran_when_the_copy_was_made_has_crashed(shell: Shell) -> None:
    task = submit(shell, "slow")
    worker = start_slow(shell)
    backup(shell)
    end(worker)
    said = restore(shell).json
    assert said["freed"] == 1
    found = shell("task", "show", task, "--json").json
    assert (found["state"], found["crashes"], found["owner"]) == ("scheduled", 1, None)
    assert found["runs"][-1]["outcome"] == "crash"


def test_a_task_from_before_the_restore_never_enters_a_once_step_again(shell: Shell) -> None:
    """It may have sent its letter between the copy and the restore: that is what happened here."""
    task = submit(shell, "letter", "to=acme")
    backup(shell)
    assert shell("work", "shop", "--until-idle").status == 0
    assert (shell.folder / "sent.txt").read_text() == "acme\n"
    restore(shell)
    assert state_of(shell, task) == "ready"
    assert shell("work", "shop", "--until-idle").status == 0
    assert state_of(shell, task) == "unknown"
    assert (shell.folder / "sent.txt").read_text() == "acme\n", "the letter was not sent twice"
    fresh = submit(shell, "letter", "to=zenith")
    assert shell("work", "shop", "--until-idle").status == 0
    assert state_of(shell, fresh) == "done"


@pytest.mark.slow
def test_an_effect_that_was_open_in_the_copy_is_unknown_after_the_restore(shell: Shell) -> None:
    script = (
        "import shop, os, subprocess, sys\n"
        "def cut(to):\n"
        "    subprocess.run([sys.executable, '-m', 'longwatch', 'state', 'backup', 'copy.db'], check=True,"
        " stdout=subprocess.DEVNULL)\n"
        "    os.kill(os.getpid(), 9)\n"
        "shop.send = cut\n"
        "print(shop.lw.submit(shop.letter.bind('acme')).id, flush=True)\n"
        "shop.lw.work(until_idle=True)\n"
    )
    task = shell.python("-c", script).out.strip()
    said = restore(shell).json
    assert said["unknown"] == 1
    assert state_of(shell, task) == "unknown"


def test_money_that_is_known_to_be_spent_stays_spent(shell: Shell) -> None:
    spend = "import shop\nwith shop.lw.call('stripe', money='1.50 USD'): pass\n"
    shell.python("-c", spend)
    backup(shell)
    shell.python("-c", spend)
    spent = shell("budget", "list", "--json").json["budgets"][0]["spent_micros"]
    assert spent == 3_000_000
    restore(shell)
    assert shell("budget", "list", "--json").json["budgets"][0]["spent_micros"] == spent
    shell.python("-c", spend)
    assert shell("budget", "list", "--json").json["budgets"][0]["spent_micros"] == spent + 1_500_000


@pytest.mark.slow
def test_a_call_that_was_open_in_the_copy_is_charged(shell: Shell) -> None:
    script = (
        "import shop, os, subprocess, sys\n"
        "with shop.lw.call('stripe', money='2 USD') as call:\n"
        "    subprocess.run([sys.executable, '-m', 'longwatch', 'state', 'backup', 'copy.db'], check=True,"
        " stdout=subprocess.DEVNULL)\n"
        "    call.release()\n"
    )
    shell.python("-c", script)
    assert shell("budget", "list", "--json").json["budgets"][0]["spent_micros"] == 0
    restore(shell)
    cap = shell("budget", "list", "--json").json["budgets"][0]
    assert (cap["spent_micros"], cap["held_micros"]) == (2_000_000, 0)


@pytest.mark.slow
def test_leases_of_the_copy_are_over(shell: Shell) -> None:
    script = (
        "import shop, subprocess, sys\n"
        "with shop.lw.lease('name:deploy', ttl='1h'):\n"
        "    subprocess.run([sys.executable, '-m', 'longwatch', 'state', 'backup', 'copy.db'], check=True,"
        " stdout=subprocess.DEVNULL)\n"
    )
    shell.python("-c", script)
    restore(shell)
    assert shell("lease", "list", "--json").json["leases"] == []
    shell.python("-c", "import shop\nwith shop.lw.lease('name:deploy', wait=0): print('mine')")


def test_a_damaged_state_is_replaced_and_kept(shell: Shell) -> None:
    task = submit(shell, "greet", "name=ada")
    backup(shell)
    place = shell.folder / STATE
    content = bytearray(place.read_bytes())
    content[100:4096] = os.urandom(3996)
    place.write_bytes(content)
    said = shell("status")
    assert said.status == 1
    assert "longwatch state restore FILE" in said.err
    done = restore(shell).json
    assert done["present"] is None
    assert "damaged" in done["present_unreadable"]
    assert done["epoch"] > 100, "nobody can tell how far the damaged state had got"
    assert Path(done["kept"]).read_bytes() == bytes(content)
    assert state_of(shell, task) == "ready"


@pytest.mark.slow
def test_what_cannot_even_be_opened_is_kept_with_its_log(shell: Shell) -> None:
    backup(shell)
    place = shell.folder / STATE
    place.write_bytes(b"overwritten " * 1000)
    place.with_name(place.name + "-wal").write_bytes(b"left by a crash")
    done = restore(shell).json
    assert Path(done["kept"]).read_bytes() == b"overwritten " * 1000
    assert Path(done["kept"] + "-wal").read_bytes() == b"left by a crash"
    assert shell("doctor").status == 0


@pytest.mark.slow
def test_a_state_that_is_gone_is_restored(shell: Shell) -> None:
    task = submit(shell, "greet", "name=ada")
    backup(shell)
    shutil.rmtree(shell.folder / ".longwatch")
    assert restore(shell).json["kept"] is None
    assert state_of(shell, task) == "ready"
    assert (shell.folder / STATE).stat().st_mode & 0o777 == 0o600


def test_a_copy_that_is_no_good_is_refused_before_anything_moves(shell: Shell) -> None:
    task = submit(shell, "greet", "name=ada")
    backup(shell)
    good = (shell.folder / "copy.db").read_bytes()
    bad = {
        "none.db": (None, "does not exist"),
        "text.db": (b"hello " * 1000, "not a Longwatch state"),
        "empty.db": (b"", "not a Longwatch state"),
        "cut.db": (good[: len(good) // 2], "damaged"),
        "flipped.db": (good[:8192] + bytes(4096) + good[12288:], "damaged"),
    }
    for name, (content, why) in bad.items():
        if content is not None:
            (shell.folder / name).write_bytes(content)
        said = shell("state", "restore", name, "--yes")
        assert said.status == 1, (name, said)
        assert why in said.err, (name, said.err)
    itself = shell("state", "restore", STATE, "--yes")
    assert itself.status == 2
    assert "the state itself" in itself.err
    assert state_of(shell, task) == "ready"


@pytest.mark.slow
def test_a_state_in_use_is_not_taken_for_a_copy(shell: Shell) -> None:
    other = Shell(shell.folder, {"LONGWATCH_STATE": "other.db"})
    program = subprocess.Popen(
        [sys.executable, "-c", "import shop, sys; print('open', flush=True); sys.stdin.read()"],
        cwd=shell.folder,
        env=other.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    said = shell("state", "restore", "other.db", "--yes")
    program.communicate("")
    assert said.status == 2
    assert "state backup FILE" in said.err


@pytest.mark.slow
def test_a_copy_of_a_newer_version_is_refused(shell: Shell) -> None:
    backup(shell)
    raise_schema(shell.folder / "copy.db")
    said = shell("state", "restore", "copy.db", "--yes")
    assert said.status == 1
    assert "Upgrade Longwatch" in said.err


def raise_schema(place: Path) -> None:
    script = "import apsw, sys; apsw.Connection(sys.argv[1]).execute('pragma user_version = 999')"
    subprocess.run([sys.executable, "-c", script, str(place)], check=True)


KILLED = """\
import os, signal, sys
from pathlib import Path
from longwatch.runtime import backup
from longwatch.runtime.world import Machine

class Mortal(Machine):
    def reach(self, mark):
        if mark == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGKILL)

world = Mortal()
plan = backup.plan_restore(world, source=Path("copy.db").absolute(), state=Path(".longwatch/longwatch.db").absolute())
backup.restore(world, plan)
"""


def workshops(shell: Shell) -> list[Path]:
    return [each for each in (shell.folder / ".longwatch").iterdir() if ".restore_" in each.name]


@pytest.mark.parametrize(
    "mark",
    [
        pytest.param("restore.prepared", marks=pytest.mark.slow),
        pytest.param("restore.kept", marks=pytest.mark.slow),
        "restore.cleared",
    ],
)
def test_a_restore_that_is_killed_leaves_a_whole_state_and_can_be_repeated(shell: Shell, mark: str) -> None:
    old = submit(shell, "greet", "name=ada")
    backup(shell)
    new = submit(shell, "greet", "name=bob")
    shell.write("killed.py", KILLED)
    assert shell.python("killed.py", mark).status == -signal.SIGKILL
    assert (state_of(shell, old), state_of(shell, new)) == ("ready", "ready"), "the present state is whole"
    mine = shell.folder / ".longwatch" / ".longwatch.db.restore_2025"
    mine.mkdir()
    assert len(workshops(shell)) == 2
    restore(shell)
    assert workshops(shell) == [mine]
    assert state_of(shell, old) == "ready"
    assert shell("task", "show", new).status == 1


@pytest.mark.slow
def test_a_backup_on_a_disk_without_room_leaves_nothing(shell: Shell, small_disk: Path) -> None:
    said = shell("state", "backup", str(small_disk / "copy.db"), "--json")
    assert said.status == 1
    assert "full" in said.json["error"]["message"] or "No space" in said.json["error"]["message"]
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("disk")
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)
