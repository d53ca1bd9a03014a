"""Every engine does what the dictionaries say, and the comparison would notice if it did not."""

import os
import random
from pathlib import Path

import pytest
from engines import ENGINES, in_memory

from longwatch.db import statements
from longwatch.testing import conformance, mutants_admission, mutants_store
from longwatch.testing.conformance import Disagreement
from longwatch.testing.mutants_store import Mutant

LENGTH = 30
ENOUGH = 1_200  # programs in which every planted fault has to be found
QUICK = {
    "sqlite in memory": 25,
    "sqlite on a file": 3,
    "postgres": 4,
    "redis": 25,
}  # programs of each family in the quick suite
SHARE = int(os.environ.get("LONGWATCH_SHARE", "100"))  # percent of the long runs
LONG = {
    "sqlite in memory": max(400, 1_500 * SHARE // 100),
    "sqlite on a file": 50,
    "postgres": 150 * SHARE // 100,
    "redis": 500 * SHARE // 100,
}
PAIRS = [
    (engine, family)
    for engine in ENGINES
    for family in conformance.FAMILIES
    if family in ("batches", "caps")
    or (engine == "redis")
    == (family == "decisions")  # it only decides about calls; for the others these are in "calls"
]
MUTANTS = mutants_store.MUTANTS + mutants_admission.MUTANTS


@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_random_programs_agree_with_the_model(engine: str, family: str, tmp_path: Path) -> None:
    for seed in range(QUICK[engine]):
        conformance.check(ENGINES[engine](tmp_path), seed, LENGTH, family)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_many_long_programs_agree_with_the_model(engine: str, family: str, tmp_path: Path) -> None:
    first = random.SystemRandom().randrange(1 << 32)  # other programs every time; the error names the seed
    for seed in range(first, first + LONG[engine]):
        conformance.check(ENGINES[engine](tmp_path), seed, 2 * LENGTH, family)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found(mutant: Mutant) -> None:
    with mutant.plant():
        found = conformance.search(in_memory, range(ENOUGH), LENGTH, mutant.family)
    assert found is not None, f"{mutant.name}: not found in {ENOUGH} programs of {LENGTH} acts"
    print(f"{mutant.name}: found by program {found.programs}")  # noqa: T201 - the figure is what the test measures


def test_a_planted_fault_is_gone_after_its_block() -> None:
    before = dict(statements.load("sqlite"))
    for mutant in MUTANTS:
        with mutant.plant():
            pass
    assert statements.load("sqlite") == before
    conformance.check(in_memory, 0, LENGTH)


def test_a_fault_is_shown_with_its_seed_and_a_short_program() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "a key is ignored")
    with mutant.plant():
        found = conformance.search(in_memory, range(ENOUGH), LENGTH, "ledger")
        assert found is not None
        with pytest.raises(Disagreement, match=rf"seed {found.seed}: ConstraintError after [1-4] acts\n"):
            conformance.check(in_memory, found.seed, LENGTH, "ledger")


def test_a_seed_is_one_program() -> None:
    assert conformance.made(7, LENGTH) == conformance.made(7, LENGTH) != conformance.made(8, LENGTH)
