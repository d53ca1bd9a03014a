"""Whether a step is the last thing that its handler does: `return run.step(...)`.

Nothing of the handler runs between the end of such a step and its own end, so nothing can have acted on a result that is
not stored: it may be stored in the commit that ends the task. The handler's code says so: the step is called by the
function that the worker called, and the instruction behind that call returns what it gave. Where that cannot be seen
(below a decorator, in a function that the handler calls, on another interpreter), or where the handler may catch or tidy
up (any `try` or `with` in it), the step is stored by itself, as every other one.
"""

import dis
from functools import lru_cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, cast

from longwatch.runtime.handler import Handler

WORKER = cast("Any", Handler).call.__code__  # what calls the function that does a task


def is_last(step: FrameType | None, handler: CodeType | None) -> bool:
    """step: the frame of `run.step`. handler: the code of the function that does the task."""
    frame = step.f_back if step is not None else None
    if frame is None or frame.f_code is not handler or frame.f_back is None:
        return False
    return frame.f_back.f_code is WORKER and frame.f_lasti in _returning(frame.f_code)


@lru_cache(maxsize=256)
def _returning(code: CodeType) -> frozenset[int]:
    """Where the code stands while it waits for a call whose answer it returns at once."""
    if code.co_exceptiontable:
        return frozenset()
    return frozenset(
        place
        for one, after in pairwise(dis.get_instructions(code))
        if one.opname.startswith("CALL") and after.opname == "RETURN_VALUE"
        for place in range(one.offset, after.offset)  # it may stand in the cache that belongs to the call
    )
