"""Random programs of store methods, run on the model and on an engine: their answers and their states must agree.

A program is a list of acts, each with the numbers that its choices are read from; it is made from a seed alone. When
the two sides part, the program is made as short as it can be and still part them, and the error shows it in words.

    check(make_engine, seed=7, length=40)       # Disagreement or Broken, or nothing
    search(make_engine, seeds=range(300))       # how many programs it took to find a fault; None: none was found
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from longwatch.testing import (
    acts,
    acts_asides,
    acts_fleet,
    acts_gates,
    acts_learned,
    acts_leases,
    acts_limiter,
    acts_lines,
    acts_task_caps,
)
from longwatch.testing.acts import Act
from longwatch.testing.invariants import Broken
from longwatch.testing.play import Disagreement, MakeEngine, Numbers, Play

SWARM = (0.2, 1.0, 1.0, 4.0)  # each program has acts of its own that it prefers and that it avoids
WIDTH = 40  # choices that one act may make
OFTEN, CLOSELY = 3, 15  # acts between two comparisons of all tasks, and of everything
CHOICES = range(1 << 16)
TRIES = 400  # programs run to make a failing one shorter
SHARED: dict[Act, int] = {acts.again: 6, acts.wait: 2, acts.jump: 1} | acts_fleet.ACTS
FAMILIES: dict[str, dict[Act, int]] = {
    "ledger": SHARED | acts.ACTS,
    "leases": SHARED | acts_leases.ACTS,
    "calls": SHARED | acts_limiter.ACTS | acts_asides.ACTS | acts_gates.ACTS | acts_lines.ACTS | acts_learned.ACTS,
    "decisions": {acts.again: 6, acts_fleet.reboot: 1}
    | acts_limiter.ACTS
    | acts_asides.ACTS
    | acts_gates.ACTS
    | acts_learned.ACTS
    | acts_lines.ACTS,  # what an engine beside the state takes part in
}
FAMILIES["batches"] = {acts.again: 6} | acts_limiter.ACTS | {act: 5 * often for act, often in acts_asides.ACTS.items()}
FAMILIES["gates"] = SHARED | acts_limiter.ACTS | {act: 3 * often for act, often in acts_gates.ACTS.items()}
FAMILIES["caps"] = (
    {acts.again: 6}
    | acts_limiter.ACTS
    | acts_asides.ACTS
    | {act: 5 * often for act, often in acts_task_caps.ACTS.items()}
)
FAMILIES["all"] = FAMILIES["ledger"] | FAMILIES["leases"] | FAMILIES["calls"]

Line = tuple[Act, tuple[int, ...]]
Program = tuple[Line, ...]


@dataclass(frozen=True)
class Found:
    """A program that parts the engine from the model. programs: how many were run to find it."""

    seed: int
    programs: int
    program: Program
    error: BaseException

    def text(self, said: Iterable[str]) -> str:
        lines = "\n".join(f"  {line}" for line in said)
        return f"seed {self.seed}: {type(self.error).__name__} after {len(self.program)} acts\n{lines}\n{self.error}"


def check(make_engine: MakeEngine, seed: int, length: int, family: str = "all") -> None:
    """Errors: Disagreement with the seed and a minimal program, in words."""
    found = search(make_engine, seeds=[seed], length=length, family=family)
    if found is None:
        return
    minimal, said = shortened(make_engine, found)
    raise Disagreement(minimal.text(said)) from minimal.error


def search(make_engine: MakeEngine, seeds: Iterable[int], length: int = 40, family: str = "all") -> Found | None:
    """Run one program for each seed, until one of them parts the two."""
    for count, seed in enumerate(seeds, start=1):
        program = made(seed, length, family)
        error, _ = run(make_engine, program)
        if error is not None:
            return Found(seed, count, program, error)
    return None


def made(seed: int, length: int, family: str = "all") -> Program:
    """The program of a seed. Python's generator gives the same numbers on every machine."""
    generator, acts = random.Random(seed), FAMILIES[family]
    weights = [weight * generator.choice(SWARM) for weight in acts.values()]
    chosen = generator.choices(list(acts), weights=weights, k=length)
    return tuple((act, tuple(generator.choices(CHOICES, k=WIDTH))) for act in chosen)


def run(make_engine: MakeEngine, program: Program) -> tuple[BaseException | None, list[str]]:
    """What went wrong, if anything did, and what the program did in words."""
    play = Play(make_engine, acts_limiter.NARROW)
    try:
        for place, (act, numbers) in enumerate(program, start=1):
            act(play, Numbers(list(numbers)))
            if place % OFTEN == 0:
                play.compare()
            if place % CLOSELY == 0 or place == len(program):
                play.compare_closely()
    except Exception as error:  # noqa: BLE001 - whatever an engine raises beside Longwatch's errors is a fault of it
        return error, play.said
    finally:
        play.close()
    return None, play.said


def shortened(make_engine: MakeEngine, found: Found) -> tuple[Found, list[str]]:
    """Leave out acts, in ever smaller groups, as long as the two sides still part; then what the rest did, in words."""
    program, error, left = found.program, found.error, TRIES
    size = max(1, len(program) // 2)
    while left > 0:
        shorter = False
        for start in range(0, len(program), size):
            candidate = program[:start] + program[start + size :]
            wrong, _ = run(make_engine, candidate)
            left -= 1
            if wrong is not None and type(wrong) is type(error):
                program, error, shorter = candidate, wrong, True
                break
        if not shorter:
            if size == 1:
                break
            size = max(1, size // 2)
    _, said = run(make_engine, program)
    return Found(found.seed, found.programs, program, error), said


__all__ = ["Broken", "Disagreement", "Found", "MakeEngine", "check", "made", "run", "search", "shortened"]
