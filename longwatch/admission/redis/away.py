"""Going on by the share while Redis is away, and going back to it.

A process that gets no answer goes by the share at once, and asks Redis again now and then, apart from its calls. It goes
back when Redis is there and may decide: one that has lost its memory is filled from the ledger first, by whoever notices.
Before it goes back it tells Redis what it cannot know: gates that have moved, meters that were held back, and which of the
calls that it asked for in vain the state has decided about: Redis may have admitted those all the same.
"""

from collections.abc import Mapping

from longwatch.admission.calls import Admitted, CallRequest, Word, whole_ms
from longwatch.admission.gates import meter_of
from longwatch.admission.redis.calls import CallsInRedis
from longwatch.admission.redis.link import EngineAway
from longwatch.admission.redis.values import Known, Said, text
from longwatch.admission.share import cut_off
from longwatch.admission.standing import Prepared
from longwatch.errors import LongwatchError, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.call import Reconciling
from longwatch.policy.scope import gate_gauge

BEGINS = "the start of its meters"  # what calls wait for while Redis is not filled again
OWN = 4_096  # ids of calls that the state was asked about
MEET_MS = 1_000  # how often whoever sees Redis looks whether gates have moved that it was not told of
AGAIN = 3  # how often it is told of calls that are not its own: it may execute late what it was asked


class GoingOn(CallsInRedis):
    """Safe in threads."""

    _met_ms = -MEET_MS

    @property
    def away(self) -> bool:
        return self.cut.error is not None and self.limits.away > 0

    def failed(self, error: StoreUnavailable) -> None:
        """When the fleet is opened. Errors: StoreUnavailable, without a share."""
        if not isinstance(error, EngineAway) or not self.limits.away:
            raise error
        self.cut.failed(error)

    def scope(self, service: str, model: str | None, budget: str | None, agent: str) -> Prepared:
        scope = self.share.scope if self.cut.holds else super().scope
        return scope(service, model, budget, agent)

    # -- by the share ------------------------------------------------------------------------------------------------------

    def by_share(self, request: CallRequest) -> Admitted | Later:
        """Errors: as of any limiter; StoreUnavailable, which waits, where the share is no use."""
        known = self._recent.find(request.id)
        if known is not None:
            return Admitted(known.id, known.who.key, whole_ms(known.slot_us), known.hold.money, known.hold.tokens)
        self.cut.goes(request)
        self.pending()
        if len(self._beside) >= OWN:
            self._beside.popitem(last=False)
        self._beside[request.id] = None
        try:
            answer = self.share.admit(request)
        except LongwatchError as error:
            if not isinstance(error, StoreUnavailable) or error.waits:
                del self._beside[request.id]
            raise
        if isinstance(answer, Later):
            del self._beside[request.id]
        elif request.id in self._vain:
            del self._vain[request.id]
            self._disowned[request.id] = AGAIN
        return answer

    def in_vain(self, call: str) -> None:
        """Redis was asked to admit it, and nobody knows whether it did."""
        if len(self._vain) >= OWN:
            self._vain.popitem(last=False)
        self._vain[call] = None

    def before(self, request: CallRequest) -> Admitted | None:
        """The answer of the state, if it has admitted the call: whether it did may not have been heard."""
        if request.id not in self._beside:
            return None
        found = self.share.admitted(request.id)
        if found is None:
            del self._beside[request.id]
        return found

    # -- calls that the state has admitted, whether or not Redis is back ---------------------------------------------------

    def _is_own(self, call: str) -> bool:
        """Whether the state has decided about it."""
        if call in self._beside or call in self._recent or call in self._records.book:
            return call in self._beside
        return self.share.has(call)

    def reslot(self, call: str, *, owner: str) -> Admitted:
        if self._is_own(call):
            return self.share.reslot(call, owner=owner)
        return self._late(self._kept(call, owner)) if self.cut.holds else super().reslot(call, owner=owner)

    def _late(self, kept: Known) -> Admitted:
        """Redis is away, and has given it a slot that it missed: one of the share's, which Redis need not know."""
        who, weights = kept.who, kept.weights
        rates = self._prepared(kept).scope.rates
        share = self.share.scope(who.service, who.model, who.budget, who.agent)
        weighs = {gauge.dimension: weights[gauge.meter][0] for gauge in rates if gauge.meter in weights}
        slot_us = self.share.late(share, weighs)
        return Admitted(kept.id, who.key, whole_ms(slot_us), kept.hold.money, kept.hold.tokens)

    def settle(
        self,
        call: str,
        *,
        owner: str,
        money: int | None = None,
        tokens: int | None = None,
        used: Mapping[str, int] | None = None,
    ) -> None:
        settle = self.share.settle if self._is_own(call) else super().settle
        settle(call, owner=owner, money=money, tokens=tokens, used=used)

    def release(self, call: str, *, owner: str) -> None:
        release = self.share.release if self._is_own(call) else super().release
        release(call, owner=owner)

    def unknown(self, call: str, *, owner: str) -> None:
        unknown = self.share.unknown if self._is_own(call) else super().unknown
        unknown(call, owner=owner)

    def reconcile(self, call: str, word: Word) -> Reconciling:
        reconcile = self.share.reconcile if self._is_own(call) else super().reconcile
        return reconcile(call, word)

    # -- back to Redis -----------------------------------------------------------------------------------------------------

    def ask_again(self) -> None:
        if self.away and self.cut.is_due():
            self._try()

    def _try(self) -> None:
        with self.cut.trying() as mine:
            if not mine:
                return
            try:
                self._memory.generation = ""
                self.link.renew()
                self.flush()
                self._filled()
                self._meet(self._owed)
                self._owed = {}
            except StoreUnavailable as error:
                self.cut.failed(EngineAway(error.message, hint=error.hint))
                return
        self.cut.back()

    def _filled(self) -> None:
        """Errors: EngineAway: it may not decide yet."""
        for _ in range(2):
            said = self.link.run("state", self._now())
            state: Said = said.get("st") or {}
            if state.get("ready"):
                return
            if said["now"] < state.get("opens", 0) and state.get("born"):
                raise self.beginning()
            self._memory.fill()
        raise self.beginning()

    def beginning(self) -> EngineAway:
        return EngineAway(
            f"the admission engine at {self.link.place} has lost its memory, and is filled again from the state",
            hint="It decides again in a moment.",
        )

    def meet(self) -> None:
        """What the state knows of gates Redis is told by whoever reaches it: others may not."""
        now_ms = self._fleet_ms()
        if now_ms - self._met_ms >= MEET_MS:
            self._met_ms = now_ms
            if cut_off(self.database):
                self._meet({})

    def _meet(self, slowed: dict[str, int]) -> None:
        gates = {gate_gauge(gate.name).meter: meter_of(gate) for gate in self.gates.all() if gate.version}
        if gates or slowed:
            self._bar(gates, slowed)
        self.tell_disowned()

    def tell_disowned(self) -> None:
        """Redis is told a few times: what it was asked before may reach it later."""
        told = dict(self._disowned)
        if told:
            self._run("disown", {"ids": list(told)})
        for call, times in told.items():
            if times > 1:
                self._disowned[call] = times - 1
            else:
                self._disowned.pop(call, None)


def is_beginning(answer: object) -> bool:
    return isinstance(answer, Later) and text(answer.what) == BEGINS
