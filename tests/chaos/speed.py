"""How much of a processor this machine gives to a program that asks for one, measured beside whatever else is measured.

On a machine that others use too all takes longer: what is to be done within twelve seconds with a processor takes twice that
with half of one.
"""

import threading
import time

BURST, PAUSE_S = 60_000, 0.05


class Speed:
    """Measures from its start on, in a thread, until `stop`. Takes about a twentieth of a processor."""

    def __init__(self) -> None:
        self._took_s = self._worked_s = 0.0
        self._over = threading.Event()
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        while not self._over.wait(PAUSE_S):
            began_s, before_s = time.monotonic(), time.thread_time()
            sum(range(BURST))
            self._worked_s += time.thread_time() - before_s
            self._took_s += time.monotonic() - began_s

    def slower(self) -> float:
        """How many times longer than it worked a program has taken since this was last asked; at least 1."""
        times = self._took_s / self._worked_s if self._worked_s else 1.0
        self._took_s = self._worked_s = 0.0
        return max(1.0, times)

    def stop(self) -> None:
        self._over.set()
