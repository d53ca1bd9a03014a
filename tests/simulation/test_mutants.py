"""The simulation finds every planted fault, and without one it finds nothing (test_simulation.py)."""

from itertools import product

import pytest

from longwatch.testing.mutants import MUTANTS
from longwatch.testing.simulation import simulate

SEEDS = range(1, 13)
QUICK = ("one need is enough", "a key is ignored", "the slot is not waited for", "one place too many")


def found(mutant: str, *, days: int) -> tuple[int, str] | None:
    """(the seed that finds it, the promise that it breaks or the error that it ends by).

    Where much fails, little waits in line: so also without faults.
    """
    for seed, faults in product(SEEDS, ("storm", "none")):
        with MUTANTS[mutant]():
            try:
                result = simulate(days=days, agents=4, seed=seed, faults=faults)
            except Exception as error:  # noqa: BLE001 - the code under test ended by it, which it never does unplanted
                return seed, type(error).__name__
        if result.broken is not None:
            return seed, str(result.broken["promise"])
    return None


@pytest.mark.parametrize("mutant", QUICK)
def test_a_planted_fault_is_found(mutant: str) -> None:
    assert found(mutant, days=1) is not None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [name for name in MUTANTS if name not in QUICK])
def test_every_planted_fault_is_found(mutant: str, capsys: pytest.CaptureFixture[str]) -> None:
    caught = found(mutant, days=2)
    with capsys.disabled():
        print(f"\n{mutant}: {caught}")  # noqa: T201
    assert caught is not None, f"no seed of {list(SEEDS)} finds that {mutant}"


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_a_mutant_leaves_no_trace(mutant: str) -> None:
    """Planted and taken out again; one that the code has outgrown says so."""
    with MUTANTS[mutant]():
        pass
