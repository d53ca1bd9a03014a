"""`work`, `journal -f` and pipes, as real processes: how they end, what they say, and in which form they log."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import Shell, shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "shop"
    folder.mkdir()
    shop(folder)
    return folder


@pytest.fixture
def shell(made: Path, tmp_path: Path) -> Shell:
    return Shell(Path(shutil.copytree(made, tmp_path / "shop")))


def until(ready: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Until it is so; at once an error when the process ends before."""
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def test_ctrl_c_hands_back_and_ends_with_130(shell: Shell) -> None:
    shell.write("slow.py", SLOW)
    task = shell.python("-c", "import slow; print(slow.lw.submit(slow.nap.bind()).id)").out.strip()
    worker = shell.start("work", "slow")
    until((shell.folder / "nap.started").exists, worker)
    worker.send_signal(signal.SIGINT)
    (shell.folder / "nap.go").touch()
    out, err = worker.communicate(timeout=60)
    assert worker.returncode == 130, err
    assert "1 done" in out
    assert "Traceback" not in err
    assert shell("task", "show", task, "--json").json["state"] == "done"


def test_ctrl_c_twice_ends_at_once_and_hands_back(shell: Shell) -> None:
    task = shell("task", "submit", "slow", "--json").json["id"]
    worker = shell.start("work", "shop")
    until((shell.folder / "slow.started").exists, worker)
    worker.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while worker.poll() is None and time.monotonic() < deadline:  # two signals at one instant are one
        worker.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = worker.communicate(timeout=60)
    ended = (
        130,
        -signal.SIGINT,
    )  # one that comes while the interpreter goes down ends it by itself: 130 to a shell as well
    assert worker.returncode in ended, err
    assert "Traceback" not in err
    found = shell("task", "show", task, "--json").json
    assert (found["state"], found["crashes"], found["failures"]) == ("ready", 0, 0), "it cost no attempt"


def test_work_tells_what_it_did(shell: Shell) -> None:
    for words in (["greet", "name=ada"], ["greet", "name=bob"], ["bad"], ["mail"]):
        shell("task", "submit", *words)
    said = shell("work", "shop", "--until-idle", "--json")
    assert said.status == 0
    assert said.json == {"done": 2, "failed": 1, "cancelled": 0, "unknown": 1, "retrying": 0}


def test_work_uses_the_state_and_config_of_the_command_line(shell: Shell) -> None:
    other = shell.write("other.toml", '[fleet]\nname = "other"\nstate = "other/longwatch.db"\n')
    assert shell("work", "shop", "--until-idle", "--config", str(other)).status == 0
    assert shell("status", "--json", "--config", "other.toml").json["fleet"] == "other"
    assert shell("--state", "third.db", "work", "shop", "--until-idle").status == 0
    assert shell("--state", "third.db", "status", "--json").status == 0


def test_logs_are_json_with_the_task_and_without_secrets(shell: Shell) -> None:
    shell.write("logged.py", LOGGED)
    secret = Shell(shell.folder, {"PAY_API_KEY": "hunter2hunter2"})
    task = secret.python("-c", "import logged; print(logged.lw.submit(logged.pay.bind()).id)").out.strip()
    said = secret("work", "logged", "--until-idle", "--json")
    lines = [json.loads(line) for line in said.err.splitlines()]
    found = next(line for line in lines if line["logger"] == "shop.pay")
    assert found["task"] == task
    assert found["run"].startswith("run_")
    assert found["agent"] == "main"
    assert found["level"] == "warning"
    assert found["message"].startswith("paying with [redacted:")
    assert "ZeroDivisionError" in found["exception"]
    assert "hunter2" not in said.err


def test_follow_shows_what_comes_and_ends_with_130(shell: Shell) -> None:
    follower = shell.start("journal", "-f", "--json", "--kind", "task.", "--limit", "1")
    assert follower.stdout is not None
    os.set_blocking(follower.stdout.fileno(), True)
    task = shell("task", "submit", "greet", "name=ada", "--json").json["id"]
    seen: list[str] = []
    while task not in seen:
        seen.append(str(json.loads(follower.stdout.readline())["subject"]))
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert err == ""
    assert all(json.loads(line) for line in out.splitlines())


def test_a_reader_that_leaves_ends_the_command_without_a_word(shell: Shell) -> None:
    shell("task", "submit", "greet", "name=ada")
    follower = shell.start("journal", "-f")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.stdout.close()
    shell("task", "submit", "greet", "name=bob")
    shell("task", "submit", "greet", "name=eve")
    assert follower.wait(timeout=60) == -signal.SIGPIPE
    assert follower.stderr is not None
    assert follower.stderr.read() == ""
    follower.stderr.close()


def test_a_pipe_that_closes_early_is_no_error(shell: Shell) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"{shell_command()} config show | head -1; echo ${{PIPESTATUS[0]}}"],
        cwd=shell.folder,
        env=shell.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] in ("0", "141")


def shell_command() -> str:
    return f"{sys.executable} -m longwatch"


def test_without_a_terminal_there_is_no_colour_and_no_progress(shell: Shell) -> None:
    shell("task", "submit", "bad")
    said = shell("work", "shop", "--until-idle")
    assert "\x1b" not in said.out + said.err
    assert "\x1b" not in shell("status").out


def test_no_color_is_obeyed_on_a_terminal(shell: Shell) -> None:
    shell("task", "submit", "bad")
    shell("work", "shop", "--until-idle")
    coloured, plain = on_terminal(shell, {}), on_terminal(shell, {"NO_COLOR": "1"})
    assert "\x1b[" in coloured
    assert "\x1b" not in plain
    assert "no such customer" in plain


def on_terminal(shell: Shell, more: dict[str, str]) -> str:
    environ = shell.environ | {"TERM": "xterm-256color", "COLUMNS": "120"} | more
    command = ["script", "-qec", f"{shell_command()} status", "/dev/null"]
    if shutil.which("script") is None:
        pytest.skip("needs script(1)")
    for name in ("NO_COLOR",):
        if name not in more:
            environ.pop(name, None)
    return subprocess.run(
        command, cwd=shell.folder, env=environ, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_our_own_bugs_make_one_line_and_a_report(shell: Shell) -> None:
    shell.write(
        "sitecustomize.py",
        "import longwatch.store.look as look\n"
        "def broken(self): raise RuntimeError('sk-ant-api03-verysecretverysecret is gone')\n"
        "look.Look.vitals = broken\n",
    )
    bugged = Shell(shell.folder, {"PYTHONPATH": str(shell.folder)}, cold=True)
    said = bugged("status")
    assert said.status == 1
    assert len(said.err.splitlines()) == 2
    place = Path(said.err.split("The report is in ")[1].split(". ")[0])
    assert place.parent == shell.folder / ".longwatch"
    report = place.read_text()
    assert "RuntimeError" in report
    assert "in broken" in report
    assert "verysecret" not in report
    assert bugged("status", "--json").json["error"]["code"] == "internal"
    loud = subprocess.run(
        [*shell_command().split(), "status"],
        cwd=shell.folder,
        env=bugged.environ | {"LONGWATCH_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" in loud.stderr


SLOW = """\
import time, os
import longwatch
from longwatch import Run

lw = longwatch.open()

@lw.task()
def nap(run: Run) -> str:
    open("nap.started", "w").close()
    while not os.path.exists("nap.go"):
        time.sleep(0.05)
    return "rested"
"""

LOGGED = """\
import logging, os
import longwatch
from longwatch import Run

lw = longwatch.open()

@lw.task()
def pay(run: Run) -> None:
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("shop.pay").warning("paying with %s", os.environ["PAY_API_KEY"], exc_info=True)
"""
