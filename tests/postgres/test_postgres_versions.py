"""The programs of PostgreSQL, run on the other versions of the server that this machine has."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longwatch.testing import postgres

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/conformance", "tests/postgres")
SHARE = int(os.environ.get("LONGWATCH_SHARE", "100"))


def others() -> list[int]:
    """The versions that are here, the oldest first; only that one, where no more than a share of everything is run."""
    found: list[int] = []
    for version in (14, 15, 16, 17):
        with contextlib.suppress(LookupError):
            postgres.programs(version)
            found.append(version)
    return found if SHARE >= 100 else found[:1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", others())
def test_the_state_is_the_same_on_an_older_server(version: int) -> None:
    only = ("-m", "not slow", "-k", "postgres", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-q", *only, *FOLDERS]
    environ = os.environ | {"LONGWATCH_POSTGRES": str(version)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
