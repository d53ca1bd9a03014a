"""What people do wrong. Each is a real process; each message says what to do; and nothing is lost by any of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import Said, Shell, shop

from longwatch.db import statements

STATE = ".longwatch/longwatch.db"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet with one ready task in it."""
    folder = tmp_path_factory.mktemp("made") / "shop"
    folder.mkdir()
    shell = shop(folder)
    assert shell("task", "submit", "greet", "name=ada").status == 0
    return folder


@pytest.fixture
def shell(made: Path, tmp_path: Path) -> Shell:
    return Shell(Path(shutil.copytree(made, tmp_path / "shop")))


def refused(said: Said, status: int, *words: str) -> None:
    """It ended so, with these words, and told more than what is wrong."""
    assert said.status == status, said
    for word in words:
        assert word in said.err, f"{word!r} is not in:\n{said.err}"
    lines = said.err.strip().splitlines()
    assert len(lines) >= 2, f"it does not say what to do: {said.err}"
    assert len(lines) <= 12, f"nobody reads that at night: {said.err}"


# -- configuration -----------------------------------------------------------------------------------------------------------

TOML = {
    "an unknown key": ('[fleet]\nmonney = "5 USD/month"\n', "longwatch.toml:2", "did you mean money?"),
    "a bad rate": ('[service.api]\nrate = "25 per second"\n', "longwatch.toml:2", '"25/s"'),
    "a month as a rate": ('[service.api]\nrate = "5000/month"\n', "longwatch.toml:2", "quota"),
    "money as a number": ("[fleet]\nmoney = 20\n", "longwatch.toml:2", "USD/month"),
    "a duration without a unit": ("[fleet]\nlease = 60\n", "longwatch.toml:2", '"90s"'),
    "bad TOML": ('[fleet\nname = "shop"\n', "longwatch.toml:1", "not TOML"),
    "a key in the file": ('[service.stripe]\nkey = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"\n', "longwatch.toml:2", "env"),
}


@pytest.mark.parametrize("what", TOML)
def test_a_wrong_config_names_file_line_and_remedy(shell: Shell, what: str) -> None:
    text, *words = TOML[what]
    shell.write("longwatch.toml", text)
    said = shell("status")
    refused(said, 2, *words)
    assert "4eC39" not in said.err, "a secret is not shown"
    shell.write("longwatch.toml", '[fleet]\nname = "shop"\n')
    assert shell.tasks() == {"ready": 1}


def test_a_folder_without_a_fleet_says_how_to_begin(tmp_path: Path) -> None:
    refused(Shell(tmp_path)("status"), 2, "there is no fleet here", "longwatch init")
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_a_config_that_is_not_there_is_named(shell: Shell) -> None:
    refused(shell("--config", "nowhere.toml", "status"), 2, "nowhere.toml")


# -- the state ---------------------------------------------------------------------------------------------------------------


def test_a_mistyped_state_is_not_founded(shell: Shell) -> None:
    refused(shell("--state", "lngwatch.db", "status"), 2, "there is no state at", "--state")
    assert not (shell.folder / "lngwatch.db").exists()


def test_a_state_that_is_a_folder_is_refused(shell: Shell) -> None:
    refused(shell("--state", ".longwatch", "status"), 1, ".longwatch")


def test_a_state_that_is_no_database_is_refused_and_left_alone(shell: Shell) -> None:
    place = shell.write("notes.db", "dear diary\n" * 100)
    refused(shell("--state", "notes.db", "status"), 1, "not a Longwatch state")
    assert place.read_text() == "dear diary\n" * 100


def test_a_state_of_a_newer_version_is_refused_and_left_alone(shell: Shell) -> None:
    set_schema(shell.folder / STATE, 999)
    refused(shell("status"), 1, "schema is number 999", "Upgrade Longwatch")
    set_schema(shell.folder / STATE, statements.migrations()[-1][0])
    assert shell.tasks() == {"ready": 1}


def set_schema(place: Path, number: int) -> None:
    script = f"import apsw, sys; apsw.Connection(sys.argv[1]).execute('pragma user_version = {number}')"
    Shell(place.parent).python("-c", script, str(place))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of our own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_state_is_refused_with_the_reason(shell: Shell, mounted: Path) -> None:
    shutil.copy(shell.folder / STATE, mounted / "longwatch.db")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    there = Shell(shell.folder, {"LONGWATCH_STATE": str(mounted / "longwatch.db")})
    refused(there("status"), 1, "Read-only file system")
    doctor = there("doctor", "--json")
    assert doctor.status == 1
    wrong = {check["check"] for check in doctor.json["checks"] if check["level"] == "wrong"}
    assert {"state", "file system"} <= wrong
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    assert there.tasks() == {"ready": 1}


def test_a_full_disk_is_refused_and_loses_nothing(shell: Shell, mounted: Path) -> None:
    shutil.copy(shell.folder / STATE, mounted / "longwatch.db")
    there = Shell(shell.folder, {"LONGWATCH_STATE": str(mounted / "longwatch.db")})
    with (mounted / "ballast").open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), bytes(4096))
            except OSError:
                break
    said = there("task", "submit", "greet", "name=eve")
    refused(said, 1, "its disk is full", "Free some space")
    doctor = there("doctor", "--json")
    assert [check["level"] for check in doctor.json["checks"] if check["check"] == "disk"] == ["wrong"]
    (mounted / "ballast").unlink()
    assert there.tasks() == {"ready": 1}
    assert there("task", "submit", "greet", "name=eve").status == 0


def test_a_program_whose_limits_another_one_has_replaced_makes_no_more_calls(shell: Shell) -> None:
    program = (
        "import sys, longwatch\n"
        "config = {'fleet': {'money': sys.argv[2] + ' USD/day'}, 'service': {'bank': {'price': '1 USD'}}}\n"
        "lw = longwatch.open(sys.argv[1], config=config)\n"
        "try:\n"
        "    with lw.call('bank'): print('called', flush=True)\n"
        "    if len(sys.argv) > 3:\n"
        "        input()\n"
        "        with lw.call('bank'): print('called')\n"
        "except longwatch.LongwatchError as error: print(type(error).__name__, error)\n"
    )
    place = str(shell.folder / "two.db")
    first = subprocess.Popen(
        [sys.executable, "-c", program, place, "100", "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "called\n"
    assert shell.python("-c", program, place, "1").out.startswith("BudgetExceeded")
    out, _ = first.communicate("\n", timeout=60)
    assert out.startswith("ConfigError the limits or budgets of this fleet were changed by another process")


# -- tasks -------------------------------------------------------------------------------------------------------------------

SUBMITS: dict[str, tuple[list[str], int, list[str]]] = {
    "JSON that is not": (["greet", '{"name": ada}'], 2, ["not JSON", "Quote"]),
    "a JSON list": (["greet", '["ada"]'], 2, ["not an object"]),
    "words that are no arguments": (["greet", "ada"], 2, ["NAME=VALUE"]),
    "a file that is not there": (["greet", "@none.json"], 2, ["none.json", "cannot be read"]),
    "an argument twice": (["greet", "name=ada", "name=bob"], 2, ["given twice"]),
    "an unknown kind": (["greeet", "name=ada"], 1, ["did you mean greet?"]),
    "an unknown lane": (["greet", "name=ada", "--lane", "fast"], 2, ["urgent"]),
    "a need that does not exist": (["greet", "name=ada", "--after", "task_none"], 1, ["task_none"]),
    "an instant without a zone": (["greet", "name=ada", "--at", "2026-12-01T09:00:00"], 2, ["time zone"]),
    "a length without a unit": (["greet", "name=ada", "--at", "10"], 2, ["10m"]),
}


def test_arguments_may_come_from_a_file_or_be_piped_in(shell: Shell) -> None:
    (shell.folder / "eve.json").write_text('{"name": "eve"}', "utf-8")
    assert shell("task", "submit", "greet", "@eve.json").status == 0
    assert shell("task", "submit", "greet", "-", given='{"name": "bob"}').status == 0
    given = [task["args"] for task in shell("task", "list", "--json").json["tasks"]]
    assert given[:2] == [{"name": "bob"}, {"name": "eve"}]


@pytest.mark.parametrize("what", SUBMITS)
def test_a_task_that_cannot_be_meant_is_refused(shell: Shell, what: str) -> None:
    words, status, parts = SUBMITS[what]
    refused(shell("task", "submit", *words), status, *parts)
    assert shell.tasks() == {"ready": 1}


def test_a_payload_above_the_limit_is_refused(shell: Shell) -> None:
    shell.write("longwatch.toml", '[fleet]\nname = "shop"\npayload = "2 KiB"\n')
    refused(shell("task", "submit", "greet", "name=" + "a" * 5000), 1, "2")
    assert shell.tasks() == {"ready": 1}


def test_a_key_with_other_arguments_is_refused(shell: Shell) -> None:
    assert shell("task", "submit", "greet", "name=bob", "--key", "k").status == 0
    assert shell("task", "submit", "greet", "name=bob", "--key", "k").status == 0
    refused(shell("task", "submit", "greet", "name=eve", "--key", "k"), 1, "key", "other arguments")
    assert shell.tasks() == {"ready": 2}


def test_a_task_that_is_not_unknown_has_nothing_to_resolve(shell: Shell) -> None:
    task = shell("task", "list", "--json").json["tasks"][0]["id"]
    refused(shell("task", "resolve", task, "done"), 2, "not unknown", "longwatch show")
    refused(shell("task", "resolve", task, "done", "--result", "{"), 2, "not JSON")
    assert shell.tasks() == {"ready": 1}


@pytest.mark.parametrize(
    ("kind", "words"),
    [("odd", ["the result of odd", "JSON"]), ("twice", ["StepReused", "'a'"]), ("bad", ["no such customer"])],
)
def test_a_handler_that_is_wrong_fails_its_task_and_says_why(shell: Shell, kind: str, words: list[str]) -> None:
    task = shell("task", "submit", kind, "--json").json["id"]
    assert shell("work", "shop", "--until-idle").status == 0
    found = shell("task", "show", task, "--json").json
    assert found["state"] == "failed"
    for word in words:
        assert word in found["error"]
    assert shell.tasks() == {"done": 1, "failed": 1}


# -- work --------------------------------------------------------------------------------------------------------------------

MODULES = {
    "a module that is not there": ("shopp", "", "did you mean shop?"),
    "a file instead of a module": ("shop.py", "", "longwatch work shop"),
    "a module without a fleet": ("empty", "x = 1\n", "has no fleet"),
    "a module with two fleets": (
        "two",
        'import longwatch\none, other = longwatch.open("1.db"), longwatch.open("2.db")\n',
        "two:one or two:other",
    ),
    "a module without handlers": ("bare", "import longwatch\nlw = longwatch.open()\n", "no handler"),
    "a name that is not there": ("shop:lww", "", "did you mean lw?"),
    "a name that is no fleet": ("shop:greet", "", "is a Handler"),
    "a module that cannot be imported": (
        "faulty",
        "x = 1\n1 / 0\n",
        "ZeroDivisionError: division by zero (faulty.py:2)",
    ),
    "a module that needs another": ("needy", "import nowhere\n", "No module named 'nowhere'"),
    "a module that works when imported": (
        "eager",
        "import longwatch\nlw = longwatch.open()\n@lw.task()\ndef a(run): ...\nlw.work(until_idle=True)\n",
        'if __name__ == "__main__":',
    ),
    "a module that exits": ("leaver", "import sys\nsys.exit(0)\n", "SystemExit"),
}


@pytest.mark.parametrize("what", MODULES)
def test_work_on_something_that_is_no_fleet_says_what_is_missing(shell: Shell, what: str) -> None:
    module, text, word = MODULES[what]
    if text:
        shell.write(f"{module}.py", text)
    refused(shell("work", module, "--until-idle"), 2, word)
    assert shell.tasks() == {"ready": 1}


NOTEBOOK = """\
import longwatch
from longwatch import Run
lw = longwatch.open()
@lw.task()
def cell(run: Run) -> int: return 1
try:
    lw.work(processes=2, until_idle=True)
except longwatch.ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("way", ["python -c", "python - <"])
def test_handlers_of_a_notebook_cannot_be_spawned_and_it_is_said_in_one_line(shell: Shell, way: str) -> None:
    shell = Shell(shell.folder, cold=True)
    said = shell.python("-c", NOTEBOOK) if way == "python -c" else shell.python("-", given=NOTEBOOK)
    assert said.status == 0, said
    assert "notebook" in said.out
    assert "processes=1" in said.out
    assert shell.tasks() == {"ready": 1}


def test_a_script_without_a_guard_is_told_so_and_does_not_breed(shell: Shell) -> None:
    text = NOTEBOOK.replace("try:\n    lw.work", "lw.submit(cell.bind())\ntry:\n    lw.work")
    shell.write("script.py", text)
    said = shell.python("script.py")
    assert said.status == 0, said
    assert 'if __name__ == "__main__":' in said.out
    assert shell.tasks() == {"ready": 2}, "submitted once, by the script itself"


def test_a_name_that_works_already_is_refused(shell: Shell) -> None:
    first = shell.start("work", "shop", "--name", "night")
    try:
        for _ in range(600):
            if shell("status", "--json").json["workers"]:
                break
            assert first.poll() is None
        refused(shell("work", "shop", "--name", "night", "--until-idle"), 2, "night", str(first.pid))
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert shell("work", "shop", "--name", "night", "--until-idle").status == 0, "the name is free again"
