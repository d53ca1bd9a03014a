"""What the README and the pages that follow it tell a reader to type works, as it stands, in a fresh folder."""

import tomllib
from pathlib import Path

import pytest
from pages import ROOT, blocks_of, commands, makes, name_of, pages, run_page, targets

README = ROOT / "README.md"
EXAMPLE_MOST = 24  # lines, without blank ones
START = ROOT / "docs" / "start.md"
FOLLOWED = [README, pytest.param(START, marks=pytest.mark.slow), *sorted((ROOT / "docs" / "howto").glob("*.md"))]


@pytest.mark.parametrize("page", FOLLOWED, ids=name_of)
def test_every_command_and_program_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    run_page(page, folder)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_make_command_is_a_target_of_the_makefile(page: Path) -> None:
    told = {makes(line) for block in blocks_of(page) if block.language == "sh" for line in commands(block)} - {None}
    assert told <= targets(), f"{name_of(page)}: no such target: {told - targets()}"


def test_the_readme_shows_the_two_commands_the_picture_and_one_short_program() -> None:
    text = README.read_text("utf-8")
    assert "make demo" in text
    assert "make test" in text
    assert "(docs/demo.svg)" in text
    programs = [block for block in blocks_of(README) if block.language == "python"]
    assert len(programs) == 1
    assert sum(bool(line.strip()) for line in programs[0].text.splitlines()) <= EXAMPLE_MOST


def test_the_readme_names_the_python_that_the_package_needs() -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert f"Python {needs.removeprefix('>=')} or newer" in README.read_text("utf-8")
