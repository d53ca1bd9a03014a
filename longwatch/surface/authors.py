"""Claude as the author of snapshots: a client like any that `lw.wrap` gives, its key in ANTHROPIC_API_KEY."""

import importlib.util
import os
from functools import cached_property
from typing import Any

from longwatch.config import Settings
from longwatch.errors import LongwatchError
from longwatch.policy.authoring import ANSWER, SCHEMA, TOOL, Asked
from longwatch.policy.estimate import spent_micros
from longwatch.policy.naming import MAIN
from longwatch.policy.usage import usage_of
from longwatch.runtime.authoring import Author, NotNow, Reply
from longwatch.runtime.calls import Caller
from longwatch.runtime.parts import Parts
from longwatch.surface import wrapping
from longwatch.surface.blocks import Turn

SERVICE = "anthropic"
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
WAIT_MS, TIMEOUT_S = 5_000, 30.0  # in line; for the answer: together less than the lease of who asks
LONGEST = 200  # characters of a reason


def author_of(settings: Settings, parts: Parts) -> Author | None:
    """None: snapshots are written offline."""
    model = settings.memory.writer
    return None if model is None else Claude(model, settings.memory.budget or MAIN, parts)


class Claude:
    def __init__(self, model: str, budget: str, parts: Parts) -> None:
        self.model, self._budget, self._parts = model, budget, parts
        self._owner = parts.world.new_id("process")

    def unable(self) -> str | None:
        if importlib.util.find_spec("anthropic") is None:
            return "the anthropic library is not installed; pip install 'longwatch[claude]'"
        if not any(os.environ.get(name) for name in KEYS):
            return "there is no key; set ANTHROPIC_API_KEY"
        return None

    def ask(self, asked: Asked, *, agent: str, key: str) -> Reply:
        """One request, in its turn and within its budget. Errors: NotNow."""
        from anthropic import AnthropicError

        tool = {"name": TOOL, "description": "The snapshot.", "strict": True, "input_schema": SCHEMA}
        try:
            message = self._wrapped(agent, key).messages.create(
                model=self.model,
                max_tokens=ANSWER,
                system=asked.system,
                tools=[tool],
                tool_choice={"type": "tool", "name": TOOL},
                messages=[{"role": "user", "content": asked.text}],
            )
        except LongwatchError as error:
            raise NotNow(f"{error.code}: {error.message}"[:LONGEST]) from error
        except AnthropicError as error:
            raise NotNow(_told(error)) from error
        used = [each.input for each in message.content if each.type == "tool_use" and each.name == TOOL]
        return Reply(used[0] if len(used) == 1 else None, message.model, self._micros(message))

    @cached_property
    def _client(self) -> Any:
        from anthropic import Anthropic

        return Anthropic(max_retries=0, timeout=TIMEOUT_S)

    def _wrapped(self, agent: str, key: str) -> Any:
        """The client whose next request has this key: the same after a crash."""
        parts = self._parts
        caller = Caller(agent=agent, owner=self._owner, budget=self._budget)

        def opens(service: str, **options: Any) -> Any:
            asked = {name: value for name, value in options.items() if name not in ("key", "wait")}
            return parts.calls.call(service, caller=caller, key=key, wait_ms=WAIT_MS, **asked)

        terms = wrapping.Terms(
            parts=parts,
            in_run=lambda: False,
            opens=opens,
            block=lambda call: Turn(call, parts.world.steady_ms, give_up=call.abandon, asleep=None),
            asleep=None,
            account=(agent, self._budget),
            options={"lane": "batch"},
            service=None,
            money=None,
            max_tokens=None,
            wait=WAIT_MS / 1000,
            retries=0,
        )
        return wrapping.wrap(self._client, terms)

    def _micros(self, message: Any) -> int:
        limits, usage = self._parts.calls.limiter.limits, usage_of(message)
        at_ms = self._parts.world.wall_ms()
        found = None if usage is None else spent_micros(SERVICE, message.model, usage, limits, at_ms=at_ms)
        return found or 0


def _told(error: Exception) -> str:
    """The kind of an error: its text may repeat what was asked."""
    status = getattr(error, "status_code", None)
    return f"{SERVICE} answered {status}" if status else f"{SERVICE} gave no answer ({type(error).__name__})"
