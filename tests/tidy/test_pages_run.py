"""What the README and the pages that follow it tell a reader to type works, as it stands, in a fresh folder.

`make check` leaves this to `make test`: it takes longer than the rest of this folder together.
"""

from pathlib import Path

import pytest
from pages import ROOT, name_of, run_page

README = ROOT / "README.md"
START = ROOT / "docs" / "start.md"
FOLLOWED = [README, pytest.param(START, marks=pytest.mark.slow), *sorted((ROOT / "docs" / "howto").glob("*.md"))]


@pytest.mark.parametrize("page", FOLLOWED, ids=name_of)
def test_every_command_and_program_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    run_page(page, folder)
