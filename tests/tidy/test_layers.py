"""The house's rules, read off the imports: who may know whom, and who may touch the machine."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.sources import tree_of

PACKAGE = Path(__file__).parents[2] / "longwatch"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import itself and the rooms named here.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "policy": {"errors"},
    "db": {"policy", "errors"},
    "store": {"db", "policy", "errors"},
    "admission": {"db", "policy", "errors", "store.journal", "store.fleet"},
    "config": {"policy", "errors"},
    "runtime": {"store", "admission", "db", "policy", "errors"},
    "surface": {"runtime", "store", "admission", "db", "policy", "errors", "config", "sandbox", "demo", "testing", ""},
    "sandbox": {"policy", "errors"},
    "demo": {"surface", "sandbox", "runtime", "store", "admission", "db", "policy", "errors", "config", ""},
    "testing": {"surface", "runtime", "store", "admission", "db", "policy", "errors", "config", "sandbox", ""},
    "": {"surface", "runtime", "policy", "errors", "config"},
}

# What only some modules may import, because everybody else goes through them.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "apsw": ("db/sqlite/", "store/backup.py"),
    "psycopg": ("db/postgres/",),
    "redis": ("admission/redis/link.py",),
    "sqlite3": (),
    "time": ("runtime/world.py", "runtime/loop.py"),
    "random": ("runtime/world.py",),
    "secrets": ("runtime/world.py", "surface/opened.py"),
    "uuid": (),
    "subprocess": ("runtime/process.py",),
    "multiprocessing": (),
    "asyncio": ("surface/",),
    "pickle": (),
}
OUTSIDE = ("sandbox/", "demo/", "testing/")  # the world outside, and the proof: they may use the machine as they like
IMPURE = {
    "time",
    "random",
    "uuid",
    "os",
    "socket",
    "asyncio",
    "logging",
    "subprocess",
    "threading",
    "pathlib",
    "secrets",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(name: str) -> str:
    first = name.split("/")[0]
    return first.removesuffix(".py") if first not in ("__init__.py", "__main__.py") else ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_import_goes_down(path: Path) -> None:
    room = room_of(name_of(path))
    allowed = MAY_IMPORT[room] | {room}
    for imported in imports(path):
        if not imported.startswith("longwatch"):
            continue
        target = imported.removeprefix("longwatch").lstrip(".")
        ok = any(target == other or target.startswith(other + ".") for other in allowed if other) or (
            "" in allowed and "." not in target
        )
        assert ok, f"{name_of(path)} ({room or 'the package'}) imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_machine_is_touched_in_one_place_only(path: Path) -> None:
    name = name_of(path)
    if name.startswith(OUTSIDE):
        return
    for imported in imports(path):
        homes = ONLY_IN.get(imported.split(".")[0])
        assert homes is None or name.startswith(homes) or (not homes and imported not in ONLY_IN), (
            f"{name} imports {imported}"
        )


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("policy/")], ids=name_of)
def test_policy_is_pure(path: Path) -> None:
    touched = {imported.split(".")[0] for imported in imports(path)} & IMPURE
    assert not touched, f"{name_of(path)} imports {touched}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_has_swelled(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400, f"{name_of(path)} has {text.count(chr(10))} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 70, f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"
