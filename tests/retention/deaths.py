"""An archivist in a process of its own that is killed at a step, and where everything is afterwards."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import warm

import longwatch
from longwatch.runtime.archive import Archives

SCRIPT = Path(__file__).with_name("dying_archivist.py")
MARKS = ("begun", "written", "published", "verified", "listed", "known", "dropping", "finished")


class Places(NamedTuple):
    """Ids by where they are."""

    hot: set[str]
    archived: list[str]


def config_of(folder: Path, to: str = "") -> longwatch.Config:
    """to: where the archive lies; left out: in a folder."""
    return {
        "archive": {"to": to or str(folder / "archive"), "room": "1 B"},
        "fleet": {"root": str(folder)},
        "service": {"api": {"price": "0.01 USD"}},
        "budget": {"growth": {"money": "50 USD/month"}, "main": {}},
    }


def archive(state: str, config: longwatch.Config, mark: str = "", time: int = 0) -> dict[str, Any] | None:
    """None: it was killed."""
    asked = [sys.executable, str(SCRIPT), state, json.dumps(config), mark and f"archive.{mark}", str(time)]
    done = warm.run(asked, timeout=120)
    if done.returncode == -9:
        return None
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def places(state: str, config: longwatch.Config) -> Places:
    """Where each task, call and entry of the journal is that there ever was; damaged segments would be an error."""
    with longwatch.open(state, config=config) as lw:
        archives = lw.opened.parts.archives
        assert archives is not None
        with lw.opened.parts.database.read() as tx:
            hot = {row.id for row in tx.all("look.tasks", limit=999, before=None, **FILTERS)}
            hot |= {row.id for row in tx.all("call.doubts", state="settled", limit=999)}
        hot |= {f"1/{entry.seq}" for entry in lw.opened.parts.journal.after(0, limit=9_999)}
        return Places(hot, kept(archives))


def kept(archives: Archives) -> list[str]:
    """Only what is in listed segments, each of which is whole."""
    if not archives.exists():
        return []
    assert [each for each in archives.archive.verify() if each.kind in ("damaged", "missing", "manifest")] == []
    return [entry.id for segment in archives.archive.segments() for entry in archives.archive.entries(segment)]


FILTERS = {"state": None, "batch": None, "kind": None, "agent": None}


def survives(state: str, config: longwatch.Config, every: set[str], mark: str, time: int) -> None:
    assert archive(state, config, mark, time) is None, f"it never came to {mark} a {time}. time"
    found = places(state, config)
    assert every <= found.hot | set(found.archived)  # nothing is in no place
    last = archive(state, config)
    assert last is not None
    assert not last["busy"]
    found = places(state, config)
    assert every <= found.hot | set(found.archived)
    assert len(found.archived) == len(set(found.archived))
    assert found.hot.isdisjoint(found.archived)
    assert sum(name.startswith("task_") for name in found.hot) == 1  # the newest
