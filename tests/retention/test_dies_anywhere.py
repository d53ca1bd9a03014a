"""An archivist that is killed at any of its steps loses nothing, and leaves nothing in two places for whoever comes next."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import warm

import longwatch
from longwatch.runtime.archive import Archives
from longwatch.testing.postgres import shared

sys.path.insert(0, str(Path(__file__).parent))
from dying_archivist import fill, remember

SCRIPT = Path(__file__).with_name("dying_archivist.py")
MARKS = ("begun", "written", "published", "verified", "listed", "known", "dropping", "finished")


class Places(NamedTuple):
    """Ids by where they are."""

    hot: set[str]
    archived: list[str]


def config_of(folder: Path) -> longwatch.Config:
    return {
        "archive": {"to": str(folder / "archive"), "room": "1 B"},
        "fleet": {"root": str(folder)},
        "service": {"api": {"price": "0.01 USD"}},
        "budget": {"growth": {"money": "50 USD/month"}, "main": {}},
    }


def archive(state: str, folder: Path, mark: str = "", time: int = 0) -> dict[str, Any] | None:
    """None: it was killed."""
    asked = [sys.executable, str(SCRIPT), state, json.dumps(config_of(folder)), mark and f"archive.{mark}", str(time)]
    done = warm.run(asked, timeout=120)
    if done.returncode == -9:
        return None
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def places(state: str, folder: Path) -> Places:
    """Where each task, call and entry of the journal is that there ever was; damaged segments would be an error."""
    with longwatch.open(state, config=config_of(folder)) as lw:
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


def survives(state: str, folder: Path, every: set[str], mark: str, time: int) -> None:
    assert archive(state, folder, mark, time) is None, f"it never came to {mark} a {time}. time"
    found = places(state, folder)
    assert every <= found.hot | set(found.archived)  # nothing is in no place
    last = archive(state, folder)
    assert last is not None
    assert not last["busy"]
    found = places(state, folder)
    assert every <= found.hot | set(found.archived)
    assert len(found.archived) == len(set(found.archived))
    assert found.hot.isdisjoint(found.archived)
    assert sum(name.startswith("task_") for name in found.hot) == 1  # the newest


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("mark", MARKS)
def test_whoever_is_killed_while_archiving_loses_nothing(tmp_path: Path, mark: str, time: int) -> None:
    state = str(tmp_path / "state.db")
    fill(state, config_of(tmp_path))
    survives(state, tmp_path, places(state, tmp_path).hot, mark, time)


@pytest.mark.slow
def test_whoever_is_killed_at_any_step_loses_nothing(tmp_path: Path) -> None:
    template, trial = tmp_path / "template", tmp_path / "trial"
    template.mkdir()
    fill(str(template / "state.db"), config_of(template))
    every = places(str(template / "state.db"), template).hot
    shutil.copytree(template, trial)
    whole = archive(str(trial / "state.db"), trial)
    assert whole is not None
    steps = [(mark, time + 1) for mark in MARKS for time in range(whole["reached"][f"archive.{mark}"])]
    assert len(steps) > 20
    for mark, time in steps:
        shutil.rmtree(trial)
        shutil.copytree(template, trial)
        survives(str(trial / "state.db"), trial, every, mark, time)


@pytest.mark.parametrize("mark", ["listed", "dropping", "finished"])
def test_on_postgresql_too(tmp_path: Path, mark: str) -> None:
    url = shared().new_database()
    try:
        fill(url, config_of(tmp_path))
        survives(url, tmp_path, places(url, tmp_path).hot, mark, 1)
    finally:
        shared().drop(url)


def remembered(state: str, folder: Path) -> Places:
    """Where each record of memory is; whatever it says, nothing is missing from it."""
    with longwatch.open(state, config=config_of(folder)) as lw:
        archives, memory = lw.opened.parts.archives, lw.memory("seo")
        assert archives is not None
        assert memory.verify(whole=True) == ()
        assert [memory.show(f"r{n}").text for n in range(1, 71)] == [f"order {n}" for n in range(70)]
        hot = {each.id for each in archives.memories.store.range("seo", 1, 99)}
        return Places(hot, [name for name in kept(archives) if name.startswith("rec_")])


def test_whoever_is_killed_while_archiving_memory_loses_nothing(tmp_path: Path) -> None:
    template, trial = tmp_path / "template", tmp_path / "trial"
    template.mkdir()
    remember(str(template / "state.db"), config_of(template))
    every = remembered(str(template / "state.db"), template).hot
    assert len(every) == 71
    shutil.copytree(template, trial)
    whole = archive(str(trial / "state.db"), trial)
    assert whole is not None
    drops = whole["reached"]["archive.dropping"]
    steps = [(mark, whole["reached"][f"archive.{mark}"]) for mark in MARKS]  # memory comes last
    for mark, time in [*steps, *(("dropping", n) for n in range(drops - 4, drops))]:
        shutil.rmtree(trial)
        shutil.copytree(template, trial)
        state = str(trial / "state.db")
        assert archive(state, trial, mark, time) is None, (mark, time)
        found = remembered(state, trial)
        assert every == found.hot | set(found.archived), (mark, time)
        assert archive(state, trial) is not None
        found = remembered(state, trial)
        assert found.hot.isdisjoint(found.archived), (mark, time)
        assert every == found.hot | set(found.archived)
        assert (len(found.archived), len(set(found.archived))) == (30, 30)


def test_so_it_is_with_memory_on_postgresql(tmp_path: Path) -> None:
    url = shared().new_database()
    try:
        remember(url, config_of(tmp_path))
        every = remembered(url, tmp_path).hot
        assert archive(url, tmp_path, "archive.dropping".removeprefix("archive."), 3) is None
        found = remembered(url, tmp_path)
        assert every == found.hot | set(found.archived)
        assert not found.hot.isdisjoint(found.archived), "in the middle of dropping"
        assert archive(url, tmp_path) is not None
        found = remembered(url, tmp_path)
        assert (every, len(found.archived)) == (found.hot | set(found.archived), 30)
        assert found.hot.isdisjoint(found.archived)
    finally:
        shared().drop(url)
