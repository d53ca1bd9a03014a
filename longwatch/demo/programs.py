"""The demo's own processes: started with a pipe on standard input, and ended, down to the last descendant."""

import contextlib
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import psutil

END_S = 8.0


class Programs:
    """Python programs and whatever they start."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self.environ, self.log = dict(environ), log
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> None:
        """python -m ARGUMENTS, in a session of its own: Ctrl-C reaches the demo alone, which then ends it in order."""
        with self.log.open("ab") as log:
            program = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self.environ,
                start_new_session=True,
            )
        self._started.append(program)

    def running(self) -> bool:
        return any(program.poll() is None for program in self._started)

    def failed(self) -> list[int]:
        """Exit statuses other than 0."""
        return [program.returncode for program in self._started if program.poll() not in (None, 0)]

    def descendants(self) -> "list[psutil.Process]":
        found: list[psutil.Process] = []
        for program in self._started:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(program.pid).children(recursive=True)
        return found

    def owns(self, pid: int) -> bool:
        """Whether the process is one of these or descends from one."""
        ours = {program.pid for program in self._started}
        try:
            return pid in ours or any(parent.pid in ours for parent in psutil.Process(pid).parents())
        except psutil.NoSuchProcess:
            return False

    def end(self) -> None:
        """Close their pipes, wait a little, then kill what is left."""
        left = self.descendants()
        for program in self._started:
            if program.stdin is not None:
                with contextlib.suppress(OSError):
                    program.stdin.close()
        for program in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(END_S)
        _kill([*left, *self.descendants()])
        for program in self._started:
            program.kill()
            program.wait()


def _kill(processes: "Sequence[psutil.Process]") -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(list(processes), timeout=END_S)


@contextlib.contextmanager
def programs(environ: Mapping[str, str], log: Path) -> Generator[Programs]:
    """Programs for the length of a block; none of them outlives it."""
    started = Programs(environ, log)
    try:
        yield started
    finally:
        started.end()
