"""A small demo, played for real: processes, faults, stand-in services; and what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import psutil
import pytest
from demo_player import KILLABLE, SMALL, Played, command, play

from longwatch.demo import catalogue
from longwatch.demo.checks import BILL, INDEX, LEDGER, PAYMENTS, REFUSED, Filter

COLUMN = {
    "tasks": {"submitted", "done", "failed", "lost", "twice"},
    "money": {"currency", "cap_micros", "spent_micros", "billed_micros", "budgets"},
    "catalogue": {"consistent", "flaws", "readings", "flawed_readings"},
    "faults": {"killed", "frozen", "outage_s"},
}
FLAT = {"answers", "refused", "promises", "repeated_calls", "seconds"}

pytestmark = pytest.mark.timeout(200)


def test_it_ends_with_0_and_every_promise_kept(small: Played) -> None:
    assert small.status == 0, small.said
    assert [promise["id"] for promise in small.data["promises"]] == ["P1", "P2", "P3", "P4", "P7"]
    assert all(promise["kept"] for promise in small.data["promises"]), small.data["promises"]


def test_its_answer_has_the_promised_shape(small: Played) -> None:
    assert set(small.data) == {*COLUMN, *FLAT, "home_made", "total_seconds"}
    for name, fields in COLUMN.items():
        assert set(small.data[name]) == fields
    assert small.data["home_made"] is None
    for promise in small.data["promises"]:
        assert set(promise) == {"id", "kept", "checked", "command"}


def test_every_task_is_done_once_while_workers_die_and_freeze(small: Played) -> None:
    assert small.data["tasks"] == {"submitted": 24, "done": 24, "failed": 0, "lost": 0, "twice": 0}
    assert small.data["faults"]["killed"] in (3, 4)  # by the demo, and by a person: perhaps one with nothing in hand
    assert KILLABLE in small.said
    assert small.data["faults"]["frozen"] == 1
    assert small.data["faults"]["outage_s"] == 6.0
    assert set(small.data["answers"]) >= {"200", "201"}
    assert "429" not in small.data["answers"]


def test_it_books_no_less_than_it_is_billed_and_never_above_a_cap(small: Played) -> None:
    money = small.data["money"]
    assert 0 < money["billed_micros"] <= money["spent_micros"] <= money["cap_micros"]
    for name, purse in money["budgets"].items():
        assert 0 < purse["billed_micros"] <= purse["spent_micros"] <= purse["cap_micros"], name


def test_the_catalogue_on_disk_agrees_with_itself(small: Played) -> None:
    texts = catalogue.read_all(small.folder / "longwatch" / "catalogue")
    assert catalogue.flaws(texts) == []
    assert len(texts[catalogue.LEDGER].splitlines()) == 24


def test_the_commands_it_prints_find_what_it_says(small: Played) -> None:
    said = {promise["id"]: _typed(promise["command"]) for promise in small.data["promises"]}
    assert said["P3"].strip() == "0"
    assert json.loads(said["P1"]) == {"modules": 24, "payments": 24, "most_for_one": 1}
    ledger, index = (json.loads(line) for line in said["P2"].splitlines())
    assert ledger == {"n": 24, "sum": index["pence"], "wrong": 0}
    assert int(said["P4"]) == small.data["money"]["budgets"]["reviews"]["billed_micros"]
    assert 1 <= len(said["P7"].splitlines()) <= 5  # a line of the ledger for each task whose worker was struck


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed: the commands are Python already")
@pytest.mark.parametrize(
    ("question", "file"),
    [
        (PAYMENTS, "effects.json"),
        (LEDGER, "catalogue/ledger.jsonl"),
        (INDEX, "catalogue/index.json"),
        (REFUSED, "counts.json"),
        (BILL, "bill.json"),
    ],
    ids=["payments", "ledger", "index", "refused", "bill"],
)
def test_a_check_says_the_same_with_and_without_jq(small: Played, question: Filter, file: str) -> None:
    path = small.folder / "longwatch" / file
    answers = [_typed(f"{question.command(has_jq=has_jq)} < {path}") for has_jq in (True, False)]
    assert json.loads(answers[0]) == json.loads(answers[1].replace("'", '"'))


def _typed(line: str) -> str:
    """What a person sees who types the command."""
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def test_the_picture_is_valid_and_stands_for_itself(small: Played) -> None:
    text = (small.folder / "demo.svg").read_text("utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width") == "900"
    for outside in ("<script", "href", "@import", "url(", "<image"):
        assert outside not in text


def test_a_damaged_catalogue_is_reported_and_ends_with_3(tmp_path: Path) -> None:
    """A hand reaches into the catalogue between the last edit and the verdict."""
    script = tmp_path / "tampering.py"
    script.write_text(TAMPERING, "utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 3, done.stderr
    broken = [promise for promise in json.loads(done.stdout)["promises"] if not promise["kept"]]
    assert [promise["id"] for promise in broken] == ["P1", "P2"]
    assert "ledger.jsonl" in broken[1]["checked"]


TAMPERING = """
import sys
from pathlib import Path
from longwatch.demo import Options
from longwatch.demo.column import Column
from longwatch.demo.conductor import conduct


def tamper(column: Column) -> None:
    ledger = column.folder / "catalogue" / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:-1]))


options = Options(only=True, json=True, tasks=3, processes=2, agents=1, folder=Path(sys.argv[1]))
sys.exit(conduct(options, before=tamper))
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["ctrl-c", "sigterm"]
)
def test_an_interrupted_demo_leaves_no_process_and_says_where_things_are(tmp_path: Path, number: int) -> None:
    demo = subprocess.Popen(
        command(tmp_path / "out", *SMALL), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert demo.stderr is not None
    said = iter(demo.stderr.readline, "")
    assert any("worker" in line and "killed" in line for line in said)  # it is in the middle of its work
    left = psutil.Process(demo.pid).children(recursive=True)
    assert len(left) >= 5
    os.kill(demo.pid, number)
    _, rest = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive
    assert "Interrupted" in rest
    assert "out" in rest


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(420)
def test_the_whole_demo_shows_both_programs(tmp_path: Path) -> None:
    whole = play(tmp_path / "out", timeout_s=400)
    assert whole.status == 0, whole.said
    assert whole.data["tasks"] == {"submitted": 200, "done": 200, "failed": 0, "lost": 0, "twice": 0}
    assert whole.data["refused"] == 0
    home_made: dict[str, Any] = whole.data["home_made"]
    assert home_made["tasks"]["submitted"] == 60
    assert {promise["id"] for promise in home_made["promises"]} == {"P1", "P2", "P3", "P4", "P7"}
