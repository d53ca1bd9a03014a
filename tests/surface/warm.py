"""Real processes that need not start Python anew: each is forked from one that has imported what they need, and nothing else.

A forked process has arguments, a folder, an environment and standard streams of its own, and runs `python -m longwatch ...` as
`runpy` does. What differs from a new one: modules were imported with another environment, and its memory is not taken apart at
its end, when threads have ended and what `atexit` was told has been done: that would take twenty times as long as a command.
"""

import atexit
import gc
import json
import os
import random
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

PATIENCE_S = 90
PRELOADED = (
    "longwatch.admission.redis",
    "longwatch.db.postgres",
    "anthropic.resources.messages",
    "longwatch.surface.cli",
    "longwatch.surface.api",
    "longwatch.runtime.worker",
    "anthropic",
    "stripe",
)


class Warm:
    """The process that is forked. It ends with this one: its socket does."""

    def __init__(self) -> None:
        self._mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LONGWATCH_", "COV_"))}
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._mine.settimeout(PATIENCE_S)
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=kept, stdin=subprocess.DEVNULL)
        theirs.close()
        atexit.register(self._end)

    def _end(self) -> None:
        self._mine.close()
        self._process.wait(PATIENCE_S)

    def run(
        self, arguments: list[str], *, folder: Path, environ: dict[str, str], given: str | None
    ) -> tuple[int, str, str]:
        """`python ARGUMENTS`: its status (of a signal: negative), and what it wrote."""
        request = {"arguments": arguments, "folder": str(folder), "environ": environ}
        with ExitStack() as open_files:
            body, asked, said, errors = (open_files.enter_context(tempfile.TemporaryFile()) for _ in range(4))
            for stream, text in ((body, json.dumps(request)), (asked, given or "")):
                stream.write(text.encode())
                stream.seek(0)
            socket.send_fds(self._mine, [b"run"], [stream.fileno() for stream in (body, asked, said, errors)])
            status = int(self._mine.recv(64))
            return status, _read(said), _read(errors)


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode().replace("\r\n", "\n")


@cache
def shared() -> Warm:
    return Warm()


# -- the process that is forked --------------------------------------------------------------------------------------------


def serve(place: socket.socket) -> dict[str, Any] | None:
    """Fork for every request. In a forked process: its request; None: nobody asks any more."""
    while True:
        word, descriptors, _, _ = socket.recv_fds(place, 16, 4)
        if not word:
            return None
        child = os.fork()
        if child == 0:
            place.close()
            return _begun(descriptors)
        for each in descriptors:
            os.close(each)
        status = os.waitpid(child, 0)[1]
        place.send(str(os.waitstatus_to_exitcode(status)).encode())


def _begun(descriptors: list[int]) -> dict[str, Any]:
    with os.fdopen(descriptors[0], "rb") as body:
        request: dict[str, Any] = json.loads(body.read())
    for place, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    random.seed()
    return request


def become(arguments: list[str]) -> None:
    """As `python ARGUMENTS` does: -m MODULE, -c CODE, or a file."""
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = [arguments[1], *arguments[2:]], str(Path.cwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = list(arguments), str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def status_of(arguments: list[str]) -> int:
    try:
        become(arguments)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - as an interpreter does with whatever a program lets pass
        traceback.print_exc()
        return 1
    return 0


def end(status: int) -> NoReturn:
    threading._shutdown()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for name in PRELOADED:
        __import__(name)
    gc.freeze()  # what is there already is not looked through, and copied, in every process
    with socket.socket(fileno=int(sys.argv[1])) as place:
        wanted = serve(place)
    if wanted is not None:
        end(status_of(wanted["arguments"]))
