"""How many rounds of chaos to run: all of them, unless LONGWATCH_SHARE says how many percent.

A round takes seconds, and there are sixteen programs of them: of a part only a sixth is run, and not every program, so that a
quarter of all the long programs has less than three minutes of these.
"""

import os

import pytest

PERCENT = int(os.environ.get("LONGWATCH_SHARE", "100"))


def rounds(whole: int) -> int:
    """At least 2."""
    return whole if PERCENT >= 100 else max(2, whole * PERCENT // 600)


def skip_in_a_part() -> None:
    """This program is much like another one, and is left out unless all are run."""
    if PERCENT < 100:
        pytest.skip("run when LONGWATCH_SHARE is not less than 100")
