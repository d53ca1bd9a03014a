"""How many rounds of the long storms to run: all of them, unless LONGWATCH_SHARE says how many percent.

The script that every change must pass runs a part of each; before a release they run whole.
"""

import os


def share(whole: int) -> int:
    """That part of `whole`, at least 3."""
    return max(3, whole * int(os.environ.get("LONGWATCH_SHARE", "100")) // 100)
