"""One request of a wrapped client: admitted, sent, sent again where that does no harm, and settled by its answer.

Every try is a call of its own, with the key of the first. A try that was answered with an error which says that nothing was
done costs nothing; one that is proven never to have been sent gives everything back; of any other nobody knows, it is
charged at its hold, and made again only where the service knows the repetition for one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from longwatch.errors import LongwatchError, StoreUnavailable
from longwatch.policy.answer import Verdict
from longwatch.policy.duration import Duration, parse_ms
from longwatch.policy.money import Money
from longwatch.policy.price import Usage
from longwatch.policy.request import Needs
from longwatch.policy.retry import Try, again_ms
from longwatch.policy.unsent import proves_unsent
from longwatch.runtime.call import Call
from longwatch.runtime.parts import Parts
from longwatch.surface.blocks import Block

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
RETRIES = 2  # where the client does not say how many
PATIENCE_MS = 120_000  # for so long the probes of a service that cannot answer are no tries of the request's own
GOOD = Verdict("ok")
REASON = 200  # letters of what a provider said that are kept


@dataclass(frozen=True)
class Terms:
    """How requests of a wrapped client are paid for.

    opens: `call` of a fleet handle or a run; block: what a run's call becomes to be entered. account: agent and budget, as
    far as they are known. options: of `call`. The rest is as given to `wrap`.
    """

    parts: Parts
    in_run: Callable[[], bool]
    opens: Callable[..., Call | Block[Call]]
    block: Callable[[Call], Block[Call]]
    asleep: Callable[[int], Awaitable[None]] | None
    account: tuple[str, str | None]
    options: Mapping[str, Any]
    service: str | None
    money: str | Money | None
    max_tokens: int | None
    wait: Duration | None
    retries: int | None
    count_tokens: bool = False

    def open(self, service: str, **options: Any) -> Block[Call]:
        found = self.opens(service, **options)
        return self.block(found) if isinstance(found, Call) else found


class Request(NamedTuple):
    """retries: after the first try. repeatable: nothing more happens when it is made again. keyed: because of its key; key:
    the caller's own."""

    needs: Needs
    retries: int
    repeatable: bool
    keyed: bool = False
    key: str | None = None


class Ending:
    """The end of an admitted call: once, however many ways lead there. Safe in threads by the call itself."""

    def __init__(self, block: Block[Call], call: Call, *, free: bool) -> None:
        """free: whatever the answer says that was used once."""
        self._block, self.call, self._free, self.over = block, call, free, False

    def settled(self, usage: Usage | None = None, model: str | None = None) -> None:
        """It was made. usage: what it used; None: not told, the estimate stands."""
        if not self.over:
            self.over = True
            with contextlib.suppress(StoreUnavailable):  # the end is owed then, and the answer is not lost for it
                if usage is not None and not self._free:
                    self.call.settle({"model": model}, **tokens_of(usage))
                self._block.__exit__(None, None, None)

    def tell(self) -> None:
        """What was heard of limits, while the answer may still be read."""
        with contextlib.suppress(StoreUnavailable):
            self.call.tell()

    def failed(self, error: BaseException, verdict: Verdict | None) -> None:
        """verdict: of an answer that said so. None: there was no answer."""
        if not self.over:
            self.over = True
            with contextlib.suppress(StoreUnavailable):
                if verdict is not None or is_lost(error):
                    self.call.judged(verdict, str(error)[:REASON] or type(error).__name__)
                if verdict is not None and verdict.certain:
                    self.call.decline()
                self._block.__exit__(type(error), error, error.__traceback__)


def tokens_of(usage: Usage) -> dict[str, Any]:
    """By the names that `settle` takes."""
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read": usage.cache_read,
        "cache_write_5m": usage.write_5m,
        "cache_write_1h": usage.write_1h,
    }


class Library(Protocol[T_contra]):
    """What a client library's answers and errors say."""

    def verdict(self, outcome: T_contra | BaseException, wall_ms: int) -> Verdict | None:
        """Of an answer, or of an error that came with one; None: no answer came."""
        ...

    def headers(self, outcome: T_contra | BaseException) -> Mapping[str, str] | None:
        """Of an answer, or of an error that came with one; None: there are none. Asked once, right after it came."""
        ...

    def told(self, error: BaseException) -> tuple[Usage | None, str | None] | None:
        """What an answer said that came whole, and that its library could not make anything of. None: there was none."""
        ...

    def finish(self, answer: T_contra, ending: Ending) -> None:
        """Settle the call by this answer."""
        ...

    def reads_later(self, answer: T_contra, ending: Ending) -> bool:
        """Whether the answer is still to be read; then its end settles the call. Waits for nothing."""
        ...


class Pacer:
    """Safe in threads."""

    def __init__(self, service: str, terms: Terms) -> None:
        self.profile, self.terms = service, terms
        self.service = terms.service or service
        self.parts = terms.parts

    def retries(self, own: int | None) -> int:
        """own: that the client is set to, None: it does not say."""
        told = self.terms.retries
        return told if told is not None else RETRIES if own is None else own

    def send(self, request: Request, attempt: Callable[[Call], T], library: Library[T]) -> T:
        trying = Trying(self, request)
        while True:
            try:
                block = trying.block()
                ending = trying.begun(block, block.__enter__())
            except LongwatchError as refusal:
                return cast("T", trying.last(refusal))
            try:
                answer = attempt(ending.call)
            except BaseException as error:
                wait_ms = trying.failed(ending, error, library)
                if wait_ms is None:
                    raise
            else:
                if trying.hear(ending, answer, library):
                    ending.tell()
                verdict = trying.verdict(answer, library)
                if verdict is None:
                    if not library.reads_later(answer, ending):
                        library.finish(answer, ending)
                    return answer
                wait_ms = trying.declined(ending, answer, verdict)
                if wait_ms is None:
                    return answer
            self.parts.sleeper.sleep_until(self.parts.steady_ms() + wait_ms)

    async def asend(self, request: Request, attempt: Callable[[Call], Awaitable[T]], library: Library[T]) -> T:
        """Between the answer and whoever looks after it nothing is awaited: it cannot be lost to a cancellation."""
        trying = Trying(self, request)
        while True:
            try:
                block = trying.block()
                ending = trying.begun(block, await block.__aenter__())
            except LongwatchError as refusal:
                return cast("T", trying.last(refusal))
            try:
                answer = await attempt(ending.call)
            except BaseException as error:
                wait_ms = await kept(trying.failed, ending, error, library)
                if wait_ms is None:
                    raise
            else:
                if trying.hear(ending, answer, library):
                    await kept(ending.tell)
                verdict = trying.verdict(answer, library)
                if verdict is None:
                    if not library.reads_later(answer, ending):
                        await kept(library.finish, answer, ending)
                    return answer
                wait_ms = await kept(trying.declined, ending, answer, verdict)
                if wait_ms is None:
                    return answer
            await self._asleep(wait_ms)

    async def _asleep(self, wait_ms: int) -> None:
        if self.terms.asleep is None:
            await asyncio.sleep(wait_ms / 1000)
        else:
            await self.terms.asleep(self.parts.steady_ms() + wait_ms)


async def kept(write: Callable[..., T], *given: Any) -> T:
    """Run in a thread, to its end even when the task is cancelled meanwhile."""
    return await asyncio.shield(asyncio.to_thread(write, *given))


def kind_of(client: object) -> Any:
    """The class of a client whose library is not imported here."""
    return client.__class__


LOST = (
    "APIConnectionError",
    "RequestError",
    "TransportError",
    "OSError",
)  # a request, on its way or waiting for its answer


def is_lost(error: BaseException) -> bool:
    """Whether it is the connection that failed, and not the program or the library."""
    return any(kind.__name__ in LOST for kind in type(error).__mro__)


class Trying:
    """The tries of one request."""

    def __init__(self, pacer: Pacer, request: Request) -> None:
        self._pacer, self._request = pacer, request
        self._tries, self._call = 0, None
        self._outcome: Any = None  # of the try before
        self._began_ms = pacer.parts.steady_ms()

    _call: Call | None

    def block(self) -> Block[Call]:
        """The next try. Errors: ConfigError, UnknownPrice."""
        terms, needs = self._pacer.terms, self._request.needs
        if self._call is not None:
            return terms.block(self._call.again())
        money, longest = terms.money, (needs.longest or terms.max_tokens or 0) * needs.choices
        weight = {"requests": 1, "input_tokens": needs.prompt} if needs.prompt else None
        return terms.open(
            self._pacer.service,
            key=self._key(),
            model=needs.model,
            money=Money(0, self._currency()) if needs.free else money,
            weight=weight,
            max_tokens=None if needs.free or not longest else longest,
            caching=needs.caching,
            wait=terms.wait,
            **terms.options,
        )

    def _key(self) -> str | None:
        """One that further tries share: they are billed once. A run has its own for what is keyed; the rest takes no place
        in it, because a retry of its task may read more or less."""
        if self._request.key is None and self._request.keyed != self._pacer.terms.in_run():
            return self._pacer.parts.world.new_id("key")
        return self._request.key

    def begun(self, block: Block[Call], call: Call) -> Ending:
        self._call = call
        self._tries += 1
        return Ending(block, call, free=self._request.needs.free)

    def last(self, refusal: LongwatchError) -> Any:
        """There is no further try, Longwatch refuses it: what came of the one before, if there was one."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome from refusal
        if self._tries:
            return self._outcome
        raise refusal

    def failed(self, ending: Ending, error: BaseException, library: Library[Any]) -> int | None:
        """How long to wait before the next try; None: there is none."""
        self._outcome = error
        if isinstance(error, LongwatchError) or not isinstance(error, Exception):
            ending.failed(error, None)
            return None
        self.hear(ending, error, library)
        verdict = library.verdict(error, self._wall_ms())
        found = library.told(error) if verdict is None else None
        if found is not None:
            ending.settled(*found)
            return None
        unsent = proves_unsent(error)
        wait_ms = self._again_ms(verdict, unsent=unsent) if verdict is not None or unsent or is_lost(error) else None
        ending.failed(error, verdict)
        return wait_ms

    def hear(self, ending: Ending, outcome: Any, library: Library[Any]) -> bool:
        """What the answer says of limits is kept; whether the fleet has to be told."""
        headers = library.headers(outcome)
        return headers is not None and ending.call.hear(headers, self._pacer.profile)

    def verdict(self, answer: Any, library: Library[Any]) -> Verdict | None:
        """Of an answer that is an error which its library does not raise; None: it is a good one."""
        verdict = library.verdict(answer, self._wall_ms())
        if verdict is not None and verdict.kind != "ok":
            return verdict
        if self._call is not None and self._call.probe:
            self._call.judged(GOOD, "")  # before the rest of a stream has come
        return None

    def declined(self, ending: Ending, answer: Any, verdict: Verdict) -> int | None:
        """As `failed`, of such an answer."""
        self._outcome = answer
        wait_ms = self._again_ms(verdict, unsent=False)
        ending.failed(Declined(verdict.kind), verdict)
        return wait_ms

    def _again_ms(self, verdict: Verdict | None, *, unsent: bool) -> int | None:
        wait = self._pacer.terms.wait
        left_ms = None
        if wait is not None:
            left_ms = self._began_ms + parse_ms(wait) - self._pacer.parts.steady_ms()
        lately = self._pacer.parts.steady_ms() - self._began_ms < PATIENCE_MS
        if lately and self._call is not None and self._call.probe:
            self._tries -= 1  # the fleet sent it, to find out whether the service answers again
        tried = Try(self._tries, self._request.retries, left_ms, self._request.repeatable)
        return again_ms(tried, verdict, unsent=unsent, fraction=self._pacer.parts.world.fraction())

    def _wall_ms(self) -> int:
        return self._pacer.parts.world.wall_ms()

    def _currency(self) -> str:
        return self._pacer.parts.calls.limiter.limits.currency


class Declined(Exception):
    """An answer with the status of an error."""
