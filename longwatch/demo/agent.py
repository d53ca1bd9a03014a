"""One agent of the demo, as a program of its own: it submits its share of the batch and works with its processes.

    python -m longwatch.demo.agent CONFIG NAME PROCESSES TASKS.json

All agents share one fleet: its limits, budgets, leases and tasks. Whoever is free takes the next task, whosever it is.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import longwatch
from longwatch.demo.booking import catalogue_module


def main(arguments: list[str]) -> None:
    config, name, processes, tasks = arguments
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with longwatch.open(config=config, agent=name, budget="main") as lw:
        lw.include(catalogue_module)
        modules: list[str] = json.loads(Path(tasks).read_text())[name]
        lw.submit_batch(f"catalogue-{name}", [catalogue_module.bind(module) for module in modules])
        lw.work(processes=int(processes), until_idle=True)


def _end_with_parent() -> None:
    """Standard input is a pipe from the demo: when it closes, nobody is left to work for. Asked again: now, not in peace."""
    while os.read(0, 4096):
        pass
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
