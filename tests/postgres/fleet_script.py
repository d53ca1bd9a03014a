"""A fleet on the state at DATABASE_URL: `python fleet_script.py N PROCESSES` submits N tasks and works them off."""

import os
import sys
import time
from pathlib import Path

import longwatch
from longwatch import Run

lw = longwatch.open(os.environ["DATABASE_URL"], config={"fleet": {"root": os.environ["FLEET_ROOT"]}})
TRACE = Path(os.environ["FLEET_ROOT"]) / "trace"


@lw.task("note", crashes=20)
def note(run: Run, number: int) -> int:
    return run.step("write", write, number)


def write(number: int) -> int:
    with TRACE.open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    time.sleep(0.005)
    return number


if __name__ == "__main__":
    amount, processes = int(sys.argv[1]), int(sys.argv[2])
    batch = lw.submit_batch("notes", [note.bind(number) for number in range(amount)])
    report = lw.work(processes=processes, until_idle=True)
    print(report.done, report.failed, sorted(task.result for task in batch.wait()) == list(range(amount)))  # noqa: T201
    lw.close()
