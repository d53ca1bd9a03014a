"""Workers as real processes: killed, stopped, told to stop, past their time, imported from a user's script."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import longwatch

SCRIPT = Path(__file__).parent / "pool_script.py"
PATIENCE_S = 30


@dataclass
class Program:
    """The script on one state, and what it has written so far."""

    state: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.state), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environ,
            cwd=self.state.parent,
        )
        self.processes.append(started)
        return started

    def run(self, *arguments: str, **environ: str) -> list[str]:
        out, err = self.start(*arguments, **environ).communicate(timeout=PATIENCE_S)
        assert self.processes[-1].returncode == 0, err
        return out.splitlines()

    def submit(self, kind: str, times: int = 1, **arguments: object) -> list[str]:
        return self.run("submit", kind, str(times), *[f"{name}={value}" for name, value in arguments.items()])

    def show(self, task: str) -> str:
        return self.run("show", task)[0]

    def log(self) -> list[str]:
        path = Path(f"{self.state}.log")
        return path.read_text().splitlines() if path.exists() else []

    def until(self, pattern: str, *, count: int = 1) -> list[re.Match[str]]:
        """Wait until the log has `count` lines of this form; those lines."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for line in self.log() if (match := re.fullmatch(pattern, line))]
            return len(found) >= count

        wait_until(look, f"{count} x {pattern!r} in {self.log()}")
        return found

    def children(self) -> list[int]:
        """The worker processes last announced."""
        lines = [line for line in self.log() if line.startswith("pids ")]
        return [int(pid) for pid in re.findall(r"\d+", lines[-1])] if lines else []


def wait_until(condition: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.fixture
def program(tmp_path: Path) -> Generator[Program]:
    made = Program(tmp_path / "state" / "longwatch.db")
    made.state.parent.mkdir()
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
    for pid in {int(pid) for line in made.log() if line.startswith("pids ") for pid in re.findall(r"\d+", line)}:
        with contextlib.suppress(OSError):
            if alive(pid) and SCRIPT.name in Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace"):
                os.kill(pid, signal.SIGKILL)


def test_spawned_workers_share_the_work_and_end_when_idle(program: Program) -> None:
    tasks = program.submit("echo", 20)
    (report,) = program.run("work")
    assert report.startswith("Report(done=20,")
    assert len({match[1] for match in program.until(r"echo \d+ (\d+)", count=20)}) <= 2
    assert program.show(tasks[0]) == "done failures=0 crashes=0 "
    assert not any(map(alive, program.children()))


def test_a_killed_worker_is_replaced_and_its_task_done_by_another(program: Program) -> None:
    (task,) = program.submit("first_time_only", seconds=60)
    parent = program.start("work")
    (first,) = program.until(r"hold (\d+) attempt 1")
    os.kill(int(first[1]), signal.SIGKILL)
    program.until(r"hold (\d+) attempt 2")
    out, _ = parent.communicate(timeout=PATIENCE_S)
    assert out.startswith("Report(done=1,")
    assert program.show(task) == "done failures=0 crashes=1 "


def test_a_task_that_kills_its_workers_fails_at_its_crash_limit(program: Program) -> None:
    (task,) = program.submit("suicide")
    assert program.run("work")[0].startswith("Report(done=0, failed=1,")
    assert len(program.until(r"suicide \d+")) == 2
    assert program.show(task) == "failed failures=0 crashes=2 the worker died 2 times while it ran this task"


def test_an_effect_cut_off_by_a_kill_is_unknown_and_not_repeated(program: Program) -> None:
    (task,) = program.submit("once_killed")
    assert "unknown=1" in program.run("work")[0]
    assert len(program.until(r"strike \d+")) == 1
    assert program.show(task).startswith("unknown failures=0 crashes=1 the outcome of 'strike' is not known")


def test_a_run_past_its_timeout_ends_its_process_and_is_tried_again(program: Program) -> None:
    (task,) = program.submit("overrun")
    assert program.run("work")[0].startswith("Report(done=1,")
    first, second = program.until(r"hold (\d+) attempt \d", count=2)
    assert first[1] != second[1]
    assert not alive(int(first[1]))
    assert program.show(task).startswith("done failures=1 crashes=0")


def test_the_children_of_a_killed_parent_hand_back_and_end(program: Program) -> None:
    (task,) = program.submit("first_time_only", seconds=60)
    parent = program.start("work", "forever", SCRIPT_GRACE_MS="300")
    program.until(r"hold \d+ attempt 1")
    children = program.children()
    parent.kill()
    wait_until(lambda: not any(map(alive, children)), "the children to end")
    assert program.show(task) == "ready failures=0 crashes=0 "


def test_sigterm_lets_the_task_in_hand_finish_and_hands_back_the_rest(program: Program) -> None:
    tasks = program.submit("hold", 8, seconds=0.4)
    parent = program.start("work", "forever", SCRIPT_PROCESSES="2")
    begun = len(program.until(r"hold \d+ attempt 1"))
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 0
    shown = [program.show(task) for task in tasks]
    done = [line for line in shown if line.startswith("done")]
    assert begun <= len(done) < 8
    assert [line for line in shown if not line.startswith("done")] == ["ready failures=0 crashes=0 "] * (8 - len(done))
    assert len(program.until(r"held \d+")) == len(done)


def test_what_outlasts_the_grace_is_handed_back_without_an_attempt(program: Program) -> None:
    (task,) = program.submit("first_time_only", seconds=60)
    parent = program.start("work", "forever", SCRIPT_GRACE_MS="300")
    program.until(r"hold \d+ attempt 1")
    parent.terminate()
    assert parent.wait(PATIENCE_S) == 0
    assert program.show(task) == "ready failures=0 crashes=0 "


@pytest.mark.parametrize("processes", ["1", "2"])
def test_ctrl_c_twice_ends_at_once_and_costs_no_attempt(program: Program, processes: str) -> None:
    (task,) = program.submit("first_time_only", seconds=60)
    parent = program.start("work", "forever", SCRIPT_PROCESSES=processes)
    program.until(r"hold \d+ attempt 1")
    parent.send_signal(signal.SIGINT)
    wait_until(lambda: program.show(task).startswith("running"), "the first Ctrl-C to be waited out")
    began = time.monotonic()
    parent.send_signal(signal.SIGINT)
    parent.wait(PATIENCE_S)
    assert time.monotonic() - began < 10
    assert program.show(task) == "ready failures=0 crashes=0 "


def test_a_worker_stopped_past_its_lease_can_neither_commit_nor_publish(program: Program, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (task,) = program.submit("publish", name="page.txt", wait_for=gate)
    parent = program.start("work", SCRIPT_LEASE="1s", SCRIPT_PROCESSES="2")
    (first,) = program.until(r"staged (\d+) attempt 1")
    zombie = int(first[1])
    os.kill(zombie, signal.SIGSTOP)
    program.until(r"published \d+ attempt 2")
    gate.touch()
    os.kill(zombie, signal.SIGCONT)
    out, err = parent.communicate(timeout=PATIENCE_S)
    assert out.startswith("Report(done=1,"), err
    assert not [line for line in program.log() if re.fullmatch(r"published \d+ attempt 1", line)]
    assert (program.state.parent / "page.txt").read_text() == "by attempt 2\n"
    assert program.show(task) == "done failures=0 crashes=1 "


def test_a_worker_that_stands_still_for_good_is_killed_and_replaced(program: Program) -> None:
    (task,) = program.submit("publish", name="page.txt", wait_for="never")
    parent = program.start("work", SCRIPT_LEASE="1s", SCRIPT_PROCESSES="2", SCRIPT_STOPPED_MS="1500")
    (first,) = program.until(r"staged (\d+) attempt 1")
    os.kill(int(first[1]), signal.SIGSTOP)
    out, err = parent.communicate(timeout=PATIENCE_S)
    assert out.startswith("Report(done=1,"), err
    assert "stood still" in err
    assert program.show(task) == "done failures=0 crashes=1 "


def test_a_worker_of_another_container_is_not_taken_for_dead(program: Program, tmp_path: Path) -> None:
    """Its pids mean nothing here, although its kernel is ours."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a namespace")
    gate = tmp_path / "gate"
    (task,) = program.submit("publish", name="page.txt", wait_for=gate)
    work = [*apart, sys.executable, str(SCRIPT), str(program.state), "work"]
    with subprocess.Popen(work, cwd=program.state.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        program.until(r"staged \d+ attempt 1")
        with longwatch.open(program.state, config={"fleet": {"root": str(program.state.parent)}}) as lw:
            assert lw.opened.parts.bury_the_dead() == 0
        gate.touch()
        assert parent.communicate(timeout=PATIENCE_S)[0].startswith(b"Report(done=1,")
    assert program.show(task) == "done failures=0 crashes=0 "


def test_a_script_that_cannot_be_imported_is_refused_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(
        "import longwatch\n"
        f"lw = longwatch.open({str(tmp_path / 's.db')!r})\n"
        "@lw.task()\n"
        "def one(run: longwatch.Run) -> None: ...\n"
        "if __name__ != '__main__': raise ValueError('not here')\n"
        "lw.submit(one.bind())\n"
        "try:\n"
        "    lw.work(processes=2)\n"
        "except longwatch.ConfigError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.stdout.startswith(f"a worker process cannot import {script}: ValueError: not here")
    assert "Traceback" not in ended.stderr


def test_a_script_without_a_guard_is_told_so_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import longwatch\n"
        f"lw = longwatch.open({str(tmp_path / 's.db')!r})\n"
        "@lw.task()\n"
        "def one(run: longwatch.Run) -> None: ...\n"
        "try:\n"
        "    lw.work(processes=2)\n"
        "except longwatch.ConfigError as error:\n"
        "    if __name__ != '__main__': raise\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert 'if __name__ == "__main__":' in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_handler_that_its_name_does_not_lead_to_is_refused_in_one_line(tmp_path: Path) -> None:
    script = tmp_path / "undecorated.py"
    script.write_text(
        "import longwatch\n"
        f"lw = longwatch.open({str(tmp_path / 's.db')!r})\n"
        "def one(run: longwatch.Run) -> None: ...\n"
        "lw.task('one')(one)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        lw.work(processes=2)\n"
        "    except longwatch.ConfigError as error:\n"
        "        print(error)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.stdout.startswith("__main__.one is not the handler 'one' but a function"), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_notebook_is_told_that_its_handlers_cannot_be_found(tmp_path: Path) -> None:
    code = (
        "import longwatch\n"
        f"lw = longwatch.open({str(tmp_path / 's.db')!r})\n"
        "def one(run): ...\n"
        "lw.task()(one)\n"
        "try:\n"
        "    lw.work(processes=2)\n"
        "except longwatch.ConfigError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "notebook" in ended.stdout, ended.stderr


def test_what_workers_print_goes_to_files_of_theirs_where_the_config_says_so(tmp_path: Path) -> None:
    script = tmp_path / "printing.py"
    script.write_text(
        "import subprocess, sys, longwatch\n"
        "config = {'archive': {'output': 'files'}, 'fleet': {'root': sys.argv[1]}}\n"
        "lw = longwatch.open(sys.argv[1] + '/s.db', config=config, agent='seo')\n"
        "@lw.task()\n"
        "def say(run: longwatch.Run, n: int) -> None:\n"
        "    print('said', n)\n"
        "    subprocess.run(['sh', '-c', f'echo a tool said {n} >&2'])\n"
        "if __name__ == '__main__':\n"
        "    for n in range(4):\n"
        "        lw.submit(say.bind(n))\n"
        "    lw.work(processes=2, until_idle=True)\n"
        "    from longwatch.policy.retention import Close\n"
        "    found = lw.opened.parts.archives\n"
        "    found.archivists.give_back(found.archivists.standing().fence)  # of a worker that ended meanwhile\n"
        "    assert not found.round(Close(0)).busy\n"
        "    logs = found.archive.find(kind='log', agent='seo', text='said').entries\n"
        "    print(sorted(entry.body.decode().split('\"line\":')[1] for entry in logs))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-u", str(script), str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 0, ended.stderr
    lines = sorted(f'"{what} {n}"}}' for what in ("said", "a tool said") for n in range(4))
    assert ended.stdout == f"{lines}\n"
    assert list((tmp_path / ".longwatch" / "logs").iterdir()) == []
