"""How many rounds of chaos to run: all of them, unless LONGWATCH_SHARE says how many percent.

A round takes seconds and there are many kinds of it, so that of a part only that part is run: of a quarter a sixteenth.
"""

import os


def rounds(whole: int) -> int:
    """At least 2."""
    percent = int(os.environ.get("LONGWATCH_SHARE", "100"))
    return max(2, whole * percent * percent // 10_000)
