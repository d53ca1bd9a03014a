"""The world outside of a simulated fleet: services with strict quotas, prices and memories of their own.

A request travels, arrives, takes effect and is answered, each at its own instant; a caller that dies on the way does not
call it back. Three services stand for three kinds: `anthropic` costs money by use, `stripe` remembers idempotency keys,
`github` has neither keys nor memory and is told a marker that a person can search for.

Everything that took place is kept as an `Effect`. The auditor judges by these, not by what the fleet says of itself.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from longwatch.policy.limits import Rate
from longwatch.testing.machine import Process
from longwatch.testing.virtual import Driver

TRAVEL_MS = 50  # at most, one way: what the meters leave to the network


class ConnectError(Exception):
    """The connection was refused: nothing was sent."""


class ReadTimeout(Exception):
    """The answer never came; whether the request took effect, the caller cannot know."""


class ServerError(Exception):
    """A 5xx: the service says that nothing was done."""


@dataclass
class Bucket:
    """A token bucket as providers enforce it: `burst` units, refilled at the rate, exactly."""

    rate: Rate
    level: int = -1  # units x per_ms
    at_ms: int = 0

    def take(self, now_ms: int, units: int) -> bool:
        full = self.rate.burst * self.rate.per_ms
        if self.level < 0:
            self.level = full
        self.level = min(full, self.level + (now_ms - self.at_ms) * self.rate.amount)
        self.at_ms = now_ms
        if self.level < units * self.rate.per_ms:
            return False
        self.level -= units * self.rate.per_ms
        return True

    def give_back(self, units: int) -> None:
        """What was counted when the request arrived, and not used. A full bucket runs over when it is looked at next."""
        self.level += units * self.rate.per_ms


@dataclass(frozen=True)
class Effect:
    """Something that took place outside. cost: micro-units on the bill."""

    at_ms: int
    service: str
    what: str
    key: str
    task: str
    agent: str
    budget: str
    cost: int


@dataclass
class Reply:
    """What a service remembers of one request."""

    fate: str
    at_ms: int
    effect: Effect | None = None
    told: bool = False


@dataclass
class Service:
    """rates: by dimension; most: requests at one time; remembers: idempotency keys."""

    name: str
    rates: dict[str, Rate]
    most: int | None = None
    remembers: bool = False
    down_until_ms: int = 0
    flying: int = 0
    buckets: dict[str, Bucket] = field(default_factory=dict[str, Bucket])
    by_key: dict[str, Effect] = field(default_factory=dict[str, Effect])

    def __post_init__(self) -> None:
        self.buckets = {dimension: Bucket(rate) for dimension, rate in self.rates.items()}


Fates = Callable[[str], str]
What = Literal["message", "charge", "issue", "look"]


class Outside:
    """All services. effects: in the order they took place. refused_429, crowded: broken promises, with their instants."""

    def __init__(self, driver: Driver, services: list[Service], *, seed: int) -> None:
        self.driver = driver
        self.services = {service.name: service for service in services}
        self.random = random.Random(f"outside {seed}")
        self.fates: Fates = lambda service: ""
        self.effects: list[Effect] = []
        self.billed = 0
        self.requests: Counter[str] = Counter()
        self.replies: dict[str, list[Reply]] = {}  # by task, of effects only
        self.refused_429: list[str] = []
        self.crowded: list[str] = []

    def fail(self, for_ms: int) -> None:
        """One of the services is down for a while."""
        service = self.random.choice(list(self.services.values()))
        service.down_until_ms = self.driver.now_ms + for_ms

    def recover(self) -> None:
        for service in self.services.values():
            service.down_until_ms = 0

    def request(
        self,
        process: Process,
        service: str,
        what: What,
        *,
        task: str,
        agent: str,
        budget: str,
        key: str = "",
        cost: int = 0,
        units: dict[str, int],
        unused: dict[str, int],
        takes_ms: int,
    ) -> Effect | None:
        """Make a request as `process`, and wait for the answer. None: there was nothing to be done but to look.

        units: counted when it arrives, by dimension; unused: given back by the service when it has answered.

        Errors: ConnectError, ReadTimeout, ServerError.
        """
        process.alive()
        found, now_ms = self.services[service], self.driver.now_ms
        fate = self.fates(service)
        if fate == "refused":
            self.driver.wait_until(now_ms + 20)
            raise ConnectError(f"{service} refused the connection")
        travel_ms = self.random.randrange(TRAVEL_MS)
        reply = Reply(fate, now_ms + travel_ms + takes_ms)
        effect = Effect(now_ms + travel_ms, service, what, key, task, agent, budget, cost)
        self.driver.at(now_ms + travel_ms, lambda: self._arrive(found, process, reply, effect, units, unused))
        self.driver.wait_until(reply.at_ms)
        process.alive()
        if reply.fate == "429":
            raise ServerError(f"{service}: 429")
        if reply.fate == "5xx":
            raise ServerError(f"{service}: 503")
        if reply.fate == "lost":
            raise ReadTimeout(f"{service} did not answer")
        reply.told = True
        return reply.effect

    def _arrive(
        self,
        service: Service,
        process: Process,
        reply: Reply,
        effect: Effect,
        units: dict[str, int],
        unused: dict[str, int],
    ) -> None:
        self.requests[service.name] += 1
        now_ms = self.driver.now_ms
        for dimension, bucket in service.buckets.items():
            if not bucket.take(now_ms, units.get(dimension, 0)):
                self.refused_429.append(f"{now_ms}: {service.name} {dimension} {units} from {process.name}")
                reply.fate = "429"
                return
        self._crowd(service, process, reply)
        if reply.fate == "5xx" or now_ms < service.down_until_ms:
            reply.fate = "5xx"
            return
        for dimension, spare in unused.items():
            self.driver.at(reply.at_ms, partial(service.buckets[dimension].give_back, spare))
        if effect.what == "look":
            return
        if service.remembers and effect.key in service.by_key:
            reply.effect = service.by_key[effect.key]
            return
        service.by_key[effect.key] = reply.effect = effect
        self.effects.append(effect)
        self.billed += effect.cost
        self.replies.setdefault(effect.task, []).append(reply)

    def _crowd(self, service: Service, process: Process, reply: Reply) -> None:
        """Count the request among those at one time, until it is answered or its caller's connection is gone."""
        if service.most is None or process.dead:
            return
        service.flying += 1
        if service.flying > service.most:
            self.crowded.append(f"{self.driver.now_ms}: {service.flying} at {service.name}, at most {service.most}")

        def leave() -> None:
            if leave in process.on_death:
                process.on_death.remove(leave)
                service.flying -= 1

        process.on_death.append(leave)
        self.driver.at(reply.at_ms, leave)
