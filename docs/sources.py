"""Reads the project's own sources."""

import ast
import gc
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """Read with the collector off: what it finalizes may read sources too (a traceback that is printed does), and CPython
    3.11 then loses count of how deep it is (SystemError: AST constructor recursion depth mismatch)."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"), path.name)
    finally:
        if collecting:
            gc.enable()
