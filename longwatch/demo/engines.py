"""Which engines the demo's fleet runs on: a file of its own, or servers, its own private ones or somebody else's.

Servers of its own belong to a process that ends them when the demo is over, or dead (longwatch/testing/servers.py). On
somebody else's PostgreSQL the demo has a schema of its own, which the next demo empties; in Redis it has keys of its own.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from longwatch.demo.options import Options
from longwatch.errors import ConfigError
from longwatch.surface.engines import shown

SCHEMA = "longwatch_demo"
MARK = "Made by longwatch demo, which empties it."
END_S = 60.0


@dataclass(frozen=True)
class Engines:
    """Addresses; None: a file, and the engine of the state. lasting: the state is still there when the demo is over."""

    state: str | None = None
    admission: str | None = None
    lasting: bool = True

    @property
    def title(self) -> str:
        """As it may be shown."""
        state = "a file (SQLite)" if self.state is None else shown(self.state)
        return f"state: {state}; admission: {'the same' if self.admission is None else shown(self.admission)}"

    def write_into(self, folder: Path) -> str:
        """The lines of [fleet] that name them. The addresses go into files that only this user reads: they may hold
        passwords.
        """
        lines: list[str] = []
        for key, address in (("state", self.state), ("admission", self.admission)):
            if address is not None:
                place = folder / f"{key}.url"
                place.touch(mode=0o600)
                place.write_text(address, "utf-8")
                lines.append(f'{key} = {{ file = "{place.name}" }}\n')
        return "".join(lines)


@contextlib.contextmanager
def engines(options: Options, folder: Path) -> Generator[Engines]:
    """For the length of a block. folder: for the log of private servers. Errors: ConfigError, StoreUnavailable."""
    with contextlib.ExitStack() as stack:
        urls = stack.enter_context(_private(options.private, folder / "servers.log")) if options.private else {}
        state = urls.get("postgresql") or (None if options.state == "sqlite" else _schema_in(options.state, stack))
        admission = urls.get("redis") or (None if options.admission == "state" else options.admission)
        yield Engines(state, admission, lasting="postgresql" not in urls)


def _schema_in(url: str, stack: contextlib.ExitStack) -> str:
    try:
        from longwatch.db.postgres.own_schema import OwnSchema
    except ImportError as error:
        hint = "pip install 'longwatch[postgres]'"
        raise ConfigError(f"the driver of PostgreSQL is not installed ({error})", hint=hint) from error
    return stack.enter_context(contextlib.closing(OwnSchema(url, SCHEMA, mark=MARK))).url


@contextlib.contextmanager
def _private(names: tuple[str, ...], log: Path) -> Generator[dict[str, str]]:
    """Servers in a session of their own: Ctrl-C reaches the demo alone, which still needs them while it ends."""
    command = [sys.executable, "-m", "longwatch.testing.servers", *names]
    pipe = subprocess.PIPE
    with log.open("wb") as file:
        keeper = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=file, start_new_session=True)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        yield _told(keeper.stdout.readline(), log)
    finally:
        keeper.stdin.close()
        keeper.wait(END_S)
        keeper.stdout.close()


def _told(line: bytes, log: Path) -> dict[str, str]:
    said: dict[str, str] = (
        json.loads(line) if line else {"error": "no server of its own started", "hint": f"See {log}."}
    )
    if "error" in said:
        raise ConfigError(said["error"], hint=said["hint"])
    return said
