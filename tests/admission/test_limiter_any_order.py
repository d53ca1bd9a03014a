"""Random programs of admissions and endings on real SQL: no cap is ever passed, no place taken twice, no sum drifts."""

from fractions import Fraction

from call_fleet import DAY, HOUR, MINUTE, Hand, Opened, open_fleet
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.refusals import KeyForgotten
from longwatch.errors import BudgetExceeded, LimitRefused
from longwatch.policy.limits import Budget, Cap, Limits, Rate, Service
from longwatch.policy.meter import usable_burst

CAP, DAILY, PLACES, QUOTA = 1_000, 400, 4, 12
RATE = Rate(20, 1_000, 8)
LIMITS = Limits(
    fleet_money=(Cap(CAP, "total"),),
    services={
        "api": Service(
            "api", rates={"requests": RATE}, concurrency=PLACES, quota=Cap(QUOTA, "hour"), key_memory_ms=9 * HOUR
        )
    },
    budgets={"growth": Budget("growth", {"money": (Cap(DAILY, "day"),)}, (0.5, 1.0))},
    agents={"seo": Budget("seo", {"money": (Cap(DAILY, "day"),)})},
)
OWNERS = ("owner-1", "owner-2")


class Programs(RuleBasedStateMachine):
    """Actuals stay within their holds here, so that a cap that is passed is the limiter's doing."""

    @initialize()
    def found(self) -> None:
        self.fleet: Opened = open_fleet_in_memory()
        self.hand = self.fleet.hand
        self.requests: list[CallRequest] = []
        self.slots: dict[str, int] = {}

    @rule(
        money=st.integers(0, 250),
        owner=st.sampled_from(OWNERS),
        agent=st.sampled_from(["seo", "biller"]),
        budget=st.sampled_from(["growth", None]),
        key=st.sampled_from([None, "key-1", "key-2"]),
    )
    def admit(self, money: int, owner: str, agent: str, budget: str | None, key: str | None) -> None:
        request = self.fleet.request("api", money=money, owner=owner, agent=agent, budget=budget, key=key)
        try:
            answer = self.fleet.limiter.admit(request)
        except (BudgetExceeded, LimitRefused, KeyForgotten):
            return
        if isinstance(answer, Admitted):
            self.requests.append(request)
            self.slots[request.id] = answer.slot_ms

    @rule(place=st.integers(0, 30))
    def admit_again(self, place: int) -> None:
        if self.requests:
            request = self.requests[place % len(self.requests)]
            assert self.fleet.admit(request).slot_ms == self.slots[request.id]

    @rule(place=st.integers(0, 30), end=st.sampled_from(["settle", "settle_less", "unknown", "release"]))
    def end(self, place: int, end: str) -> None:
        if not self.requests:
            return
        request = self.requests[place % len(self.requests)]
        phase = self.fleet.limiter.find(request.id).phase
        if phase not in ("waiting", "leaving"):
            return
        if end == "unknown":
            self.fleet.limiter.unknown(request.id, owner=request.owner)
        elif end == "release":
            self.fleet.limiter.release(request.id, owner=request.owner)
            self.slots.pop(request.id)
            self.requests.remove(request)
        else:
            money = request.money if end == "settle" else request.money // 2
            self.fleet.limiter.settle(request.id, owner=request.owner, money=money)

    @rule(place=st.integers(0, 30))
    def learn_of_an_unknown_one(self, place: int) -> None:
        unknown = [request for request in self.requests if self.fleet.limiter.find(request.id).phase == "unknown"]
        if unknown:
            request = unknown[place % len(unknown)]
            cost = -(-request.money // 3)  # never nothing: then the doubt about an earlier call with its key comes back
            self.fleet.limiter.settle(request.id, owner=request.owner, money=cost)

    @rule(owner=st.sampled_from(OWNERS))
    def bury(self, owner: str) -> None:
        self.fleet.limiter.bury(owner)
        for request in list(self.requests):
            if self.fleet.limiter.find(request.id).phase == "released":
                self.slots.pop(request.id)
                self.requests.remove(request)

    @rule(owner=st.sampled_from(OWNERS))
    def beat(self, owner: str) -> None:
        self.fleet.limiter.beat(owner)

    @rule()
    def expire(self) -> None:
        self.fleet.limiter.expire()

    @rule(ms=st.sampled_from([10, 200, 1_500, MINUTE, 11 * MINUTE, HOUR, 7 * HOUR]))
    def pass_time(self, ms: int) -> None:
        self.hand.advance(ms)

    @rule(ms=st.sampled_from([-DAY, -HOUR, -MINUTE, MINUTE, DAY]))
    def jump_the_wall_clock(self, ms: int) -> None:
        self.hand.wall += ms

    @invariant()
    def no_cap_is_passed(self) -> None:
        for cap in self.fleet.limiter.peek().caps:
            assert cap.spent + cap.held <= cap.cap, cap

    @invariant()
    def spent_and_held_are_the_sum_of_the_calls(self) -> None:
        calls = [self.fleet.limiter.find(request.id) for request in self.requests]
        (fleet,) = [cap for cap in self.fleet.limiter.peek().caps if cap.purse == "fleet"]
        assert fleet.spent == sum(call.money for call in calls if call.phase in ("settled", "unknown"))
        assert fleet.held == sum(call.money for call in calls if call.phase in ("waiting", "leaving"))

    @invariant()
    def one_call_of_a_key_bears_its_charge(self) -> None:
        for key in ("key-1", "key-2"):
            calls = [self.fleet.limiter.find(request.id) for request in self.requests if request.key == key]
            assert sum(call.money > 0 for call in calls if call.phase in ("settled", "unknown")) <= 1

    @invariant()
    def no_place_is_taken_twice(self) -> None:
        assert len(self.fleet.limiter.open_calls()) <= PLACES

    @invariant()
    def the_provider_would_not_refuse(self) -> None:
        slots = sorted(self.slots.values())
        for first, begin in enumerate(slots):
            for last, at in enumerate(slots[first:], first):
                room = usable_burst(RATE) + Fraction((at - begin + 1) * RATE.amount, RATE.per_ms)
                assert last - first + 1 <= room

    def teardown(self) -> None:
        self.fleet.database.close()


def open_fleet_in_memory() -> Opened:
    return open_fleet(":memory:", limits=LIMITS, hand=Hand())


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
