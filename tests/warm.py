"""Real processes that need not start Python anew: each is forked from one that has imported what they need, and nothing else.

    process = warm.Popen([sys.executable, "script.py", "argument"], stdout=subprocess.PIPE)    # or -m MODULE, or -c CODE
    done = warm.run([sys.executable, "-m", "longwatch", "status"], cwd=folder)

A forked process has arguments, a folder, an environment and standard streams of its own, and runs what it is told as `python`
does; it can be stopped and killed. What differs from a new one: modules were imported with another environment, its parent
is the process that was forked, and its memory is not taken apart at its end, when threads have ended and what `atexit` was
told has been done: that would take twenty times as long as a command. Whoever tests how a process starts starts a new one.
"""

import atexit
import contextlib
import gc
import json
import os
import random
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
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
PIPES = slice(
    10, 16
)  # among what _execute_child is given: the child's end and ours of input, ours and its of output and errors
Stream = int | IO[Any] | None


class Popen(subprocess.Popen[str]):
    """`subprocess.Popen([sys.executable, ...], text=True)`, as a child of the process that is forked."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> None:
        assert command[0] == sys.executable, f"a warm process is a Python: {command}"
        folder, environ = str(cwd or Path.cwd()), dict(os.environ if env is None else env)
        self._request = {"arguments": list(command[1:]), "folder": folder, "environ": environ}
        super().__init__(command, stdin=stdin, stdout=stdout, stderr=stderr, text=True)

    def _execute_child(self, *given: Any) -> None:
        pipes: list[int] = list(given[PIPES])
        ends = [number if end == -1 else end for number, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as body:
            body.write(json.dumps(self._request).encode())
            body.seek(0)
            socket.send_fds(shared(), [b"run"], [body.fileno(), *ends, theirs.fileno()])
        self._answers.settimeout(PATIENCE_S)
        self.pid = int(self._answers.recv(64))
        self._answers.settimeout(None)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined] # pyright: ignore

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if wait_flags and not select.select([self._answers], [], [], 0)[0]:
            return 0, 0
        status = int(self._answers.recv(64))
        self._answers.close()
        return self.pid, status

    def _internal_poll(self, _deadstate: object = None) -> int | None:
        if self.returncode is None and self._answers.fileno() >= 0:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def run(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout: float = PATIENCE_S,
    check: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """`subprocess.run([sys.executable, ...], capture_output=True, text=True)`."""
    pipe = subprocess.PIPE
    given = subprocess.DEVNULL if input is None else pipe
    with Popen(command, cwd=cwd, env=env, stdin=given, stdout=pipe, stderr=pipe) as process:
        try:
            out, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, errors)
    if check:
        done.check_returncode()
    return done


@cache
def shared() -> socket.socket:
    """Where the process that is forked is asked. It ends with this one: the socket does."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LONGWATCH_", "COV_"))}
    command = [sys.executable, __file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=kept, stdin=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        mine.close()
        process.wait(PATIENCE_S)

    atexit.register(end)
    return mine


# -- the process that is forked --------------------------------------------------------------------------------------------


def serve(place: socket.socket) -> dict[str, Any] | None:
    """Fork for every request, and tell how each ended. In a forked process: its request; None: nobody asks any more."""
    children: dict[
        int, tuple[int, socket.socket]
    ] = {}  # by the descriptor that is readable at its end: its id, who asked
    while True:
        ends: list[Any] = [place, *children]
        readable = select.select(ends, [], [])[0]
        for descriptor in children.keys() & set(readable):
            child, asker = children.pop(descriptor)
            _tell(asker, os.waitpid(child, 0)[1])
            asker.close()
            os.close(descriptor)
        if place not in readable:
            continue
        word, descriptors, _, _ = socket.recv_fds(place, 16, 5)
        if not word:
            return None
        asker = socket.socket(fileno=descriptors.pop())
        child = os.fork()
        if child == 0:
            place.close()
            asker.close()
            for descriptor, (_, other) in children.items():
                os.close(descriptor)
                other.close()
            return _begun(descriptors)
        for each in descriptors:
            os.close(each)
        children[os.pidfd_open(child)] = child, asker
        _tell(asker, child)


def _tell(asker: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it may have stopped listening
        asker.send(str(number).encode())


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
