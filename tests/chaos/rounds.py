"""How many rounds of chaos to run: all of them, unless LONGWATCH_SHARE says how many percent.

A round takes seconds, and there are sixteen programs of them: of a part only a sixth is run, so that a quarter of all the long
programs has less than three minutes of these.
"""

import os


def rounds(whole: int) -> int:
    """At least 2."""
    percent = int(os.environ.get("LONGWATCH_SHARE", "100"))
    return whole if percent >= 100 else max(2, whole * percent // 600)
