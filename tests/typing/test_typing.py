"""What users write is accepted by both type checkers, what they must not write is refused, and the program runs."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import passes

import longwatch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def refused_lines(name: str) -> set[int]:
    lines = (HERE / name).read_text("utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def mypy_errors(name: str) -> set[int]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(HERE / name)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {int(found[1]) for found in re.finditer(rf"{name}:(\d+): error:", said)}


def pyright_errors(name: str, folder: Path) -> set[int]:
    """By a project file of its own: the project's leaves out what must not pass."""
    project = folder / "pyrightconfig.json"
    shutil.copy(HERE / name, folder)
    project.write_text(json.dumps({"include": [name], "typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project)]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout)
    assert said["summary"]["filesAnalyzed"] == 1
    found = said["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


def test_mypy_accepts_the_program() -> None:
    assert mypy_errors("passes.py") == set()


def test_pyright_accepts_the_program(tmp_path: Path) -> None:
    assert pyright_errors("passes.py", tmp_path) == set()


def test_mypy_refuses_each_misuse() -> None:
    assert mypy_errors("fails.py") == refused_lines("fails.py")


def test_pyright_refuses_each_misuse(tmp_path: Path) -> None:
    assert pyright_errors("fails.py", tmp_path) == refused_lines("fails.py")


def test_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    config: longwatch.Config = {**passes.CONFIG, "fleet": {**passes.CONFIG.get("fleet", {}), "root": str(tmp_path)}}
    with longwatch.open(tmp_path / "state" / "longwatch.db", config=config, agent="biller", budget="billing") as lw:
        lw.include(passes.crawl, passes.invoice)
        passes.submitted(lw)
        passes.without_tasks(lw.agent("seo", budget="growth"))
        asyncio.run(passes.elsewhere(lw))
    assert json.loads((tmp_path / "index.json").read_text()) == ["acme", "zenith"]
