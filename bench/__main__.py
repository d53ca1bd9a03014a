"""`python -m bench NAME [ARGUMENT...]` runs one bench; `python -m bench` lists them; `python -m bench all` runs them all.

A bench is a module of this package with `main(arguments) -> int`: 0 when its bar is met. Each writes its figures to
bench/results/NAME.json.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

APART = {"harness", "fault_writers"}  # parts of benches


def names() -> list[str]:
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if not name.startswith("_") and name not in APART)


def run(name: str, arguments: list[str]) -> int:
    status: int = importlib.import_module(f"bench.{name}").main(arguments)
    return status


def main(arguments: list[str]) -> int:
    if not arguments:
        for name in names():
            print(f"{name:<16} {(importlib.import_module(f'bench.{name}').__doc__ or '').splitlines()[0]}")
        return 0
    name, *rest = arguments
    if name == "all":
        return max(run(each, rest) for each in names())
    if name not in names():
        print(f"there is no bench {name!r}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    return run(name, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
