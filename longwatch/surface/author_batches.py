"""Claude's Message Batches, for snapshots: one request to each, paid for by a call of the fleet.

Only the making of a batch takes a turn: what looks at it costs nothing, has limits of its own at Anthropic and is rare. It is
not looked at while the fleet holds back calls of the service.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from longwatch.errors import LongwatchError, NotFound
from longwatch.policy.answer import answer_of as answered
from longwatch.policy.authoring import ANSWER, SCHEMA, TOOL, Asked
from longwatch.policy.estimate import batched_micros, spent_micros
from longwatch.policy.money import Money
from longwatch.policy.price import BATCHED
from longwatch.policy.request import needs_of
from longwatch.policy.unsent import proves_unsent
from longwatch.policy.usage import usage_of
from longwatch.runtime.authoring import NotNow
from longwatch.runtime.batching import Ended, Found, InDoubt
from longwatch.runtime.call import Call
from longwatch.runtime.calls import Caller
from longwatch.runtime.parts import Parts
from longwatch.runtime.persist import persist
from longwatch.store.batches import Open

SERVICE = "anthropic"
WAIT_MS, TIMEOUT_S = 5_000, 30.0  # in line; for the answer: together less than the lease of who asks
LOOK_S = 10.0
LISTED, LOOKED_INTO = 1_000, 20  # batches, to find one whose name is not known
LONGEST = 200  # characters of a reason


def params_of(asked: Asked, model: str) -> dict[str, Any]:
    """Of one request for messages."""
    return {
        "model": model,
        "max_tokens": ANSWER,
        "system": asked.system,
        "tools": [{"name": TOOL, "description": "The snapshot.", "strict": True, "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": TOOL},
        "messages": [{"role": "user", "content": asked.text}],
    }


def answer_of(message: Any) -> object:
    """The tool's input; None when there is not just one."""
    used = [each.input for each in message.content if each.type == "tool_use" and each.name == TOOL]
    return used[0] if len(used) == 1 else None


def told(error: Exception) -> str:
    """The kind of an error: its text may repeat what was asked."""
    status = getattr(error, "status_code", None)
    return f"{SERVICE} answered {status}" if status else f"{SERVICE} gave no answer ({type(error).__name__})"


class Sending(NamedTuple):
    """A request for a batch that has not been sent."""

    call: str
    owner: str
    opened: Call
    params: dict[str, Any]
    client: Callable[[], Any]

    def send(self, custom_id: str) -> str:
        """Errors: NotNow, InDoubt. The call ends with it, at the most that the answer can cost."""
        from anthropic import AnthropicError

        made, sent = None, False  # may be
        try:
            with self.opened as call:
                sent = True
                try:
                    made = self.client().messages.batches.create(
                        requests=[{"custom_id": custom_id, "params": self.params}]
                    )
                except AnthropicError as error:
                    sent = not proves_unsent(error)
                    if self._declined(call, error):
                        raise NotNow(told(error)) from error
                    raise
        except LongwatchError as error:
            if made is None:
                raise (InDoubt if sent else NotNow)(f"{error.code}: {error.message}"[:LONGEST]) from error
        except AnthropicError as error:
            raise (InDoubt if sent else NotNow)(told(error)) from error
        assert made is not None
        return str(made.id)  # also where its call's end could not be written: that is owed

    def _declined(self, call: Call, error: Exception) -> bool:
        """Whether the answer says that no batch was made."""
        found = answered(error)
        if found is None:
            return False
        status, headers, code = found
        certain = call.answered(status, headers, code=code).certain
        if certain:
            call.decline()
        return certain


class ClaudeBatches:
    """client: with its key."""

    def __init__(self, model: str, budget: str, parts: Parts, client: Callable[[], Any]) -> None:
        self._model, self._budget, self._parts, self._client = model, budget, parts, client

    # -- made --------------------------------------------------------------------------------------------------------------

    def prepare(self, asked: Asked, *, agent: str, key: str) -> Sending:
        """Errors: NotNow."""
        calls, params = self._parts.calls, params_of(asked, self._model)
        needs = needs_of(SERVICE, "POST", "/v1/messages", params)
        caller = Caller(agent=agent, owner=self._parts.world.new_id("author"), budget=self._budget)
        try:
            call = calls.call(
                SERVICE,
                caller=caller,
                key=key,
                model=self._model,
                money=Money(self._most(agent, needs.prompt, needs.longest), calls.limiter.limits.currency),
                weight={"requests": 1, "input_tokens": needs.prompt},
                max_tokens=needs.longest,
                lane="batch",
                wait_ms=WAIT_MS,
            )
        except LongwatchError as error:
            raise NotNow(f"{error.code}: {error.message}"[:LONGEST]) from error
        return Sending(call.id, call.owner, call, params, self._client)

    def _most(self, agent: str, prompt: int, longest: int) -> int:
        limiter, at_ms = self._parts.calls.limiter, self._parts.world.wall_ms()
        service = limiter.scope(SERVICE, self._model, self._budget, agent).scope.service
        return batched_micros(service, self._model, limiter.limits, prompt=prompt, longest=longest, at_ms=at_ms)

    # -- looked at ---------------------------------------------------------------------------------------------------------

    def ended(self, request: Open) -> Ended | None:
        """None: it goes on. Errors: NotNow."""
        from anthropic import AnthropicError, NotFoundError

        assert request.batch is not None
        try:
            batch = self._looking().retrieve(request.batch)
            if batch.processing_status != "ended":
                return None
            result = self._result(request.batch, request.custom_id)
        except NotFoundError:
            return Ended("lost")
        except AnthropicError as error:
            raise NotNow(told(error)) from error
        if result is None:
            return Ended("lost")
        if result.type != "succeeded":
            return Ended(result.type)
        return Ended("succeeded", answer_of(result.message), result.message.model, usage_of(result.message))

    def find(self, request: Open, *, since_ms: int, until_ms: int, known: set[str]) -> Found:
        """Errors: NotNow."""
        from anthropic import AnthropicError

        try:
            made, sure = self._made_between(since_ms, until_ms)
            likely = [batch for batch in made if batch.id not in known and _size(batch) == 1]
            ended = [batch for batch in likely if batch.processing_status == "ended"]
            ended.sort(key=lambda batch: abs(_epoch_ms(batch.created_at) - request.asked_ms))
            for batch in ended[:LOOKED_INTO]:
                if self._result(batch.id, request.custom_id) is not None:
                    return Found(batch.id, True)
        except AnthropicError as error:
            raise NotNow(told(error)) from error
        return Found(None, sure and len(likely) == len(ended) <= LOOKED_INTO)

    def _made_between(self, since_ms: int, until_ms: int) -> tuple[list[Any], bool]:
        """And whether these are all."""
        made: list[Any] = []
        for number, batch in enumerate(self._looking().list(limit=100)):
            made_ms = _epoch_ms(batch.created_at)
            if made_ms < since_ms:
                break
            if number == LISTED:
                return made, False
            if made_ms <= until_ms:
                made.append(batch)
        return made, True

    def _result(self, batch: str, custom_id: str) -> Any:
        """None: none of its requests has the id. Errors: AnthropicError, NotNow."""
        from anthropic import AnthropicError

        try:
            lines = self._looking().results(batch)
            with contextlib.closing(lines):
                return next((line.result for line in lines if line.custom_id == custom_id), None)
        except (AnthropicError, NotNow):
            raise
        except Exception as error:  # whatever its client lets through while the lines come
            raise NotNow(told(error)) from error

    def _looking(self) -> Any:
        """Errors: NotNow."""
        gate = self._parts.calls.limiter.gates.find(SERVICE)
        if gate.state != "closed":
            raise NotNow(f"{SERVICE} is {gate.state}")
        return self._client().with_options(timeout=LOOK_S).messages.batches

    # -- paid --------------------------------------------------------------------------------------------------------------

    def settle(self, request: Open, ended: Ended) -> int:
        limiter, at_ms, usage = self._parts.calls.limiter, self._parts.world.wall_ms(), ended.usage
        micros = None
        if usage is not None:
            micros = spent_micros(SERVICE, ended.model, usage, limiter.limits, at_ms=at_ms, percent=BATCHED)
        self._settled(request, money=micros, tokens=None if usage is None else usage.total)
        return micros or 0

    def excuse(self, request: Open) -> None:
        self._settled(request, money=0, tokens=0)

    def lose(self, request: Open) -> None:
        self._end(lambda: self._parts.calls.limiter.unknown(request.call, owner=request.owner))

    def _settled(self, request: Open, *, money: int | None, tokens: int | None) -> None:
        limiter, used = self._parts.calls.limiter, {"input_tokens": 0, "output_tokens": 0}
        self._end(lambda: limiter.settle(request.call, owner=request.owner, money=money, tokens=tokens, used=used))

    def _end(self, write: Callable[[], None]) -> None:
        with contextlib.suppress(NotFound):  # it was never admitted, or it is of another state
            self._parts.calls.owed.pay()  # this comes after what is owed of it
            persist(write)


def _size(batch: Any) -> int:
    counts = batch.request_counts
    return int(counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired)


def _epoch_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
