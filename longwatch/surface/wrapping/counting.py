"""What a prompt weighs, asked of the provider before the request is sent: Anthropic's `messages.count_tokens`.

Counting costs no money and has a rate of its own at the provider, so it is a call of its own, of the model `count_tokens`
(policy.limits), whose rate nothing else takes from. It is a help and no condition: where it has no slot soon, is refused,
fails or does not answer, the estimate from the letters of the prompt stands, and nobody asks again for a while.
"""

import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from longwatch.errors import ConfigError, Refused
from longwatch.policy.duration import parse_ms
from longwatch.policy.limits import COUNT_TOKENS
from longwatch.policy.money import Money
from longwatch.runtime.call import Call
from longwatch.surface.blocks import Block
from longwatch.surface.wrapping.pacer import Pacer, Request, kind_of

logger = logging.getLogger("longwatch")

WAIT_MS = 2_000  # for a slot; a prompt that cannot be counted by then is estimated
ANSWER_S = 10.0  # until then the provider has to say
PAUSE_MS = 30_000  # after it failed nobody is asked for so long; WAIT_MS after there was no slot
SENT = (
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "speed",
    "context_management", "mcp_servers", "output_format",
)  # fmt: skip
Send = Callable[[Any], Any]
"""How the library itself makes a request, of its options."""


class Counting:
    """Of one wrapped client. Safe in threads."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer, self._guard = pacer, threading.Lock()
        self._again_ms, self._told = 0, False

    def counted(self, asked: Request, told: Any, body: object, send: Send) -> Request:
        """The request, with the tokens that the provider counts in it. told: what will be sent; body: its JSON."""
        question = self._question(asked, told, body)
        if question is None:
            return asked
        try:
            with self._block() as call:
                answer = settled(call, lambda: send(question))
        except Exception as error:  # noqa: BLE001 - whatever it was: the estimate stands, and the request says what is wrong
            return self._estimated(asked, error)
        return with_prompt(asked, answer)

    async def acounted(self, asked: Request, told: Any, body: object, send: Send) -> Request:
        question = self._question(asked, told, body)
        if question is None:
            return asked
        try:
            async with self._block() as call:
                answer = await asettled(call, lambda: send(question))
        except Exception as error:  # noqa: BLE001 - as above
            return self._estimated(asked, error)
        return with_prompt(asked, answer)

    def _question(self, asked: Request, told: Any, body: object) -> Any:
        """None: nothing is to be counted, or nobody is asked just now."""
        path, mark, query = str(told.url).partition("?")
        model = asked.needs.model is not None and not asked.needs.free and path.rstrip("/").endswith("/messages")
        if not model or not isinstance(body, Mapping) or self._pacer.parts.steady_ms() < self._again_ms:
            return None
        whole = cast("Mapping[str, Any]", body)
        options = kind_of(told)
        return options.construct(
            method="post",
            url=f"{path.rstrip('/')}/count_tokens{mark}{query}",
            params=told.params,
            headers=plain_headers(told.headers),
            json_data={name: whole[name] for name in SENT if name in whole},
            max_retries=0,
            timeout=ANSWER_S,
        )

    def _block(self) -> Block[Call]:
        terms = self._pacer.terms
        wait_ms = WAIT_MS if terms.wait is None else min(WAIT_MS, parse_ms(terms.wait))
        return terms.open(
            self._pacer.service,
            key=self._pacer.parts.world.new_id("key"),  # it takes no place among the calls of a run
            model=COUNT_TOKENS,
            money=Money(0, self._pacer.parts.calls.limiter.limits.currency),
            weight={"requests": 1},
            wait=wait_ms / 1000,
            **terms.options,
        )

    def _estimated(self, asked: Request, error: Exception) -> Request:
        with self._guard:
            pause_ms = WAIT_MS if isinstance(error, Refused) else PAUSE_MS
            self._again_ms = self._pacer.parts.steady_ms() + pause_ms
            first, self._told = not self._told, True
        if first:
            why = str(error).splitlines()[:1]
            logger.warning(
                "tokens cannot be counted at %s (%s: %s): prompts are estimated meanwhile",
                self._pacer.service,
                type(error).__name__,
                *why or [""],
            )
        return asked


def settled(call: Call, ask: Callable[[], Any]) -> Any:
    """The answer; the call costs the nothing that it holds, whatever comes of it."""
    try:
        return ask()
    finally:
        call.settle()


async def asettled(call: Call, ask: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await ask()
    finally:
        call.settle()


def with_prompt(asked: Request, answer: Any) -> Request:
    found = getattr(answer, "input_tokens", None)
    if not isinstance(found, int) or found < 1:
        return asked
    return asked._replace(needs=asked.needs._replace(prompt=found))


def plain_headers(headers: Any) -> Any:
    """Without what the library tells itself there: in which form the answer to the request is wanted."""
    if not isinstance(headers, Mapping):
        return {}
    found = cast("Mapping[str, Any]", headers)
    return {name: value for name, value in found.items() if not name.lower().startswith("x-stainless-")}


def answer_type() -> Any:
    """Of the library, which its client's owner has imported."""
    return sys.modules["anthropic"].types.MessageTokensCount


def refuse(service: str) -> ConfigError:
    return ConfigError(
        f"count_tokens=True is for clients of Anthropic: {service} has no endpoint that counts tokens before a request",
        hint="Leave it out: prompts are estimated from their letters, and settled by the answer's usage.",
    )
