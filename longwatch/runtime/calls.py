"""The calls of one process: what each asks for, how its money is found, and who looks after those that are open."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from longwatch.admission.calls import CallRequest, check, check_amount
from longwatch.admission.limiter import Limiter
from longwatch.errors import StoreUnavailable
from longwatch.policy.degrade import Way, ways_down
from longwatch.policy.estimate import check_tokens, micros_of, most_micros
from longwatch.policy.limits import COUNT_TOKENS, Limits
from longwatch.policy.money import Money
from longwatch.policy.price import Caching
from longwatch.policy.scope import Scope
from longwatch.runtime.beats import Beats
from longwatch.runtime.call import Call
from longwatch.runtime.fair import Fair
from longwatch.runtime.lessons import Lessons
from longwatch.runtime.loop import Sleeper
from longwatch.runtime.owed import Owed
from longwatch.runtime.passage import Seen
from longwatch.runtime.place import Looks
from longwatch.runtime.world import World
from longwatch.runtime.writing import Writing


@dataclass(frozen=True)
class Caller:
    """On whose account: the agent, the budget that pays, what the call is part of, and the process that makes it."""

    agent: str
    owner: str
    budget: str | None = None
    task: str | None = None
    run: str | None = None
    step: str | None = None
    batch: str | None = None
    capped: tuple[str, ...] = ()  # what its task has caps of its own on: money, calls, tokens


class Calls:
    """Makes calls of this process. Safe in threads."""

    def __init__(self, world: World, sleeper: Sleeper, limiter: Limiter) -> None:
        self.world, self.sleeper, self.limiter = world, sleeper, limiter
        self.beats = Beats(world, sleeper, limiter)
        self.owed = Owed(lambda: limiter.away)
        self.seen, self.looks, self.lessons = Seen(world, limiter), Looks(world, limiter), Lessons(world, limiter)
        self.fair = Fair(world)
        self.wrapper: Callable[..., Any] | None = None  # of clients; the surface brings it
        self.limiter.pending = Writing(world, sleeper, limiter, self.owed).wake

    def adopt(self, limits: Limits, rules: int) -> None:
        """From now on decide by these limits. rules: how often the fleet's were changed, with these."""
        self.limiter.adopt(limits, rules)

    def call(
        self,
        service: str,
        *,
        caller: Caller,
        key: str | None = None,
        budget: str | None = None,
        model: str | None = None,
        money: str | Money | None = None,
        weight: Mapping[str, int] | None = None,
        lane: str = "normal",
        wait_ms: int | None = None,
        max_tokens: int | None = None,
        caching: Caching = "none",
        once: bool = False,
    ) -> Call:
        """A call that is about to be made; entering it waits for its turn, up to wait_ms (None: for ever, 0: not at all).

        money: the most it can cost; left out, it is priced by model from weight's tokens and max_tokens, else by the
        service's price. weight: units by dimension (requests: 1 if left out). caching: for how long the prompt is cached.
        once: the admission must survive a power cut. Errors: ConfigError, UnknownPrice.
        """
        call, weights = self.world.new_id("call"), {"requests": 1, **(weight or {})}
        longest = weights.get("output_tokens", 0) if max_tokens is None else max_tokens
        request = CallRequest(
            id=call,
            key=key or call,
            service=service,
            agent=caller.agent,
            owner=caller.owner,
            model=model,
            budget=budget or caller.budget,
            task=caller.task,
            run=caller.run,
            step=caller.step,
            batch=caller.batch,
            capped=bool(caller.capped),
            lane=lane,
            weights=weights,
            tokens=weights.get("input_tokens", 0) + longest,
            once=once,
        )
        check(request)
        if "tokens" in caller.capped and model != COUNT_TOKENS:
            service_of = self.scope(request).service
            check_tokens(service_of, prompt=weights.get("input_tokens", 0), longest=longest)
        micros = self._most(request, money, longest=longest, caching=caching)
        check_amount("money", micros)
        ways = self._ways(request, longest, caching, micros) if money is None else ()
        return Call(self, replace(request, money=micros), wait_ms, ways)

    def _ways(self, request: CallRequest, longest: int, caching: Caching, micros: int) -> tuple[Way, ...]:
        """The cheaper models that the call's budget falls back on. micros: what the call holds as it was asked for."""
        models, asked = self.scope(request).models, request.model
        if not models or asked is None:
            return ()

        def most(model: str) -> int:
            return self._most(replace(request, model=model), None, longest=longest, caching=caching)

        return ways_down(models, asked, micros=micros, most=most)

    def _most(self, request: CallRequest, money: str | Money | None, *, longest: int, caching: Caching) -> int:
        scope, limits, prompt = self.scope(request), self.limiter.limits, request.weights.get("input_tokens", 0)
        if request.model != COUNT_TOKENS and any(cap.dimension == "tokens" for cap in scope.caps):
            check_tokens(scope.service, prompt=prompt, longest=longest)
        if money is not None:
            return micros_of(money, limits)
        return most_micros(
            scope.service,
            request.model,
            limits,
            prompt=prompt,
            longest=longest,
            caching=caching,
            requests=request.calls,
            at_ms=self.world.wall_ms(),
        )

    def scope(self, request: CallRequest) -> Scope:
        return self.limiter.scope(request.service, request.model, request.budget, request.agent).scope

    def beat(self, owner: str) -> None:
        """The owner is alive: its open calls keep their holds. A worker calls it; else a thread does while calls are open."""
        self.owed.pay_first()
        self.beats.beat(owner)

    def drop(self, call: str, owner: str) -> None:
        """The call can never be left: nobody can tell its outcome."""
        self.beats.closed(call)
        self.limiter.unknown(call, owner=owner)

    def bury(self, owner: str) -> int:
        """The owner's process is confirmed dead: end its calls, and take its places in line away; how many calls."""
        self.limiter.lines.bury(owner)
        return self.limiter.bury(owner)

    def give_back(self) -> int:
        """What batches that have ended had set aside and not used; of how many. Later, while an engine is away."""
        try:
            return self.limiter.asides.give_back()
        except StoreUnavailable as error:
            if error.waits:
                return 0
            raise

    def close_over(self) -> int:
        """Purses of tasks that have ended are not kept; of how many. Later, while an engine is away."""
        try:
            return self.limiter.task_caps.close_over()
        except StoreUnavailable as error:
            if error.waits:
                return 0
            raise

    def expire(self) -> int:
        """End calls whose owner has been silent for too long; how many."""
        return self.limiter.expire()
