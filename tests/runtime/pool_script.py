"""A program with workers, as a user writes one. Run by test_pool: pool_script.py STATE COMMAND [ARGUMENT...].

Every handler appends what it does to STATE.log, one line a write: small appends of one process at a time are whole.
"""

import os
import signal
import sys
import time
from pathlib import Path

import longwatch
from longwatch.runtime import pool, worker
from longwatch.surface import working

STATE = Path(sys.argv[1])  # at the top: a worker process that imports this script must see the arguments too
SETTINGS = {"fleet": {"lease": os.environ.get("SCRIPT_LEASE", "60s")}}
lw = longwatch.open(STATE, config=SETTINGS)

if "SCRIPT_STOPPED_MS" in os.environ:
    pool.STOPPED_MS = int(os.environ["SCRIPT_STOPPED_MS"])
if "SCRIPT_GRACE_MS" in os.environ:  # half a minute is too long for a test
    for module in (worker, working):
        setattr(module, "GRACE_MS", int(os.environ["SCRIPT_GRACE_MS"]))  # noqa: B010 - one name, imported by both


def log(line: str) -> None:
    with Path(f"{STATE}.log").open("a") as file:
        file.write(line + "\n")


@lw.task("echo")
def echo(run: longwatch.Run, text: str) -> str:
    log(f"echo {text} {os.getpid()}")
    return text


@lw.task("hold")
def hold(run: longwatch.Run, seconds: float) -> str:
    log(f"hold {os.getpid()} attempt {run.attempt}")
    time.sleep(seconds)
    log(f"held {os.getpid()}")
    return "held"


@lw.task("first_time_only")
def first_time_only(run: longwatch.Run, seconds: float) -> int:
    """Holds on its first attempt, returns at once on the next ones."""
    log(f"hold {os.getpid()} attempt {run.attempt}")
    if run.attempt == 1:
        time.sleep(seconds)
    return run.attempt


@lw.task("overrun", timeout=0.5, retries=1, backoff=0.01)
def overrun(run: longwatch.Run) -> int:
    log(f"hold {os.getpid()} attempt {run.attempt}")
    if run.attempt == 1:
        time.sleep(60)
    return run.attempt


@lw.task("suicide", crashes=2)
def suicide(run: longwatch.Run) -> None:
    log(f"suicide {os.getpid()}")
    os.kill(os.getpid(), signal.SIGKILL)


def strike(pid: int) -> str:
    log(f"strike {pid}")
    os.kill(os.getpid(), signal.SIGKILL)
    return "struck"


@lw.task("once_killed")
def once_killed(run: longwatch.Run) -> str:
    return run.once("strike", strike, os.getpid())


@lw.task("publish")
def publish(run: longwatch.Run, name: str, wait_for: str) -> str:
    """An edit inside a step; between writing and publishing it waits until the file `wait_for` exists."""

    def write() -> str:
        with lw.edit(name, ttl="1s") as edit:
            edit.write_text(name, f"by attempt {run.attempt}\n")
        log(f"staged {os.getpid()} attempt {run.attempt}")
        while run.attempt == 1 and not Path(wait_for).exists():
            time.sleep(0.01)
        return "written"

    done = run.step("write", write)
    log(f"published {os.getpid()} attempt {run.attempt}")
    return done


def main() -> None:
    command, *rest = sys.argv[2:]
    processes = int(os.environ.get("SCRIPT_PROCESSES", "2"))
    if command == "submit":
        kind, times, *pairs = rest
        arguments = {
            name: float(value) if name == "seconds" else value for name, value in (p.split("=") for p in pairs)
        }
        for number in range(int(times)):
            extra = {"text": f"{number}"} if kind == "echo" else {}
            sys.stdout.write(lw.submit(kind, {**arguments, **extra}).id + "\n")
    elif command == "work":
        report = lw.work(
            processes=processes, until_idle="forever" not in rest, on_start=lambda pids: log(f"pids {pids}")
        )
        sys.stdout.write(f"{report}\n")
    else:
        task = lw.get(rest[0])
        sys.stdout.write(f"{task.state} failures={task.failures} crashes={task.crashes} {task.error or ''}\n")


if __name__ == "__main__":
    main()
