"""Claude as the author of snapshots: a client like any that `lw.wrap` gives, its key in ANTHROPIC_API_KEY."""

import importlib.util
import os
from functools import cached_property
from typing import Any

from longwatch.config import Settings
from longwatch.errors import LongwatchError
from longwatch.policy.authoring import Asked
from longwatch.policy.estimate import spent_micros
from longwatch.policy.naming import MAIN
from longwatch.policy.usage import usage_of
from longwatch.runtime.authoring import Author, NotNow, Reply
from longwatch.runtime.calls import Caller
from longwatch.runtime.parts import Parts
from longwatch.surface import wrapping
from longwatch.surface.author_batches import (
    LONGEST,
    SERVICE,
    TIMEOUT_S,
    WAIT_MS,
    ClaudeBatches,
    answer_of,
    params_of,
    told,
)
from longwatch.surface.blocks import Turn

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")


def author_of(settings: Settings, parts: Parts) -> Author | None:
    """None: snapshots are written offline."""
    memory = settings.memory
    if memory.writer is None:
        return None
    return Claude(memory.writer, memory.budget or MAIN, parts, batch=memory.batch)


class Claude:
    def __init__(self, model: str, budget: str, parts: Parts, *, batch: bool) -> None:
        self.model, self.batch, self._budget, self._parts = model, batch, budget, parts
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

        try:
            message = self._wrapped(agent, key).messages.create(**params_of(asked, self.model))
        except LongwatchError as error:
            raise NotNow(f"{error.code}: {error.message}"[:LONGEST]) from error
        except AnthropicError as error:
            raise NotNow(told(error)) from error
        return Reply(answer_of(message), message.model, self._micros(message))

    @property
    def batches(self) -> ClaudeBatches:
        return ClaudeBatches(self.model, self._budget, self._parts, lambda: self._client)

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
