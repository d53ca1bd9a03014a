"""Leases in use: waiting for one, keeping it alive while its block is open, and knowing when it is lost.

Every lease is renewed at a third of its length by a thread that serves all leases of that length; the thread ends when
none is open. A beat that fails means unknown, not lost: only the state says what is lost, and `check()` asks it.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from longwatch.errors import ConfigError, LeaseBusy, StoreUnavailable
from longwatch.policy.lease import ASK_MS, Claim, Holder, beat_ms, poll_ms, refuse_odd
from longwatch.policy.paths import resource
from longwatch.runtime.loop import FOREVER_MS, Retry, Sleeper, wait_for
from longwatch.runtime.world import World
from longwatch.store.leases import Busy, LeaseStore, Listed, Taken, lost

TELL_MS = 5_000  # how long somebody waits before the log says for what
Watch = Callable[[int], None]
log = logging.getLogger("longwatch")


class Leases:
    """The leases of one open fleet. root: the folder that their paths are relative to."""

    def __init__(self, *, store: LeaseStore, root: Path, world: World, sleeper: Sleeper) -> None:
        self.store, self.world, self.sleeper = store, world, sleeper
        self.root = Path(os.path.realpath(root))
        self._guard = threading.Lock()
        self._open: dict[str, Lease] = {}
        self._beating: set[int] = set()

    def lease(
        self,
        *names: str,
        holder: Holder,
        ttl_ms: int,
        wait_ms: int | None = None,
        mode: str = "exclusive",
        inside: str = ".",
    ) -> "Lease":
        """The right to write `names`, all or none, from entering the block until leaving it.

        names: files under the root, or "name:deploy". wait_ms: how long to stand in line; None: for ever, 0: not at all.
        inside: the folder that relative names start from. Errors: ConfigError; LeaseBusy when the block is entered.
        """
        spelled = [resource(name, root=str(self.root), inside=inside) for name in names]
        if not spelled:
            raise ConfigError("a lease needs at least one name", hint='Name a file, or "name:deploy".')
        return self.on(spelled, holder=holder, ttl_ms=ttl_ms, wait_ms=wait_ms, mode=mode)

    def on(
        self,
        resources: Iterable[str],
        *,
        holder: Holder,
        ttl_ms: int,
        wait_ms: int | None,
        mode: str = "exclusive",
        edit: str | None = None,
        watch: Watch | None = None,
    ) -> "Lease":
        """As `lease`, on resources already spelled the one way; none at all is fine.

        edit: the edit it is for. watch: called with the steady instant whenever the lease is asked for in vain.
        """
        names = tuple(sorted(set(resources)))
        refuse_odd(mode=mode, ttl_ms=ttl_ms, names=len(names))
        return Lease(self, names, holder=holder, ttl_ms=ttl_ms, wait_ms=wait_ms, edit=edit, watch=watch)

    def beat(self, owner: str) -> None:
        """Renew every open lease of the owner now. Errors: StoreUnavailable: unknown, not lost."""
        self._renew([lease for lease in self._opened() if lease.holder.owner == owner])

    def bury(self, owner: str) -> int:
        """The owner's process is confirmed dead: its leases end at once; how many."""
        return self.store.bury(owner)

    def expire(self, *, limit: int) -> int:
        """Drop up to `limit` leases that have run out; how many."""
        return self.store.expire(limit=limit)

    def live(self) -> list[Listed]:
        """Every lease of the fleet, the soonest to end first."""
        return self.store.live()

    def close(self) -> None:
        """Renew nothing any more: what is still held runs out."""
        with self._guard:
            self._open.clear()

    # -- used by Lease -----------------------------------------------------------------------------------------------

    def opened(self, lease: "Lease") -> None:
        with self._guard:
            self._open[lease.id] = lease
            start = lease.ttl_ms not in self._beating
            self._beating.add(lease.ttl_ms)
        if start:
            self.sleeper.start("lease-beat", lambda: self._keep(lease.ttl_ms))

    def forget(self, lease: "Lease") -> None:
        with self._guard:
            self._open.pop(lease.id, None)

    def held_by_this_thread(self, lease: str, *, owner: str) -> bool:
        with self._guard:
            found = self._open.get(lease)
        return found is not None and (found.thread, found.holder.owner) == (threading.get_ident(), owner)

    def _keep(self, ttl_ms: int) -> None:
        """The beat thread of all leases of one length."""
        try:
            while due := self._after_a_beat(ttl_ms):
                with contextlib.suppress(StoreUnavailable):  # unknown, not lost: there is another beat in time
                    self._renew(due)
        except BaseException:
            with self._guard:
                self._beating.discard(ttl_ms)  # the next lease of this length starts a thread anew
            raise

    def _after_a_beat(self, ttl_ms: int) -> "list[Lease]":
        """Sleep, then what has to be renewed; nothing: the thread is to end."""
        self.sleeper.sleep_until(self.world.steady_ms() + beat_ms(ttl_ms))
        with self._guard:
            due = [lease for lease in self._open.values() if lease.ttl_ms == ttl_ms]
            if not due:
                self._beating.discard(ttl_ms)
            return due

    def _renew(self, leases: Sequence["Lease"]) -> None:
        for owner in {lease.holder.owner for lease in leases}:
            ours = [lease for lease in leases if lease.holder.owner == owner]
            renewed = self.store.renew([lease.id for lease in ours], owner=owner)
            for lease in ours:
                if lease.id in renewed:
                    lease.until_ms = renewed[lease.id]
                else:
                    self.forget(lease)  # lost, or just released: `check` tells

    def _opened(self) -> list["Lease"]:
        with self._guard:
            return list(self._open.values())


class Lease:
    """One lease: `with leases.lease(...) as lease`. `.fence` grows with every lease; `.check()` before what matters."""

    def __init__(
        self,
        leases: Leases,
        names: tuple[str, ...],
        *,
        holder: Holder,
        ttl_ms: int,
        wait_ms: int | None,
        edit: str | None,
        watch: Watch | None,
    ) -> None:
        self.names, self.holder, self.ttl_ms, self.wait_ms = names, holder, ttl_ms, wait_ms
        self.id = leases.world.new_id("lease")
        self.until_ms = 0
        self.thread = 0
        self._leases, self._edit, self._watch = leases, edit, watch
        self._fence = 0
        self._busy: Claim | None = None
        self._asked_ms = self._began_ms = self._told_ms = 0

    @property
    def fence(self) -> int:
        """The number of this right to write: whoever comes later has a greater one. 0 before the block is entered."""
        return self._fence

    @property
    def until(self) -> datetime:
        """When the lease ends unless it is renewed."""
        return datetime.fromtimestamp(self.until_ms / 1000, UTC)

    def check(self) -> None:
        """Errors: LeaseLost when it has run out or passed on. Asks the state, every time."""
        if self._leases.store.until(self.id, fence=self._fence) is None:
            raise lost(self.id)

    def __enter__(self) -> Self:
        now_ms = self._leases.world.steady_ms()
        until_ms = FOREVER_MS if self.wait_ms is None else now_ms + self.wait_ms
        if wait_for(self._attempt_here, sleeper=self._leases.sleeper, until_ms=until_ms) is None:
            raise self.give_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(error)

    # -- the same without blocking, for whoever waits in another way ----------------------------------------------------

    def attempt(self) -> "Self | Retry":
        """Take it if it is free; else when to ask again. Errors: ConfigError on second use, StoreUnavailable."""
        now_ms = self._leases.world.steady_ms()
        self._began_ms = self._began_ms or now_ms
        if self._fence:
            raise ConfigError("a lease is entered once", hint="Ask for another one: lw.lease(...).")
        if (
            self._busy
            and now_ms < self._asked_ms + ASK_MS
            and (busy := self._leases.store.blocked(self.id, self.names))
        ):
            return self._wait(busy, now_ms)
        return self._take(now_ms)

    def give_up(self) -> LeaseBusy:
        """Leave the line; the error to raise."""
        self._give_back()  # also what was taken by an attempt whose reply was lost
        busy, now_ms = self._busy, self._leases.world.steady_ms()
        if busy is None:
            return LeaseBusy(f"{self._named()} could not be taken in time", holder="", until_ms=0)
        left_ms = max(0, busy.until_ms - self._leases.store.database.offset_ms - now_ms)
        message = (
            f"{self._named()} is held by {_who(busy)} for another {left_ms / 1000:.1f} s, or as long as that renews it"
        )
        hint = 'Wait longer (wait="5m"), or see who holds what: longwatch lease list.'
        return LeaseBusy(message, holder=busy.agent, until_ms=busy.until_ms, hint=hint, retry_after=left_ms / 1000)

    def leave(self, error: BaseException | None = None) -> None:
        """Give it back. If the state is away it runs out by itself."""
        self._leases.world.reach("lease.leaving")
        self.forget()
        self._give_back()

    def forget(self) -> None:
        """Stop renewing it: somebody else gives it back."""
        self._leases.forget(self)

    def _give_back(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # the block's own outcome counts; the lease ends by itself
            self._leases.store.release(self.id)

    def _attempt_here(self) -> "Self | Retry":
        answer = self.attempt()
        if isinstance(answer, Retry) and self._busy and self._is_mine(self._busy):
            error = self.give_up()
            error.hint = f"This very thread holds it, as {self._busy.id}: end that block first, or name all in one."
            raise error
        self.thread = threading.get_ident()
        return answer

    def _is_mine(self, claim: Claim) -> bool:
        return self._leases.held_by_this_thread(claim.id, owner=self.holder.owner)

    def _take(self, now_ms: int) -> "Self | Retry":
        store = self._leases.store
        self._asked_ms = now_ms
        try:
            answer = store.take(self.id, self.names, holder=self.holder, ttl_ms=self.ttl_ms, edit=self._edit)
        except StoreUnavailable as error:
            if not error.maybe_committed:
                raise
            return Retry(now_ms + ASK_MS)  # the same id finds the same lease
        if isinstance(answer, Busy):
            return self._wait(answer, now_ms)
        self._leases.world.reach("lease.taken")
        return self._hold(answer)

    def _hold(self, taken: Taken) -> Self:
        self._fence, self.until_ms = taken.fence, taken.until_ms
        self._leases.opened(self)
        return self

    def _wait(self, busy: Busy, now_ms: int) -> Retry:
        self._busy = busy.by
        if self._watch is not None:
            self._watch(now_ms)
        if not self._told_ms and now_ms - self._began_ms >= TELL_MS:
            self._told_ms = now_ms
            log.info("%s waits for %s, held by %s", self.holder.agent, self._named(), _who(busy.by))
        ends_ms = busy.by.until_ms - self._leases.store.database.offset_ms
        poll = max(1, poll_ms(busy.place, self._leases.world.fraction()))
        return Retry(min(now_ms + poll, max(ends_ms, now_ms) + 1))

    def _named(self) -> str:
        names = self._busy.names if self._busy else self.names
        ours = [name for name in self.names if name in names] or list(self.names)
        return ", ".join(ours[:3]) + (f" and {len(ours) - 3} more" if len(ours) > 3 else "")


def _who(claim: Claim) -> str:
    return f"{claim.agent} ({claim.task or claim.id})"
