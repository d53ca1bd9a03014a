"""What may be asked of the demo, and the folder it writes to."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longwatch.errors import ConfigError, nearest

MARKER = ".longwatch-demo"
AGENTS = ("ada", "grace", "edsger", "barbara")
DEFAULT_FOLDER = Path("demo-out")
STATES, STATE_SCHEMES = ("sqlite", "postgresql"), ("postgresql", "postgres")
ADMISSIONS, ADMISSION_SCHEMES = ("state", "redis"), ("redis", "rediss")


@dataclass(frozen=True)
class Options:
    """only: without the home-made program. json: one object on standard output. seed: of the faults.

    svg: where else the picture goes. live, money: summaries by the real Claude, which may cost `money` ("0.50 USD").
    folder: left out, ./demo-out, or the first free of ./demo-out-2 and so on when a demo is running there. hold: keep
    the stand-in services up until Enter is pressed. state: sqlite, postgresql (a private server, for as long as the demo
    takes) or a postgresql:// address; admission: state (its own engine), redis (a private one) or a redis:// address.
    """

    only: bool = False
    json: bool = False
    seed: int = 1
    processes: int = 15
    agents: int = 4
    tasks: int = 200
    svg: Path | None = None
    live: bool = False
    money: str | None = None
    folder: Path | None = None
    hold: bool = False
    state: str = "sqlite"
    admission: str = "state"

    @property
    def private(self) -> tuple[str, ...]:
        """The servers that the demo starts for itself."""
        return tuple(name for name in ("postgresql", "redis") if name in (self.state, self.admission))

    @property
    def home_made(self) -> bool:
        """A program without holds is not let near anybody's real money."""
        return not self.only and not self.live

    def check(self) -> None:
        """Errors: ConfigError for what cannot be asked for."""
        _check_engine("--state", self.state, STATES, STATE_SCHEMES)
        _check_engine("--admission", self.admission, ADMISSIONS, ADMISSION_SCHEMES)
        if not 1 <= self.agents <= len(AGENTS):
            raise ConfigError(f"{self.agents} agents is not between 1 and {len(AGENTS)}", hint="Use --agents 4.")
        if not 2 * self.agents <= self.processes <= 64:
            raise ConfigError(
                f"{self.processes} processes is not between {2 * self.agents} (two for each agent) and 64",
                hint="Use --processes 15: an agent keeps several workers alive, and with one works itself.",
            )
        if not 1 <= self.tasks <= 300:
            raise ConfigError(f"{self.tasks} tasks is not between 1 and 300", hint="Use --tasks 200.")
        if self.live and not os.environ.get("ANTHROPIC_API_KEY"):
            raise ConfigError("--live needs a key of Anthropic", hint="Set ANTHROPIC_API_KEY, or leave --live out.")
        if self.live and self.money is None:
            raise ConfigError("--live needs to know what it may cost", hint='Add --money "0.50 USD".')
        if self.money is not None and not self.live:
            raise ConfigError("--money is of the real Claude only", hint="Add --live, or leave --money out.")


def _check_engine(option: str, said: str, words: Sequence[str], schemes: Sequence[str]) -> None:
    """One of the words, or an address with one of the schemes."""
    scheme, separator, rest = said.partition("://")
    if said in words or (separator and scheme in schemes and rest):
        return
    shown = said.partition(":")[0]  # what follows may hold a password
    near = "" if ":" in said else nearest(said, words)
    hint = f"Use {', '.join(words)}, or an address: {option} {schemes[0]}://..."
    raise ConfigError(f"{option} {shown!r} is no engine of the demo{near}", hint=hint)


@contextlib.contextmanager
def opened(folder: Path | None) -> Generator[Path]:
    """The demo's folder, emptied, held for the block. Errors: ConfigError when it is not the demo's, or in use."""
    if folder is not None:
        descriptor = _hold(folder)
        if descriptor is None:
            raise ConfigError(f"another demo is running in {folder}", hint="Wait for it, or name another --folder.")
        found = folder
    else:
        found, descriptor = _first_free()
    try:
        _empty(found)
        yield found.resolve()
    finally:
        os.close(descriptor)


def _first_free() -> tuple[Path, int]:
    for number in range(1, 100):
        folder = DEFAULT_FOLDER if number == 1 else Path(f"{DEFAULT_FOLDER}-{number}")
        descriptor = _hold(folder)
        if descriptor is not None:
            return folder, descriptor
    raise ConfigError("a hundred demos are running here", hint="Wait for one, or name a --folder.")


def _hold(folder: Path) -> int | None:
    """A descriptor that holds the folder, or None when another demo does. Errors: ConfigError when it is not the demo's."""
    marker = folder / MARKER
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} was not made by the demo, which empties its folder",
            hint="Move it away, or name another --folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
