"""One small demo, played once for all tests that look at what it left."""

import pytest
from demo_player import SMALL, Played, play_with_a_person_who_kills


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return play_with_a_person_who_kills(tmp_path_factory.mktemp("demo") / "out", *SMALL)
