"""The sandbox for tests of handlers: without limits of its own, because its time is real and the fleet's is not."""

from collections.abc import Callable, Mapping
from typing import Any

from longwatch.sandbox import Anthropic, GitHub, OpenAI, Sandbox, Settings, Stripe

WITHOUT_LIMITS = Settings(
    anthropic=Anthropic(requests=None, input_tokens=None, output_tokens=None),
    openai=OpenAI(requests=None, tokens=None),
    stripe=Stripe(requests=None, endpoint=None, concurrency=None),
    github=GitHub(primary=None, search=None, points=None, content=None, concurrency=None),
)
COUNTED = ("charges", "payment_intents", "customers", "issues", "comments")  # a model's answer may be asked for again
REPORTED = ("seen", "hits")  # of a fault: how it went, not what it is


class Around:
    """testing.fleet.Outside: the sandbox, which begins every trial as the test had set it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._limits: dict[str, Any] | None = None
        self._faults: list[dict[str, Any]] = []

    def reset(self) -> None:
        if self._limits is None:
            self._limits = self._sandbox.limits()
            set_faults = self._sandbox.set_faults()
            self._faults = [{name: fault[name] for name in fault if name not in REPORTED} for fault in set_faults]
        self._sandbox.reset()
        self._sandbox.limits(**self._limits)
        self._sandbox.faults(self._faults)

    def made(self) -> Mapping[str, int]:
        effects = self._sandbox.effects()
        return {f"{kind} in the sandbox": len(effects[kind]) for kind in COUNTED if effects[kind]}

    def tell(self, at: Callable[[str], None]) -> None:
        """It cannot be told: the sandbox is another process. The call that it is part of is a place."""
