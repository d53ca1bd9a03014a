"""Leases on a real state: who has the name, when it passes on, and what a stale owner is told."""

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from edit_fleet import ME, OTHER, Hand, Opened, VirtualSleeper, open_fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from longwatch.errors import ConfigError, LeaseBusy, LeaseLost
from longwatch.policy.lease import Holder
from longwatch.runtime.loop import Retry
from longwatch.store import fleet
from longwatch.store.leases import Taken

TTL = 1_000


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def sleeper(hand: Hand) -> VirtualSleeper:
    return VirtualSleeper(hand)


@pytest.fixture
def lw(tmp_path: Path, hand: Hand, sleeper: VirtualSleeper) -> Generator[Opened]:
    opened = open_fleet(tmp_path, world=hand, sleeper=sleeper)
    yield opened
    opened.edits.close()
    opened.database.close()


def test_a_name_has_one_holder_and_the_refusal_says_who_and_until_when(lw: Opened) -> None:
    with lw.leases.lease("a.json", holder=ME, ttl_ms=TTL) as held:
        with pytest.raises(LeaseBusy, match=r"a\.json is held by seo \(task_1\)") as caught:
            lw.leases.lease("x/../a.json", holder=OTHER, ttl_ms=TTL, wait_ms=0).__enter__()
        assert (caught.value.holder, caught.value.until_ms) == ("seo", held.until_ms)
        assert caught.value.retry_after == TTL / 1000
        held.check()
    with lw.leases.lease("a.json", holder=OTHER, ttl_ms=TTL, wait_ms=0) as next_one:
        assert next_one.fence > held.fence
    assert lw.kinds("lease.") == ["lease.taken", "lease.released"] * 2


def test_several_names_are_taken_all_or_none(lw: Opened) -> None:
    with lw.leases.lease("b", holder=ME, ttl_ms=TTL):
        with pytest.raises(LeaseBusy):
            lw.leases.lease("c", "b", "a", holder=OTHER, ttl_ms=TTL, wait_ms=0).__enter__()
        for free in ("a", "c"):
            with lw.leases.lease(free, holder=OTHER, ttl_ms=TTL, wait_ms=0):
                pass


def test_a_lease_that_has_run_out_is_lost_even_if_nobody_took_it(lw: Opened, hand: Hand) -> None:
    with lw.leases.lease("a", holder=ME, ttl_ms=TTL) as held:
        hand.advance(TTL - 1)
        held.check()
        hand.advance(1)
        with pytest.raises(LeaseLost):
            held.check()
        lw.leases.beat(ME.owner)
        with pytest.raises(LeaseLost):
            held.check()
    assert lw.kinds("lease.") == ["lease.taken", "lease.released"]


def test_a_beat_renews_its_owners_leases_and_nobody_elses(lw: Opened, hand: Hand) -> None:
    with (
        lw.leases.lease("a", holder=ME, ttl_ms=TTL) as mine,
        lw.leases.lease("b", holder=ME, ttl_ms=2 * TTL) as long,
        lw.leases.lease("c", holder=OTHER, ttl_ms=TTL) as other,
    ):
        first = mine.until
        hand.advance(900)
        lw.leases.beat(ME.owner)
        assert (mine.until - first).total_seconds() == 0.9
        hand.advance(900)
        mine.check()
        long.check()
        with pytest.raises(LeaseLost):
            other.check()


def test_whoever_takes_a_lease_that_has_run_out_overtakes_all_of_it(lw: Opened, hand: Hand) -> None:
    stale = lw.leases.lease("a", "b", holder=ME, ttl_ms=TTL)
    stale.__enter__()
    hand.advance(TTL)
    with lw.leases.lease("b", holder=OTHER, ttl_ms=TTL, wait_ms=0) as fresh:
        with pytest.raises(LeaseLost):
            stale.check()
        stale.leave()
        fresh.check()
        with lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=0):
            pass
    assert lw.kinds("lease.")[:3] == ["lease.taken", "lease.overtaken", "lease.taken"]


def test_a_death_that_is_confirmed_ends_the_leases_at_once(lw: Opened) -> None:
    lw.leases.lease("a", "b", holder=ME, ttl_ms=60_000).__enter__()
    lw.leases.lease("c", holder=OTHER, ttl_ms=60_000).__enter__()
    assert lw.leases.bury(ME.owner) == 1
    with lw.leases.lease("a", "b", holder=OTHER, ttl_ms=TTL, wait_ms=0):
        assert [row.names for row in lw.leases.live()] == [("a", "b"), ("c",)]
    assert lw.leases.bury(ME.owner) == 0
    assert "lease.expired" in lw.kinds()


def test_expiry_drops_what_has_run_out_and_a_bounded_number_at_a_time(lw: Opened, hand: Hand) -> None:
    for n in range(5):
        lw.leases.lease(f"f{n}", holder=ME, ttl_ms=TTL).__enter__()
    lw.leases.lease("long", holder=ME, ttl_ms=5 * TTL).__enter__()
    hand.advance(TTL)
    assert [lw.leases.expire(limit=3) for _ in range(3)] == [3, 2, 0]
    assert [row.names for row in lw.leases.live()] == [("long",)]
    assert lw.kinds("lease.expired") == ["lease.expired"] * 5


def test_another_boot_ends_every_lease(lw: Opened, hand: Hand) -> None:
    held = lw.leases.lease("a", holder=ME, ttl_ms=3_600_000).__enter__()
    hand.boot, hand.steady = "boot-2", 5
    fleet.enter(lw.database, hand, name="shop", redaction_key="k" * 32)
    with pytest.raises(LeaseLost):
        held.check()
    lw.leases.beat(ME.owner)
    with lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=0) as fresh:
        assert fresh.fence > held.fence


def test_a_jump_of_the_wall_clock_changes_no_lease(lw: Opened, hand: Hand) -> None:
    with lw.leases.lease("a", holder=ME, ttl_ms=TTL) as held:
        for jump in (86_400_000, -10 * 86_400_000):
            hand.wall += jump
            held.check()
            with pytest.raises(LeaseBusy):
                lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=0).__enter__()


# -- the line ----------------------------------------------------------------------------------------------------------


def test_a_waiter_gets_the_lease_when_it_runs_out_and_not_before(lw: Opened, hand: Hand) -> None:
    lw.leases.lease("a", holder=ME, ttl_ms=TTL).__enter__()
    began = hand.steady
    with lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=5 * TTL):
        assert TTL <= hand.steady - began <= TTL + 20


def test_waiting_ends_with_the_time_that_was_given(lw: Opened, hand: Hand) -> None:
    lw.leases.lease("a", holder=ME, ttl_ms=60_000).__enter__()
    began = hand.steady
    with pytest.raises(LeaseBusy):
        lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=700).__enter__()
    assert hand.steady - began == 700
    with lw.database.read() as tx:
        assert tx.all("leases.ahead", id="", silent_ms=10**9) == [], "it left the line"


def test_who_came_first_is_served_first(lw: Opened, hand: Hand) -> None:
    held = lw.leases.lease("a", "b", holder=ME, ttl_ms=60_000).__enter__()
    first = lw.leases.lease("a", holder=OTHER, ttl_ms=TTL)
    second = lw.leases.lease("a", "b", holder=OTHER, ttl_ms=TTL)
    third = lw.leases.lease("b", holder=OTHER, ttl_ms=TTL)
    unrelated = lw.leases.lease("c", holder=OTHER, ttl_ms=TTL)
    assert all(isinstance(one.attempt(), Retry) for one in (first, second, third))
    assert unrelated.attempt() is unrelated
    held.leave()
    hand.advance(300)
    assert isinstance(third.attempt(), Retry), "b is free, but the second was here before"
    assert isinstance(second.attempt(), Retry)
    assert first.attempt() is first
    first.leave()
    assert isinstance(third.attempt(), Retry)
    assert second.attempt() is second
    second.leave()
    assert third.attempt() is third


def test_the_silent_lose_their_place(lw: Opened, hand: Hand) -> None:
    held = lw.leases.lease("a", holder=ME, ttl_ms=60_000).__enter__()
    stopped, patient = (lw.leases.lease("a", holder=OTHER, ttl_ms=TTL) for _ in range(2))
    assert isinstance(stopped.attempt(), Retry)
    hand.advance(600)
    assert isinstance(patient.attempt(), Retry)
    held.leave()
    hand.advance(399)
    assert isinstance(patient.attempt(), Retry)
    hand.advance(1)
    assert patient.attempt() is patient
    assert isinstance(stopped.attempt(), Retry)


def test_a_thread_that_waits_for_itself_is_told_at_once(lw: Opened) -> None:
    with lw.leases.lease("a", holder=ME, ttl_ms=TTL) as outer, pytest.raises(LeaseBusy) as caught:
        lw.leases.lease("a", holder=ME, ttl_ms=TTL, wait_ms=None).__enter__()
    assert outer.id in caught.value.hint


def test_a_long_wait_is_told_once(lw: Opened, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    lw.leases.lease("a", holder=ME, ttl_ms=20_000).__enter__()
    with caplog.at_level("INFO", logger="longwatch"), lw.leases.lease("a", holder=OTHER, ttl_ms=TTL):
        assert [record.message for record in caplog.records] == ["biller waits for a, held by seo (task_1)"]


# -- lost replies, wrong words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True])
def test_a_taken_lease_whose_reply_was_lost_is_the_same_lease(lw: Opened, before: bool) -> None:
    lw.database.losing, lw.database.before = 1, before
    with lw.leases.lease("a", holder=ME, ttl_ms=TTL, wait_ms=5_000) as held:
        held.check()
        assert lw.kinds("lease.") == ["lease.taken"]
    lw.database.losing = 1
    with lw.leases.lease("a", holder=ME, ttl_ms=TTL, wait_ms=5_000):
        lw.database.losing = 1
    assert lw.kinds("lease.released") == ["lease.released"] * (1 if before else 2)


def test_giving_up_gives_back_what_a_lost_reply_had_taken(lw: Opened) -> None:
    lw.database.losing = 10
    with pytest.raises(LeaseBusy):
        lw.leases.lease("a", holder=ME, ttl_ms=TTL, wait_ms=0).__enter__()
    lw.database.losing = 0
    lw.leases.lease("a", holder=OTHER, ttl_ms=TTL, wait_ms=0).__enter__()


def test_patterns_shared_leases_and_second_use_are_refused(lw: Opened) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        lw.leases.lease("reports/**", holder=ME, ttl_ms=TTL)
    with pytest.raises(ConfigError, match="shared"):
        lw.leases.lease("a", holder=ME, ttl_ms=TTL, mode="shared")
    with pytest.raises(ConfigError):
        lw.leases.lease(holder=ME, ttl_ms=TTL)
    held = lw.leases.lease("name:deploy", holder=ME, ttl_ms=TTL)
    with held, pytest.raises(ConfigError, match="entered once"):
        held.attempt()


# -- against a model ---------------------------------------------------------------------------------------------------

Move = tuple[str, str, set[str], int]  # what, which lease, which names, milliseconds
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "renew", "release", "wait", "wait", "expire", "bury"]),
        st.sampled_from(["lease_0", "lease_1", "lease_2", "lease_3"]),
        st.sets(st.sampled_from("abc"), min_size=1),
        st.sampled_from([100, 500, 1500]),
    ),
    max_size=40,
)


class Model:
    """What leases are, as a dictionary: id -> (names, ttl, until). Nobody stands in line in it."""

    def __init__(self) -> None:
        self.now, self.held = 0, dict[str, tuple[set[str], int, int]]()

    def is_live(self, lease: str) -> bool:
        return lease in self.held and self.held[lease][2] > self.now

    def take(self, lease: str, names: set[str], ttl: int) -> bool:
        if self.is_live(lease):
            return True
        if any(self.is_live(other) and self.held[other][0] & names for other in self.held):
            return False
        self.held[lease] = (names, ttl, self.now + ttl)
        return True

    def renew(self, lease: str) -> None:
        if self.is_live(lease):
            names, ttl, _ = self.held[lease]
            self.held[lease] = (names, ttl, self.now + ttl)


@settings(max_examples=100, deadline=None)
@given(moves=MOVES)
def test_any_program_of_leases_does_what_the_model_does(moves: list[Move]) -> None:
    hand = Hand()
    lw = open_fleet(Path("/"), world=hand, sleeper=VirtualSleeper(hand), state=":memory:")
    model, fences = Model(), dict[str, int]()
    for move in moves:
        _play(move, lw, model, fences, hand)
    lw.database.close()


def _play(move: Move, lw: Opened, model: Model, fences: dict[str, int], hand: Hand) -> None:
    act, lease, names, ms = move
    store = lw.leases.store
    if act == "take":
        answer = store.take(lease, tuple(sorted(names)), holder=ME, ttl_ms=ms)
        assert isinstance(answer, Taken) == model.take(lease, names, ms)
        if isinstance(answer, Taken):
            assert answer.fence > max(fences.values(), default=0) or answer.fence == fences[lease]
            assert answer.until_ms - lw.database.offset_ms - hand.steady == model.held[lease][2] - model.now
            fences[lease] = answer.fence
        else:
            with lw.database.transaction() as tx:
                tx.count("leases.clear_line_of", owner=ME.owner)
    elif act == "renew":
        assert (lease in store.renew([lease], owner=ME.owner)) == model.is_live(lease)
        assert store.renew([lease], owner="somebody else") == {}
        model.renew(lease)
    elif act == "release":
        store.release(lease)
        model.held.pop(lease, None)
    elif act == "wait":
        hand.advance(ms)
        model.now += ms
    elif act == "expire":
        store.expire(limit=100)
    else:
        store.bury(ME.owner)
        model.held.clear()
    for known, fence in fences.items():
        assert (store.until(known, fence=fence) is not None) == model.is_live(known)


# -- real time, real threads -------------------------------------------------------------------------------------------


def test_a_lease_is_kept_alive_while_its_block_is_open(tmp_path: Path) -> None:
    lw = open_fleet(tmp_path)
    with lw.leases.lease("a", holder=ME, ttl_ms=150) as held:
        first, began = held.until_ms, time.monotonic()
        while held.until_ms < first + 300 and time.monotonic() < began + 20:
            time.sleep(0.005)
        assert held.until_ms >= first + 300, "two beats at least, or it would have run out"
        held.check()
    lw.database.close()


def test_threads_are_one_at_a_time_and_all_get_their_turn(tmp_path: Path) -> None:
    lw = open_fleet(tmp_path)
    inside, most, turns = 0, 0, [0] * 6
    over = threading.Event()

    def work(place: int) -> None:
        nonlocal inside, most
        while not over.is_set():
            with lw.leases.lease("a", holder=Holder(f"owner-{place}", "seo"), ttl_ms=5_000):
                inside += 1
                most = max(most, inside)
                turns[place] += 1
                inside -= 1
            if sum(turns) >= 120:
                over.set()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(turns))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert min(turns) * 3 >= max(turns), f"first come, first served: {turns}"
    lw.database.close()


def test_a_fork_does_not_inherit_the_leases_of_its_parent(tmp_path: Path) -> None:
    lw = open_fleet(tmp_path)
    with lw.leases.lease("a", holder=ME, ttl_ms=5_000) as held:
        child = os.fork()
        if child == 0:
            try:
                held.check()
            except ConnectionError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        held.check()
    lw.database.close()
