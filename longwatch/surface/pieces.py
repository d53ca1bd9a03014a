"""Calls, leases and edits for programs that exist, without tasks. Inside a handler they belong to the current run."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

from longwatch.errors import LongwatchError
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.lease import Holder
from longwatch.policy.money import Money
from longwatch.policy.price import Caching
from longwatch.runtime.call import Call
from longwatch.runtime.calls import Caller
from longwatch.runtime.contents import Reading
from longwatch.runtime.edit import Edit
from longwatch.runtime.lease import Lease
from longwatch.runtime.parts import Parts
from longwatch.runtime.run import RunCore, current_run
from longwatch.surface import wrapping
from longwatch.surface.blocks import Block, Part, Turn
from longwatch.surface.memory import Memory

if TYPE_CHECKING:
    from longwatch.surface.opened import Opened

Lane = Literal["urgent", "normal", "batch"]
C = TypeVar("C")
T = TypeVar("T", bound=Part)


class Pieces:
    """The half of a fleet handle that needs no tasks."""

    _opened: "Opened"
    _agent: str
    _budget: str | None

    @property
    def _parts(self) -> Parts:
        return self.opened.parts

    @property
    def opened(self) -> "Opened":
        return self._opened

    def call(
        self,
        service: str,
        *,
        agent: str | None = None,
        budget: str | None = None,
        key: str | None = None,
        model: str | None = None,
        money: str | Money | None = None,
        weight: Mapping[str, int] | None = None,
        max_tokens: int | None = None,
        caching: Caching = "none",
        lane: Lane = "normal",
        wait: Duration | None = None,
    ) -> Turn:
        """One use of a service: admitted and its money held when the block is entered, settled when it is left.

        money: the most it can cost you; left out, it is priced by model, weight and max_tokens, else by the service's
        price. weight: units by the names of the service's rates. caching: how long the prompt is to be kept by the
        provider, "5m" or "1h". wait: time in line; None: for ever, 0: none.
        Errors: Refused and its kinds (nothing was sent), ConfigError for unknown names.
        """
        run = self._run()
        if run is not None:
            return self._called(
                run.call(
                    service,
                    key=key,
                    budget=budget,
                    model=model,
                    money=money,
                    weight=weight,
                    max_tokens=max_tokens,
                    caching=caching,
                    lane=lane,
                    wait=wait,
                )
            )
        who = agent or self._agent
        caller = Caller(agent=who, budget=self._paying(who), task=None, run=None, step=None, owner=self._opened.owner)
        return self._called(
            self._parts.calls.call(
                service,
                caller=caller,
                key=key,
                budget=budget,
                model=model,
                money=money,
                weight=weight,
                max_tokens=max_tokens,
                caching=caching,
                lane=lane,
                wait_ms=None if wait is None else parse_ms(wait),
            )
        )

    def wrap(
        self,
        client: C,
        *,
        service: str | None = None,
        agent: str | None = None,
        budget: str | None = None,
        money: str | Money | None = None,
        max_tokens: int | None = None,
        lane: Lane = "normal",
        wait: Duration | None = None,
        retries: int | None = None,
        count_tokens: bool = False,
    ) -> C:
        """A client of the same type whose every request is a call: it waits its turn, its money is held before, and it is
        settled by the answer. Anthropic and OpenAI (sync and async), Stripe's StripeClient, githubkit's GitHub.

        service: when it is not the client's own. money: the most one request costs; left out, models are priced by their
        requests, Stripe's writes by the service's price. max_tokens: the longest answer to requests that set none. retries:
        after the first try, left out: as the client is set. count_tokens: Anthropic is asked what a prompt weighs before it
        is held, by calls of a rate of their own; else it is estimated.
        Errors: ConfigError for other clients, unknown names; UnknownPrice.
        """
        run, who = self._run(), agent or self._agent
        if run is not None:
            return run.wrap(
                client,
                service=service,
                budget=budget,
                money=money,
                max_tokens=max_tokens,
                lane=lane,
                wait=wait,
                retries=retries,
                count_tokens=count_tokens,
            )
        terms = wrapping.Terms(
            parts=self._parts,
            in_run=lambda: self._run() is not None,
            opens=self.call,
            block=self._called,
            asleep=self._opened.asleep,
            account=(who, budget or self._paying(who)),
            options={"budget": budget, "lane": lane, "agent": agent},
            service=service,
            money=money,
            max_tokens=max_tokens,
            wait=wait,
            retries=retries,
            count_tokens=count_tokens,
        )
        return wrapping.wrap(client, terms)

    def lease(
        self,
        *names: str,
        agent: str | None = None,
        root: str = ".",
        mode: str = "exclusive",
        ttl: Duration = "60s",
        wait: Duration | None = None,
    ) -> Block[Lease]:
        """The right to write `names` (files below the root, or "name:deploy"), all or none, while the block is open.

        Errors: LeaseBusy when `wait` runs out, ConfigError.
        """
        run = self._run()
        if run is not None:
            return self._leased(run.lease(*names, root=root, mode=mode, ttl=ttl, wait=wait))
        wait_ms = None if wait is None else parse_ms(wait)
        holder = Holder(owner=self._opened.owner, agent=agent or self._agent)
        return self._leased(
            self._parts.leases.lease(
                *names, holder=holder, ttl_ms=parse_ms(ttl), wait_ms=wait_ms, mode=mode, inside=root
            )
        )

    def edit(
        self,
        *names: str,
        agent: str | None = None,
        root: str = ".",
        ttl: Duration = "60s",
        wait: Duration | None = None,
    ) -> Block[Edit]:
        """Change several files, all or none, under leases; published when the block ends.

        root: the folder that names start from, below the fleet's. Errors: LeaseBusy, LeaseLost, EditConflict, ConfigError.
        """
        run = self._run()
        if run is not None:
            return self._edited(run.edit(*names, root=root, ttl=ttl, wait=wait))
        wait_ms = None if wait is None else parse_ms(wait)
        holder = Holder(owner=self._opened.owner, agent=agent or self._agent)
        return self._edited(
            self._parts.edits.edit(names, holder=holder, ttl_ms=parse_ms(ttl), wait_ms=wait_ms, inside=root)
        )

    acall, alease, aedit = call, lease, edit

    def read(self, *names: str, root: str = ".") -> Reading:
        """Several files as of one instant: no commit is seen by half. Errors: ConfigError, StoreUnavailable."""
        return self._parts.edits.read(names, inside=root)

    def memory(self, agent: str | None = None) -> Memory:
        """What the agent remembers; left out: this handle's agent, inside a run the run's."""
        run = self._run()
        return Memory(agent or (run.agent if run else self._agent), lambda: self._parts.memories, self._run)

    def _paying(self, agent: str) -> str | None:
        return self._budget or self._opened.settings.budget_of(agent)

    def _run(self) -> RunCore | None:
        """The run that the calling code belongs to, if it is one of this fleet."""
        run = current_run.get()
        return run if run is not None and run.parts is self._opened.parts else None

    def _called(self, call: Call) -> Turn:
        return self._opened.block(call)

    def _leased(self, lease: Lease) -> Block[Lease]:
        return self._block(lease, give_up=lease.give_up, wait_ms=lease.wait_ms)

    def _edited(self, edit: Edit) -> Block[Edit]:
        return self._block(edit, give_up=edit.lease.give_up, wait_ms=edit.lease.wait_ms)

    def _block(self, part: T, *, give_up: Callable[[], LongwatchError | None], wait_ms: int | None = None) -> Block[T]:
        steady_ms, asleep = self._parts.world.steady_ms, self._opened.asleep
        return Block(part, steady_ms, give_up=give_up, wait_ms=wait_ms, asleep=asleep)
