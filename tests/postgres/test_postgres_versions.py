"""The programs of PostgreSQL, run on the other versions of the server that this machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from longwatch.testing import postgres

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/conformance", "tests/postgres")
OTHERS = [version for version in (14, 15, 16, 17) if version != postgres.VERSION]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", OTHERS)
def test_the_state_is_the_same_on_an_older_server(version: int) -> None:
    try:
        postgres.programs(version)
    except LookupError as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *FOLDERS]
    environ = os.environ | {"LONGWATCH_POSTGRES": str(version)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
