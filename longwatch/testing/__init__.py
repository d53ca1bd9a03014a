"""What proves that the promises hold, and what users test their handlers with: `drain`, `survives_crashes`, `Effects`.

The fixtures are those of the pytest plugin (testing/plugin.py); none of this needs pytest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longwatch.testing.clock import Clock
    from longwatch.testing.crashes import Survived, survives_crashes
    from longwatch.testing.effects import Effects
    from longwatch.testing.fleet import VirtualFleet, drain

HOMES = {
    "Clock": "clock",
    "Effects": "effects",
    "Survived": "crashes",
    "VirtualFleet": "fleet",
    "drain": "fleet",
    "survives_crashes": "crashes",
}

__all__ = ["Clock", "Effects", "Survived", "VirtualFleet", "drain", "survives_crashes"]


def __getattr__(name: str) -> Any:
    """Imported when it is first used: the plugin is loaded by every run of pytest."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
