"""One worker, in this process, on a real state: what becomes of a task whichever way its handler ends."""

# pyright: reportUnknownMemberType=false
import asyncio
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apsw import Connection

import longwatch
from longwatch import GiveUp, RetryLater, Run
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import LeaseLost, StepReused, StoreUnavailable
from longwatch.runtime.loop import Fifos
from longwatch.runtime.parts import Parts
from longwatch.runtime.worker import Worker
from longwatch.runtime.world import pids_of, start_ticks

Fleet = Callable[..., longwatch.Longwatch]
BACKOFF = 0.02  # seconds


@pytest.fixture
def opened(tmp_path: Path) -> Generator[Fleet]:
    """Opens fleets below the test's folder; closes them afterwards."""
    handles: list[longwatch.Longwatch] = []

    def make(name: str = "one", **fleet: object) -> longwatch.Longwatch:
        handles.append(longwatch.open(tmp_path / name / "state.db", config={"fleet": {"root": str(tmp_path), **fleet}}))
        return handles[-1]

    yield make
    for handle in handles:
        handle.close()


@pytest.fixture
def lw(opened: Fleet) -> longwatch.Longwatch:
    return opened()


def kinds(lw: longwatch.Longwatch, task: str) -> list[str]:
    """What the journal says of a task."""
    return [entry.kind for entry in lw.opened.parts.journal.after(0, limit=1000, subject=task)]


def worker_of(lw: longwatch.Longwatch) -> Worker:
    parts = lw.opened.parts
    return Worker(parts, lw.opened.registry, owner=parts.world.new_id("worker"))


def until(condition: Callable[[], bool], what: str, *, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"waited {seconds} s for {what}"
        time.sleep(0.005)


# -- failing and trying again --------------------------------------------------------------------------------------------


def test_a_failing_task_runs_once_more_than_its_retries_each_after_its_backoff(lw: longwatch.Longwatch) -> None:
    at: list[float] = []

    @lw.task(retries=2, backoff=BACKOFF)
    def fails(run: Run) -> None:
        at.append(time.monotonic())
        raise ValueError(f"attempt {run.attempt}")

    task = lw.submit(fails.bind())
    assert lw.work(until_idle=True) == longwatch.Report(failed=1)
    ended = lw.get(task.id)
    assert (ended.state, ended.failures, len(at)) == ("failed", 3, 3)
    assert ended.error is not None
    assert ended.error.startswith("ValueError: attempt 3\n  at test_worker.py:")
    waits = [second - first for first, second in itertools.pairwise(at)]
    assert waits[0] >= BACKOFF / 2
    assert waits[1] >= BACKOFF
    with pytest.raises(longwatch.TaskFailed, match="attempt 3"):
        _ = ended.result


def test_without_retries_the_first_failure_is_the_last(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def fails(run: Run) -> None:
        raise ValueError("no")

    task = lw.submit(fails.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, lw.get(task.id).failures) == ("failed", 1)


def test_giving_up_ends_the_task_whatever_retries_are_left(lw: longwatch.Longwatch) -> None:
    attempts: list[int] = []

    @lw.task(retries=5, backoff=BACKOFF)
    def gives_up(run: Run) -> None:
        attempts.append(run.attempt)
        raise GiveUp("no such customer")

    task = lw.submit(gives_up.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, attempts) == ("failed", [1])


def test_retry_later_sets_the_instant_of_the_next_attempt_and_counts_as_one(lw: longwatch.Longwatch) -> None:
    at: list[float] = []

    @lw.task(retries=1, backoff="5m")
    def later(run: Run) -> str:
        at.append(time.monotonic())
        if run.attempt == 1:
            raise RetryLater(0.2, "bank closed")
        return "paid"

    task = lw.submit(later.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).result == "paid"
    assert lw.get(task.id).failures == 1
    assert 0.2 <= at[1] - at[0] < 10


def test_a_step_is_not_run_again_by_a_retry(lw: longwatch.Longwatch) -> None:
    ran: list[str] = []

    def work(name: str) -> dict[str, list[int]]:
        ran.append(name)
        return {name: [1, 2]}

    @lw.task(retries=1, backoff=BACKOFF)
    def steps(run: Run) -> Any:
        first = run.step("first", work, "first")
        if run.attempt == 1:
            raise ValueError("between the steps")
        return [first, run.step("second", work, "second")]

    task = lw.submit(steps.bind())
    lw.work(until_idle=True)
    assert ran == ["first", "second"]
    assert lw.get(task.id).result == [{"first": [1, 2]}, {"second": [1, 2]}]


def test_a_step_gives_the_same_value_on_its_first_run_as_on_a_retry(lw: longwatch.Longwatch) -> None:
    seen: list[object] = []

    def pair() -> Any:
        return (1, {2: datetime(2026, 1, 1, tzinfo=UTC)})

    @lw.task(retries=1, backoff=BACKOFF)
    def twice(run: Run) -> None:
        seen.append(run.step("pair", pair))
        if run.attempt == 1:
            raise ValueError("again")

    lw.submit(twice.bind())
    lw.work(until_idle=True)
    assert seen[0] == seen[1] == [1, {"2": "2026-01-01T00:00:00Z"}]


def test_a_step_name_used_twice_is_refused_and_not_retried(lw: longwatch.Longwatch) -> None:
    @lw.task(retries=3, backoff=BACKOFF)
    def reuses(run: Run) -> None:
        run.step("page", int)
        run.step("page", int)

    task = lw.submit(reuses.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).error is not None
    assert "StepReused" in str(lw.get(task.id).error)
    assert lw.get(task.id).failures == 1


@pytest.mark.parametrize("inside", [True, False], ids=["a step's", "the task's"])
def test_a_result_that_cannot_be_stored_fails_the_task_with_its_path(lw: longwatch.Longwatch, inside: bool) -> None:
    def odd() -> Any:
        return {"rows": [1, {"when": object()}]}

    @lw.task(retries=3, backoff=BACKOFF)
    def unstorable(run: Run) -> Any:
        return run.step("odd", odd) if inside else odd()

    task = lw.submit(unstorable.bind())
    lw.work(until_idle=True)
    assert "['rows'][1]['when'] is a object" in str(lw.get(task.id).error)
    assert lw.get(task.id).failures == 1


def test_a_handler_that_calls_sys_exit_fails_its_task_and_not_its_worker(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def leaves(run: Run) -> None:
        raise SystemExit(3)

    @lw.task()
    def stays(run: Run) -> str:
        return "here"

    first, second = lw.submit(leaves.bind()), lw.submit(stays.bind())
    lw.work(until_idle=True)
    assert (lw.get(first.id).state, lw.get(second.id).state) == ("failed", "done")


# -- effects that are never repeated -------------------------------------------------------------------------------------


def test_an_effect_that_raised_makes_the_task_unknown_until_a_person_resolves_it(lw: longwatch.Longwatch) -> None:
    sent: list[int] = []

    def send() -> str:
        sent.append(1)
        raise ConnectionError("the reply was lost")

    @lw.task(retries=3, backoff=BACKOFF)
    def mails(run: Run) -> str:
        return run.once("mail", send)

    @lw.task()
    def after(run: Run) -> str:
        return "told"

    task = lw.submit(mails.bind())
    dependant = lw.submit(after.bind(), after=[task])
    assert lw.work(until_idle=True) == longwatch.Report(unknown=1)
    assert (lw.get(task.id).state, lw.get(dependant.id).state, sent) == ("unknown", "waiting", [1])
    with pytest.raises(longwatch.TaskUnknown, match="the outcome of 'mail' is not known"):
        _ = lw.get(task.id).result

    lw.opened.parts.tasks.resolve(task.id, "done", result='"sent after all"')
    lw.work(until_idle=True)
    assert (lw.get(task.id).result, lw.get(dependant.id).result, sent) == ("sent after all", "told", [1])


def test_a_lost_outcome_cannot_be_swallowed_by_the_handler(lw: longwatch.Longwatch) -> None:
    def send() -> None:
        raise ConnectionError("the reply was lost")

    @lw.task(retries=1, backoff=BACKOFF)
    def swallows(run: Run) -> str:
        try:
            run.once("mail", send)
        except Exception:  # noqa: BLE001 - the very thing
            return "all is well"
        return "sent"

    task = lw.submit(swallows.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).state == "unknown"


@pytest.mark.parametrize("error", [GiveUp("closed"), RetryLater(BACKOFF), longwatch.LimitRefused("full")])
def test_an_effect_that_says_nothing_took_place_is_not_unknown(lw: longwatch.Longwatch, error: Exception) -> None:
    tries: list[int] = []

    def send() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise error
        return "sent"

    @lw.task(retries=1, backoff=BACKOFF)
    def mails(run: Run) -> str:
        return run.once("mail", send)

    task = lw.submit(mails.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).state == ("failed" if isinstance(error, GiveUp) else "done")


def test_an_effect_is_not_repeated_by_a_retry(lw: longwatch.Longwatch) -> None:
    sent: list[int] = []

    @lw.task(retries=1, backoff=BACKOFF)
    def mails(run: Run) -> None:
        run.once("mail", sent.append, 1)
        if run.attempt == 1:
            raise ValueError("after the mail")

    task = lw.submit(mails.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, sent) == ("done", [1])


# -- time ----------------------------------------------------------------------------------------------------------------


def test_a_run_past_its_timeout_is_given_up_and_its_handler_is_heard_no_more(lw: longwatch.Longwatch) -> None:
    refused: list[str] = []

    @lw.task(timeout=0.15, retries=1, backoff=BACKOFF)
    def slow(run: Run) -> int:
        if run.attempt == 1:
            until(lambda: lw.get(run.task).state != "running", "the run to be given up")
            for _ in range(2):
                try:
                    run.step("late", int)
                except LeaseLost as error:
                    refused.append(error.code)
        return run.attempt

    task = lw.submit(slow.bind())
    began = time.monotonic()
    lw.work(until_idle=True)
    ended = lw.get(task.id)
    assert time.monotonic() - began < 10
    assert (ended.result, ended.failures, refused) == (2, 1, ["lease_lost", "lease_lost"])
    assert kinds(lw, task.id).count("task.done") == 1


def test_a_handler_past_its_timeout_costs_no_processor_time(lw: longwatch.Longwatch) -> None:
    spent: list[float] = []

    @lw.task(timeout=0.05)
    def slow(run: Run) -> None:
        until(lambda: lw.get(run.task).state == "failed", "the run to be given up")
        before = time.process_time()
        time.sleep(0.5)
        spent.append(time.process_time() - before)

    lw.submit(slow.bind())
    lw.work(until_idle=True)
    assert spent[0] < 0.25


def test_a_task_is_not_started_before_its_instant(lw: longwatch.Longwatch) -> None:
    at: list[datetime] = []

    @lw.task()
    def tick(run: Run) -> None:
        at.append(datetime.now(UTC))

    due = datetime.now(UTC) + timedelta(seconds=0.4)
    task = lw.submit(tick.bind(), at=due)
    assert task.state == "scheduled"
    assert lw.work(until_idle=True) == longwatch.Report(done=1)
    assert timedelta(seconds=-0.002) <= at[0] - due < timedelta(seconds=10)


def test_what_is_due_later_than_in_a_minute_does_not_keep_an_idle_worker(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def tick(run: Run) -> None: ...

    task = lw.submit(tick.bind(), at="2m")
    assert lw.work(until_idle=True) == longwatch.Report()
    assert lw.get(task.id).state == "scheduled"


def test_urgent_tasks_start_before_normal_ones_and_those_before_batches(lw: longwatch.Longwatch) -> None:
    order: list[str] = []

    @lw.task()
    def note(run: Run, lane: str) -> None:
        order.append(lane)

    for lane in ("batch", "normal", "urgent", "normal"):
        lw.submit("note", {"lane": lane}, lane=lane)
    lw.work(until_idle=True)
    assert order == ["urgent", "normal", "normal", "batch"]


# -- dependants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fate", "state"), [("cancel", "cancelled"), ("fail", "failed"), ("ignore", "done")])
def test_a_dependant_learns_of_a_failure_before_it_starts_as_its_fate_says(
    lw: longwatch.Longwatch, fate: Any, state: str
) -> None:
    started: list[str] = []

    @lw.task()
    def fails(run: Run) -> None:
        raise ValueError("bank closed")

    @lw.task()
    def follows(run: Run, name: str) -> None:
        started.append(name)

    first = lw.submit(fails.bind())
    second = lw.submit(follows.bind("second"), after=[first], after_failed=fate)
    third = lw.submit(follows.bind("third"), after=[second], after_failed="cancel")
    lw.work(until_idle=True)
    told = lw.get(second.id)
    assert told.state == state
    assert started == (["second", "third"] if fate == "ignore" else [])
    if fate != "ignore":
        assert told.cause == lw.get(third.id).cause == first.id
        assert "ValueError: bank closed" in str(told.error)
        assert f"root cause {first.id}" in str(lw.get(third.id).error)


def test_a_task_waits_for_all_that_it_needs(lw: longwatch.Longwatch) -> None:
    order: list[str] = []

    @lw.task()
    def note(run: Run, name: str) -> None:
        order.append(name)

    needs = [lw.submit(note.bind(name), lane="batch") for name in ("a", "b", "c")]
    lw.submit(note.bind("last"), after=needs, lane="urgent")
    lw.work(until_idle=True)
    assert order[-1] == "last"
    assert sorted(order[:-1]) == ["a", "b", "c"]


# -- losing the run ------------------------------------------------------------------------------------------------------


def test_a_cancelled_run_is_refused_every_further_use_and_writes_nothing(lw: longwatch.Longwatch) -> None:
    codes: list[str] = []

    @lw.task(retries=3, backoff=BACKOFF)
    def cancelled(run: Run) -> str:
        lw.cancel(run.task)
        for name in ("one", "two"):
            try:
                run.step(name, int)
            except LeaseLost as error:
                codes.append(error.code)
        return "never kept"

    task = lw.submit(cancelled.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, codes) == ("cancelled", ["lease_lost", "lease_lost"])
    assert "step.stored" not in kinds(lw, task.id)
    assert lw.get(task.id).failures == 0


def test_a_run_that_uses_nothing_notices_its_loss_by_the_next_beat(opened: Fleet) -> None:
    lw = opened(lease="300ms")
    noticed: list[bool] = []

    @lw.task()
    def idles(run: Run) -> None:
        lw.cancel(run.task)

        def lost() -> bool:
            try:
                run.check()
            except LeaseLost:
                return True
            return False

        until(lost, "a beat to tell")
        noticed.append(True)

    lw.submit(idles.bind())
    lw.work(until_idle=True)
    assert noticed == [True]


def test_a_long_run_keeps_its_lease_by_its_beats(opened: Fleet) -> None:
    lw = opened(lease="300ms")

    @lw.task()
    def long(run: Run) -> int:
        time.sleep(1.2)  # four leases
        run.step("still", int)
        return run.attempt

    task = lw.submit(long.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).result, lw.get(task.id).crashes) == (1, 0)


def test_a_result_whose_run_was_overtaken_is_not_kept(opened: Fleet) -> None:
    lw = opened(lease="60s")
    parts = lw.opened.parts

    @lw.task()
    def slow(run: Run) -> str:
        if run.attempt > 1:
            return "by the second"
        parts.runs.bury(run.claimed.task.owner or "")  # somebody holds its worker for dead
        return "by the first"

    task = lw.submit(slow.bind())
    lw.work(until_idle=True)
    ended = lw.get(task.id)
    assert (ended.result, ended.crashes) == ("by the second", 1)
    assert kinds(lw, task.id).count("task.done") == 1


@pytest.mark.parametrize("lost", [True, False], ids=["the run is lost", "its result cannot be stored"])
def test_a_step_that_is_not_stored_gives_back_the_leases_of_its_edits(lw: longwatch.Longwatch, lost: bool) -> None:
    @lw.task()
    def first(run: Run) -> object:
        def write() -> Any:
            with lw.edit("page.txt") as edit:
                edit.write_text("page.txt", "first")
            if lost:
                lw.cancel(run.task)
                run.lose()
            return "written" if lost else object()

        return run.step("write", write)

    @lw.task()
    def second(run: Run) -> None:
        with lw.edit("page.txt", wait=0) as edit:
            edit.write_text("page.txt", "second")

    tasks = lw.submit(first.bind()), lw.submit(second.bind())
    lw.work(until_idle=True)
    assert [lw.get(task.id).state for task in tasks] == ["cancelled" if lost else "failed", "done"]
    assert (lw.root / "page.txt").read_text() == "second"


# -- stopping ------------------------------------------------------------------------------------------------------------


def test_a_stopped_worker_finishes_what_it_runs_and_hands_back_what_it_claimed(lw: longwatch.Longwatch) -> None:
    ran: list[int] = []

    @lw.task()
    def note(run: Run, number: int) -> None:
        ran.append(number)
        if len(ran) == 2:
            worker.ask_to_stop()

    tasks = [lw.submit(note.bind(number)) for number in range(6)]
    worker = worker_of(lw)
    worker.work(until_idle=False)
    assert [lw.get(task.id).state for task in tasks] == ["done"] * 2 + ["ready"] * 4
    assert [lw.get(task.id).crashes for task in tasks] == [0] * 6
    assert lw.opened.parts.workers.all() == []


def test_an_interrupted_run_is_handed_back_without_an_attempt_spent(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def interrupted(run: Run) -> int:
        if not seen:
            seen.append(run.attempt)
            raise KeyboardInterrupt
        return run.attempt

    seen: list[int] = []
    task = lw.submit(interrupted.bind())
    lw.work()
    assert (lw.get(task.id).state, lw.get(task.id).crashes) == ("ready", 0)
    lw.work(until_idle=True)
    assert lw.get(task.id).result == 1


def test_an_interrupt_between_a_handler_and_its_end_hands_the_run_back(
    lw: longwatch.Longwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    @lw.task()
    def note(run: Run) -> int:
        return run.attempt

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    task, worker = lw.submit(note.bind()), worker_of(lw)
    monkeypatch.setattr(worker, "_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        worker.work(until_idle=True)
    assert (lw.get(task.id).state, lw.get(task.id).crashes) == ("ready", 0)


def test_an_idle_worker_is_woken_by_a_submit(lw: longwatch.Longwatch) -> None:
    started = threading.Event()

    @lw.task()
    def note(run: Run) -> None:
        started.set()

    worker = worker_of(lw)
    thread = threading.Thread(target=lambda: worker.work(until_idle=False))
    thread.start()
    bells = lw.opened.parts.bells
    assert isinstance(bells, Fifos)
    folder = bells.folder
    try:
        until(lambda: folder.exists() and any(folder.iterdir()), "the worker to be idle")
        lw.submit(note.bind())
        assert started.wait(5)
    finally:
        worker.ask_to_stop()
        thread.join(10)
    assert not thread.is_alive()


# -- async handlers, several fleets --------------------------------------------------------------------------------------


def test_async_handlers_have_the_same_steps_and_ends(lw: longwatch.Longwatch) -> None:
    ran: list[str] = []

    async def fetch(url: str) -> str:
        await asyncio.sleep(0)
        ran.append(url)
        return f"<{url}>"

    async def fails() -> str:
        raise ConnectionError("lost")

    @lw.task(retries=1, backoff=BACKOFF)
    async def crawl(run: longwatch.AsyncRun, url: str) -> int:
        page = await run.step("get", fetch, url)
        if run.attempt == 1:
            raise ValueError("again")
        return len(page)

    @lw.task(retries=1, backoff=BACKOFF)
    async def mails(run: longwatch.AsyncRun) -> str:
        return await run.once("mail", fails)

    first, second = lw.submit(crawl.bind("x.org")), lw.submit(mails.bind())
    lw.work(until_idle=True)
    assert (lw.get(first.id).result, ran) == (7, ["x.org"])
    assert lw.get(second.id).state == "unknown"


def test_two_fleets_in_one_process_do_not_see_each_other(opened: Fleet) -> None:
    one, other = opened("one"), opened("other")

    def inner(run: Run, name: str) -> str:
        return run.step("say", str.upper, name)

    one.task("say")(inner)
    other.task("say")(inner)
    first, second = one.submit("say", {"name": "a"}), other.submit("say", {"name": "b"})
    assert one.work(until_idle=True) == longwatch.Report(done=1)
    assert (one.get(first.id).result, other.get(second.id).state) == ("A", "ready")
    with pytest.raises(longwatch.NotFound):
        one.get(second.id)
    other.work(until_idle=True)
    assert other.get(second.id).result == "B"


def test_a_handler_may_submit_and_another_fleets_run_is_not_its_own(opened: Fleet) -> None:
    one, other = opened("one"), opened("other")

    @one.task()
    def outer(run: Run) -> str:
        with other.edit("note.txt") as edit:  # no run of `other`: published when the block ends
            edit.write_text("note.txt", "hello\n")
        return one.submit(inner.bind()).id

    @one.task()
    def inner(run: Run) -> str:
        return (one.root / "note.txt").read_text()

    task = one.submit(outer.bind())
    assert one.work(until_idle=True) == longwatch.Report(done=2)
    assert one.get(one.get(task.id).result).result == "hello\n"


# -- a state that is away ------------------------------------------------------------------------------------------------


def lock(path: Path, released: threading.Event, locked: threading.Event) -> None:
    """Another program holds the state's write lock, longer than anybody is patient with."""
    other = Connection(str(path))
    other.set_busy_timeout(5_000)
    other.execute("begin immediate")
    locked.set()
    released.wait(30)
    other.execute("rollback")
    other.close()


def test_a_state_that_is_away_for_a_while_costs_no_attempt(lw: longwatch.Longwatch) -> None:
    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    database.connection.set_busy_timeout(50)
    locked, released = threading.Event(), threading.Event()

    @lw.task()
    def work(run: Run) -> int:
        holder.start()
        assert locked.wait(5)
        return run.attempt  # what follows is the end of the run, which the state refuses for a while

    holder = threading.Thread(target=lock, args=(database.path, released, locked))
    timer = threading.Timer(1.0, released.set)
    task = lw.submit(work.bind())
    timer.start()
    lw.work(until_idle=True)
    holder.join(10)
    assert (lw.get(task.id).state, lw.get(task.id).result, lw.get(task.id).crashes) == ("done", 1, 0)


def test_a_state_that_refuses_a_step_says_so_to_the_handler(lw: longwatch.Longwatch) -> None:
    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    database.connection.set_busy_timeout(50)
    locked, released = threading.Event(), threading.Event()
    seen: list[str] = []

    @lw.task()
    def work(run: Run) -> int:
        holder.start()
        assert locked.wait(5)
        try:
            run.step("one", int)
        except StoreUnavailable as error:
            seen.append(error.code)
        released.set()
        holder.join(10)
        return run.step("two", int)

    holder = threading.Thread(target=lock, args=(database.path, released, locked))
    task = lw.submit(work.bind())
    lw.work(until_idle=True)
    assert (lw.get(task.id).state, seen) == ("done", ["store_unavailable"])


def test_a_forked_child_is_refused(lw: longwatch.Longwatch) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lw.submit("anything")
            said = b"accepted"
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent shall hear
            said = type(error).__name__.encode()
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"StoreUnavailable"
    os.close(reading)


def test_steps_of_threads_started_by_a_handler_are_refused_a_name_twice(lw: longwatch.Longwatch) -> None:
    errors: list[type] = []

    @lw.task()
    def threads(run: Run) -> None:
        def use() -> None:
            try:
                run.step("same", int)
            except StepReused as error:
                errors.append(type(error))

        both = [threading.Thread(target=use) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()

    lw.submit(threads.bind())
    lw.work(until_idle=True)
    assert errors == [StepReused]


def test_an_error_of_any_characters_is_kept_and_such_a_name_is_refused(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def odd(run: Run) -> None:
        raise ValueError("nul \0 and half \udcff")

    @lw.task()
    def named(run: Run) -> None:
        run.step("a\0b", int)

    tasks = [lw.submit(odd.bind()), lw.submit(named.bind())]
    lw.work(until_idle=True)
    errors = [lw.get(task.id).error or "" for task in tasks]
    assert "nul \ufffd and half ?" in errors[0]
    assert "holds a character that is no text" in errors[1]
    with pytest.raises(longwatch.ConfigError, match="the key"):
        lw.submit(odd.bind(), key="\udcff")
    with pytest.raises(longwatch.ConfigError, match="the key"), lw.call("api", key="a\0"):
        pass


def enrol_a_dead_one(parts: Parts) -> None:
    with subprocess.Popen(["true"]) as process:
        pid, began = process.pid, start_ticks(process.pid) or 1
    parts.workers.enrol("dead", agent="main", pid=pid, start_ticks=began, boot_id=pids_of(parts.world.boot_id()))


def test_at_the_end_of_the_work_nobody_dead_is_left_unburied(lw: longwatch.Longwatch) -> None:
    @lw.task()
    def strike(run: Run) -> None:
        enrol_a_dead_one(lw.opened.parts)

    lw.submit(strike.bind())
    lw.work(until_idle=True)
    assert lw.opened.parts.workers.all() == []


def test_who_dies_while_he_buries_leaves_the_dead_to_the_next(
    lw: longwatch.Longwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, limiter = lw.opened.parts, lw.opened.parts.calls.limiter
    enrol_a_dead_one(parts)
    buried: list[str] = []

    def bury(owner: str) -> int:
        buried.append(owner)
        if len(buried) == 1:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(limiter, "bury", bury)
    with pytest.raises(KeyboardInterrupt):
        parts.bury_the_dead()
    assert (parts.bury_the_dead(), parts.bury_the_dead()) == (1, 0)
    assert buried == ["dead", "dead"]


def test_what_a_worker_did_is_written_down_before_it_is_off_the_list(
    lw: longwatch.Longwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, limiter, enrolled = lw.opened.parts.workers, lw.opened.parts.calls.limiter, list[int]()

    def flush() -> bool:
        enrolled.append(len(workers.all()))
        return False

    monkeypatch.setattr(limiter, "flush", flush)
    worker_of(lw).work(until_idle=True)
    assert enrolled == [1]
