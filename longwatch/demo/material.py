"""The demo's real input: modules of this Python's standard library, chosen the same way every time."""

import ast
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LEAST_BYTES, MOST_BYTES = 4_000, 30_000
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages"}


@dataclass(frozen=True)
class Module:
    """name: dotted. undocumented: public functions and classes without a docstring."""

    name: str
    source: str
    lines: int
    undocumented: tuple[str, ...]

    @property
    def letter(self) -> str:
        return self.name[0].lower()

    @property
    def first_line(self) -> str:
        """What the module says of itself."""
        text = ast.get_docstring(ast.parse(self.source)) or "It says nothing of itself."
        return text.strip().splitlines()[0]


def choose(count: int) -> list[str]:
    """Names of `count` modules of middling size, spread evenly over the alphabet; fewer where there are not so many."""
    root = library()
    found = sorted(_dotted(path.relative_to(root)) for path in _sources(root))
    return spread(found, count)


def spread(names: Sequence[str], count: int) -> list[str]:
    """`count` of the names, evenly spaced; all of them when there are not so many."""
    count = min(count, len(names))
    return [names[place * len(names) // count] for place in range(count)]


def read(name: str) -> Module:
    """The module's source and what it leaves undocumented."""
    path = library().joinpath(*name.split(".")).with_suffix(".py")
    source = path.read_text("utf-8", errors="replace")
    return Module(name, source, source.count("\n") + 1, undocumented(source))


def undocumented(source: str) -> tuple[str, ...]:
    """Public functions and classes at the top level that say nothing about themselves."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in ast.parse(source).body if isinstance(node, kinds)]
    return tuple(node.name for node in nodes if not node.name.startswith("_") and ast.get_docstring(node) is None)


def library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _sources(root: Path) -> Iterator[Path]:
    """Public modules of the right size; whatever is a test or begins with an underscore is left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith("_")]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and not name.startswith("_") and LEAST_BYTES <= path.stat().st_size <= MOST_BYTES:
                yield path


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)
