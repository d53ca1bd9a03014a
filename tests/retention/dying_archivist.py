"""A real process that archives, and kills itself where it is told: argv: state, config as JSON, mark, which time.

Without a mark it goes on to the end, and says where it has been.
"""

import json
import os
import signal
import sys
from collections import Counter

import longwatch
from longwatch import Run
from longwatch.policy.retention import Close
from longwatch.runtime.world import Machine
from longwatch.store import retire
from longwatch.surface import opened

retire.PAGE = 4  # several transactions for a segment


class Dying(Machine):
    def __init__(self, mark: str, time: int) -> None:
        self.mark, self.time, self.reached = mark, time, Counter[str]()

    def reach(self, mark: str) -> None:
        self.reached[mark] += 1
        if mark == self.mark and self.reached[mark] == self.time:
            os.kill(os.getpid(), signal.SIGKILL)


def fill(state: str, config: longwatch.Config, number: int = 10) -> None:
    with longwatch.open(state, config=config) as lw:

        @lw.task("invoice")
        def invoice(run: Run, n: int) -> int:
            run.step("count", lambda: n)
            with run.call("api", budget="growth", money="0.02 USD"):
                pass
            return n * n

        for n in range(number):
            lw.submit("invoice", {"n": n}, key=f"k{n}")
        lw.work(until_idle=True)
        assert lw.opened.parts.archives is not None
        lw.opened.parts.archives.rest()


def remember(state: str, config: longwatch.Config, number: int = 70) -> None:
    with longwatch.open(state, config=config) as lw:
        memory = lw.memory("seo")
        memory.record_many(
            {"kind": "result", "text": f"order {n}", "task": f"t{n}", "key": f"o{n}"} for n in range(number)
        )
        memory.close("r3")
        memory.compact(everything=True)
        memory.record("lesson", "the newest stays")


def main(state: str, config: str, mark: str, time: str) -> None:
    world = Dying(mark, int(time))
    settings = opened.read(state, json.loads(config), agent=None, budget=None)
    fleet = opened.wire(settings, world)
    assert fleet.parts.archives is not None
    archivists = fleet.parts.archives.archivists
    archivists.give_back(archivists.standing().fence)  # of the one before, who is dead
    made = fleet.parts.archives.round(Close(0))
    fleet.close()
    sys.stdout.write(json.dumps({"reached": world.reached, "busy": made.busy}))


if __name__ == "__main__":
    main(*sys.argv[1:])
