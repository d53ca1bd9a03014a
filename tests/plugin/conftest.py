"""The plugin's fixtures, also where the package was installed before it had a plugin."""

from longwatch.testing.plugin import (
    clock,
    effects,
    longwatch_bench,
    longwatch_sandbox,
    lw,
    lw_config,
    pytest_configure,
    sandbox,
)

__all__ = [
    "clock",
    "effects",
    "longwatch_bench",
    "longwatch_sandbox",
    "lw",
    "lw_config",
    "pytest_configure",
    "sandbox",
]
