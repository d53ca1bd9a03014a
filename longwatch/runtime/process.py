"""The only module that starts processes: spawn, signal, reap.

A child is told when its parent dies: it holds the reading end of a pipe whose writing end only the parent has. It runs
in a session of its own, so that Ctrl-C on a terminal reaches the parent alone, which then stops its children in order.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence

from longwatch.db.turnstile import is_stopped


class Child:
    """One spawned process. `pid`, `descriptor` (a pidfd: readable once it has ended), `code` after `reap`."""

    def __init__(self, command: Sequence[str], *, told: object) -> None:
        """Start `command`; the JSON of `told` is the first line of its standard input, which then stays open."""
        self._reading, writing = os.pipe()
        environ = os.environ | {"LONGWATCH_REPORT_FD": str(writing)}
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, pass_fds=(writing,), env=environ, start_new_session=True
        )
        os.close(writing)
        self.pid = self._process.pid
        self.descriptor = os.pidfd_open(self.pid)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stopped(self) -> bool:
        """Whether it stands still: by SIGSTOP, or under a debugger."""
        return is_stopped(self.pid)

    def reap(self) -> tuple[int, str]:
        """Wait for its end; (exit code, negative for a signal; what it wrote to its report pipe)."""
        code = self._process.wait()
        said = b""
        with contextlib.suppress(OSError):
            os.set_blocking(self._reading, False)  # a grandchild may still hold the other end
            said = os.read(self._reading, 1 << 16)
        os.close(self._reading)
        os.close(self.descriptor)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        return code, said.decode(errors="replace")
