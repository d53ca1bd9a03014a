"""An archivist that is killed at any of its steps loses nothing, and leaves nothing in two places for whoever comes next."""

import shutil
import sys
from pathlib import Path

import pytest

import longwatch
from longwatch.testing.postgres import shared

sys.path.insert(0, str(Path(__file__).parent))
from deaths import MARKS, Places, archive, config_of, kept, places, survives
from dying_archivist import fill, remember


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("mark", MARKS)
def test_whoever_is_killed_while_archiving_loses_nothing(tmp_path: Path, mark: str, time: int) -> None:
    state = str(tmp_path / "state.db")
    fill(state, config_of(tmp_path))
    survives(state, config_of(tmp_path), places(state, config_of(tmp_path)).hot, mark, time)


@pytest.mark.slow
def test_whoever_is_killed_at_any_step_loses_nothing(tmp_path: Path) -> None:
    template, trial = tmp_path / "template", tmp_path / "trial"
    template.mkdir()
    fill(str(template / "state.db"), config_of(template))
    every = places(str(template / "state.db"), config_of(template)).hot
    shutil.copytree(template, trial)
    whole = archive(str(trial / "state.db"), config_of(trial))
    assert whole is not None
    steps = [(mark, time + 1) for mark in MARKS for time in range(whole["reached"][f"archive.{mark}"])]
    assert len(steps) > 20
    for mark, time in steps:
        shutil.rmtree(trial)
        shutil.copytree(template, trial)
        survives(str(trial / "state.db"), config_of(trial), every, mark, time)


@pytest.mark.parametrize("mark", ["listed", "dropping", "finished"])
def test_on_postgresql_too(tmp_path: Path, mark: str) -> None:
    url = shared().new_database()
    try:
        fill(url, config_of(tmp_path))
        survives(url, config_of(tmp_path), places(url, config_of(tmp_path)).hot, mark, 1)
    finally:
        shared().drop(url)


def remembered(state: str, config: longwatch.Config) -> Places:
    """Where each record of memory is; whatever it says, nothing is missing from it."""
    with longwatch.open(state, config=config) as lw:
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
    every = remembered(str(template / "state.db"), config_of(template)).hot
    assert len(every) == 71
    shutil.copytree(template, trial)
    whole = archive(str(trial / "state.db"), config_of(trial))
    assert whole is not None
    drops = whole["reached"]["archive.dropping"]
    steps = [(mark, whole["reached"][f"archive.{mark}"]) for mark in MARKS]  # memory comes last
    for mark, time in [*steps, *(("dropping", n) for n in range(drops - 4, drops))]:
        shutil.rmtree(trial)
        shutil.copytree(template, trial)
        state = str(trial / "state.db")
        assert archive(state, config_of(trial), mark, time) is None, (mark, time)
        found = remembered(state, config_of(trial))
        assert every == found.hot | set(found.archived), (mark, time)
        assert archive(state, config_of(trial)) is not None
        found = remembered(state, config_of(trial))
        assert found.hot.isdisjoint(found.archived), (mark, time)
        assert every == found.hot | set(found.archived)
        assert (len(found.archived), len(set(found.archived))) == (30, 30)


def test_so_it_is_with_memory_on_postgresql(tmp_path: Path) -> None:
    url = shared().new_database()
    try:
        remember(url, config_of(tmp_path))
        every = remembered(url, config_of(tmp_path)).hot
        assert archive(url, config_of(tmp_path), "archive.dropping".removeprefix("archive."), 3) is None
        found = remembered(url, config_of(tmp_path))
        assert every == found.hot | set(found.archived)
        assert not found.hot.isdisjoint(found.archived), "in the middle of dropping"
        assert archive(url, config_of(tmp_path)) is not None
        found = remembered(url, config_of(tmp_path))
        assert (every, len(found.archived)) == (found.hot | set(found.archived), 30)
        assert found.hot.isdisjoint(found.archived)
    finally:
        shared().drop(url)
