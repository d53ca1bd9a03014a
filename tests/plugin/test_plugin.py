"""The plugin as pytest sees it: it is cheap to have, and what a stranger writes with it works."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from longwatch.sandbox import Sandbox
from longwatch.testing import Effects, VirtualFleet

ROOT = Path(__file__).parents[2]
NAME = "longwatch.testing.plugin"
STRANGER = """
import pytest
from longwatch import Run, task
from longwatch.testing import survives_crashes

@task(retries=1)
def greet(run: Run, name: str) -> str:
    with run.call("post"):
        return run.step("say", str.title, name)

@pytest.fixture
def lw_config():
    return {"service": {"post": {"rate": "1/hour", "burst": 1}}}

def test_greetings_are_an_hour_apart(lw, clock):
    lw.include(greet)
    before = clock.now()
    tasks = [lw.submit(greet.bind(name)) for name in ("ada", "grace")]
    lw.work(until_idle=True)
    assert [lw.wait(task).result for task in tasks] == ["Ada", "Grace"]
    assert (clock.now() - before).total_seconds() == pytest.approx(3600, abs=60)

def test_a_greeting_survives_crashes(lw):
    lw.include(greet)
    survives_crashes(lw, greet.bind("ada"), check=lambda lw, task: task.result == "Ada")

@pytest.mark.longwatch(config={})
def test_wrong(lw, effects):
    @lw.task()
    def mail(run: Run) -> None:
        run.step("mail", effects.add, "mail")
    survives_crashes(lw, mail.bind())
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_package_brings_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name = project["entry-points"]["pytest11"]["longwatch"]
    assert name == NAME
    assert importlib.import_module(name).pytest_configure


def test_loading_the_plugin_imports_nothing_of_the_rest(tmp_path: Path) -> None:
    code = (
        f"import sys, {NAME}; print(*(name for name in sys.modules if name.startswith(('longwatch', 'apsw', 'httpx'))))"
    )
    ended = python("-c", code, cwd=tmp_path)
    assert ended.stdout.split() == ["longwatch", "longwatch.testing", NAME], ended.stderr


def test_testing_needs_no_pytest(tmp_path: Path) -> None:
    code = "import sys; from longwatch.testing import Effects, drain, survives_crashes; print('pytest' in sys.modules)"
    ended = python("-c", code, cwd=tmp_path)
    assert ended.stdout.strip() == "False", ended.stderr


def test_a_stranger_tests_a_handler_in_a_folder_of_his_own(tmp_path: Path) -> None:
    (tmp_path / "test_greet.py").write_text(STRANGER, "utf-8")
    ended = python("-m", "pytest", "-W", "error", "--strict-markers", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "1 failed" in ended.stdout, ended.stdout + ended.stderr
    assert 'effect "mail": 2 instead of 1' in ended.stdout, ended.stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["test_greet.py"]


def test_the_environment_leads_to_the_sandbox(sandbox: Sandbox) -> None:
    assert os.environ["STRIPE_API_BASE"] == sandbox.base_urls["stripe"]
    assert sandbox.counts()["stripe"]["requests"] == 0


def test_every_test_has_a_fleet_of_its_own(lw: VirtualFleet, effects: Effects, tmp_path: Path) -> None:
    assert lw.root == tmp_path
    assert lw.opened.parts.tasks.next_due() is None
    assert effects.all() == []


@pytest.mark.parametrize("name", ["clock", "effects", "lw", "lw_config", "sandbox"])
def test_every_fixture_says_what_it_is(name: str) -> None:
    assert importlib.import_module(NAME).__dict__[name].__doc__
