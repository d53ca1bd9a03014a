"""What the README and the other pages tell a reader to type is there, and the README is as short as it has to be."""

import tomllib
from pathlib import Path

import pytest
from pages import ROOT, blocks_of, commands, makes, name_of, pages, targets

README = ROOT / "README.md"
EXAMPLE_MOST = 24  # lines, without blank ones


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
