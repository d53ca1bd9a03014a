"""The pages of the documentation as programs: their fenced blocks, taken out and run in a fresh folder."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^# (?P<name>[\w./-]+\.(py|toml|sh|service))\n")
TARGETS = re.compile(r"^([a-z]+):", re.MULTILINE)
LONGEST_S = 100


@dataclass(frozen=True)
class Block:
    """One fenced block. line: of the page, from 1. file: the name that its first line gives it, to be saved under."""

    language: str
    text: str
    line: int
    file: str | None


def pages() -> list[Path]:
    """Every page for readers: those of the root, and everything below docs and changes."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "changes").glob("*.md")),
    ]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [_block(found, line=text.count("\n", 0, found.start()) + 1) for found in FENCE.finditer(text)]


def _block(found: re.Match[str], *, line: int) -> Block:
    file = FILE.match(found["text"])
    return Block(found["language"], found["text"], line, file["name"] if file else None)


def prose_of(page: Path) -> str:
    """The page without what stands in fences and in `code`."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text("utf-8")))


def makes(line: str) -> str | None:
    """The target of a `make` line, which is looked up instead of run: it would run these very tests."""
    found = re.match(r"make ([a-z]+)\b", line)
    return found[1] if found else None


def targets() -> set[str]:
    return set(TARGETS.findall((ROOT / "Makefile").read_text("utf-8")))


def commands(block: Block) -> Iterator[str]:
    yield from (line for line in block.text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def run_page(page: Path, folder: Path) -> None:
    """Run the page from top to bottom in the empty `folder`, as a reader would; fails with the line and what was said.

    A block with a file's name in its first line is saved, other Python blocks and every `sh` block are run.
    """
    for block in blocks_of(page):
        if block.file is not None:
            place = folder / block.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, "utf-8")
        elif block.language == "python":
            _run([sys.executable, "-c", block.text], page, block, folder)
        elif block.language == "sh":
            script = "\n".join(line for line in block.text.splitlines() if makes(line) is None)
            _run(["bash", "-euo", "pipefail", "-c", script], page, block, folder)


def _run(command: list[str], page: Path, block: Block, folder: Path) -> None:
    ended = subprocess.run(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    said = f"{ended.stdout}\n{ended.stderr}".strip()
    assert ended.returncode == 0, f"{name_of(page)}:{block.line} ended with {ended.returncode}:\n{block.text}\n{said}"


def _environment(folder: Path) -> dict[str, str]:
    """As on a terminal of a new user with the project's tools on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LONGWATCH_")}
    tools = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": tools, "HOME": str(folder), "NO_COLOR": "1"}
