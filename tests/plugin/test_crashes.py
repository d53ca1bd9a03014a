"""`survives_crashes`: right handlers pass, and every sort of mistake that a crash brings to light is found and named."""

import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

import longwatch
from longwatch import AsyncRun, Bound, ConfigError, GiveUp, Longwatch, RetryLater, Run, Task
from longwatch.sandbox import Sandbox
from longwatch.testing import Clock, Effects, VirtualFleet, crashes, survives_crashes

R = TypeVar("R")
COUNT = "count.json"


def pay(key: str | None) -> str:
    """A charge; the service charges a key once."""
    headers = {"authorization": "Bearer any"} | ({} if key is None else {"idempotency-key": key})
    form = {"amount": "1200", "currency": "gbp", "confirm": "true", "payment_method": "pm_card_visa"}
    address = f"{os.environ['STRIPE_API_BASE']}/v1/payment_intents"
    return str(
        httpx.post(address, data=form, headers=headers, trust_env=False, verify=False)
        .raise_for_status()
        .json()["status"]
    )


def open_issue() -> int:
    """An issue; the service knows no keys."""
    address = f"{os.environ['GITHUB_API_URL']}/repos/atlas/library/issues"
    body = {"title": "no docstring"}
    said = httpx.post(address, json=body, headers={"authorization": "Bearer any"}, trust_env=False, verify=False)
    return int(said.raise_for_status().json()["number"])


def charge(run: Run) -> str:
    with run.call("stripe") as call:
        return pay(call.key)


def count_up(run: Run) -> None:
    with run.edit(COUNT, "index.json") as edit:
        edit.write_json(COUNT, edit.read_json(COUNT, default=0) + 1)
        edit.write_json("index.json", ["acme"])


@longwatch.task(retries=2)
def invoice(run: Run, customer: str) -> dict[str, str]:
    status = run.step("charge", charge, run)
    run.step("book", count_up, run)
    run.record("decision", "charged before booking")
    return {customer: status}


def failing(lw: Longwatch, task: Bound[R], check: Callable[[Longwatch, Task[R]], object] | None = None) -> str:
    """What `survives_crashes` has to say."""
    with pytest.raises(AssertionError) as raised:
        survives_crashes(lw, task, check=check)
    return str(raised.value)


# -- right ones ----------------------------------------------------------------------------------------------------------


def test_a_right_handler_survives_a_crash_at_every_place(lw: VirtualFleet, sandbox: Sandbox, tmp_path: Path) -> None:
    lw.include(invoice)
    seen = list[str]()

    def check(lw: Longwatch, task: Task[dict[str, str]]) -> None:
        assert task.result == {"acme": "succeeded"}
        assert lw.get(task.id).state == "done"
        assert json.loads((tmp_path / COUNT).read_text("utf-8")) == 1
        assert len(sandbox.effects()["payment_intents"]) == 1
        seen.append(task.id)

    survived = survives_crashes(lw, invoice.bind("acme"), check=check)
    assert (len(seen), survived.unknown) == (len(survived.places) + 2, 0)
    said = "\n".join(survived.places)
    for place in (
        "step 'charge', when a call had come back, before it was settled",
        "step 'charge', when its function had returned, before its result was stored",
        "step 'book', when the edit was committed, before its files were in place",
        "step 'book', when the edit's files were being put in place",
        "outside of a step, when the record note.decision had been written",
        "outside of a step, when the handler had returned, before the task's end was stored",
    ):
        assert place in said, said


def test_afterwards_everything_is_as_the_undisturbed_run_left_it(
    lw: VirtualFleet, effects: Effects, clock: Clock, tmp_path: Path
) -> None:
    @lw.task()
    def mail(run: Run, to: str) -> str:
        run.once("mail", effects.add, to)
        (tmp_path / "mine.txt").write_text("after", "utf-8")
        return to

    (tmp_path / "mine.txt").write_text("before", "utf-8")
    before = clock.now()
    survives_crashes(lw, mail.bind("acme"))
    assert (tmp_path / "mine.txt").read_text("utf-8") == "after"
    assert effects.all() == ["acme"]
    assert clock.now() == before
    again = lw.submit(mail.bind("zenith"))
    lw.work(until_idle=True)
    assert lw.wait(again).result == "zenith"
    assert effects.all() == ["acme", "zenith"]


@pytest.mark.slow
def test_a_once_that_was_killed_may_leave_its_task_unknown(lw: VirtualFleet, effects: Effects) -> None:
    @lw.task()
    def mail(run: Run) -> None:
        run.once("mail", effects.add, {"to": "acme"})

    survived = survives_crashes(lw, mail.bind())
    assert survived.unknown == 4, survived.places  # begun, before and after the effect, and before it was stored


@pytest.mark.slow
def test_an_async_handler_survives(lw: VirtualFleet, effects: Effects) -> None:
    @lw.task()
    async def crawl(run: AsyncRun) -> int:
        async def get() -> int:
            async with lw.call("site"):
                return 3

        async with lw.edit("site.json") as edit:
            edit.write_json("site.json", 1)
        return await run.step("get", get)

    places = survives_crashes(lw, crawl.bind()).places
    assert any("the edit of site.json" in place for place in places), places


@pytest.mark.slow
def test_retries_and_their_waits_are_part_of_it(lw: VirtualFleet, clock: Clock) -> None:
    @lw.task(retries=3)
    def late(run: Run) -> int:
        run.step(f"try {run.attempt}", lambda: None)
        if run.attempt < 3:
            raise RetryLater("1d")
        return 7

    places = survives_crashes(lw, late.bind(), check=lambda lw, task: task.result == 7).places
    assert "step 'try 1', when its result had been stored" in places


@pytest.mark.slow
def test_threads_of_a_handler_and_tasks_that_it_submits_are_part_of_it(lw: VirtualFleet, effects: Effects) -> None:
    @lw.task()
    def part(run: Run, n: int) -> int:
        run.once("effect", effects.add, n)
        return n

    @lw.task()
    def whole(run: Run) -> list[str]:
        def look(n: int) -> int:
            with lw.call("site"):
                return n

        with ThreadPoolExecutor(3) as pool:
            assert sum(pool.map(look, range(4))) == 6
        return [lw.submit(part.bind(n), key=f"{run.task}-{n}").id for n in range(2)]

    def check(lw: Longwatch, task: Task[list[str]]) -> None:
        parts = [lw.get(id) for id in task.result]
        assert {part.state for part in parts} <= {"done", "unknown"}
        assert all(effects.count(part.args["n"]) == 1 for part in parts if part.state == "done")

    survived = survives_crashes(lw, whole.bind(), check=check)
    assert any("step 'effect'" in place for place in survived.places)
    assert survived.unknown


def test_a_result_that_is_never_the_same_is_not_compared(lw: VirtualFleet) -> None:
    @lw.task()
    def name(run: Run) -> str:
        return os.urandom(8).hex()

    survives_crashes(lw, name.bind())


@pytest.mark.slow
def test_faults_and_limits_of_the_sandbox_are_as_they_were_set(lw: VirtualFleet, sandbox: Sandbox) -> None:
    sandbox.faults([{"kind": "status", "status": 503, "service": "stripe", "count": 1}])

    @lw.task(retries=2)
    def pays(run: Run) -> str:
        return run.step("charge", charge, run)

    survives_crashes(lw, pays.bind(), check=lambda lw, task: sandbox.counts()["stripe"]["statuses"]["503"] == 1)


# -- wrong ones ----------------------------------------------------------------------------------------------------------


def test_an_effect_outside_of_a_step_is_found(lw: VirtualFleet, effects: Effects) -> None:
    @lw.task()
    def bad(run: Run) -> None:
        effects.add("mail")
        run.step("count", lambda: 1)

    said = failing(lw, bad.bind())
    assert 'effect "mail": 2 instead of 1' in said
    assert "step 'count', when its result had been stored" in said


def test_a_write_that_cannot_be_repeated_is_found(lw: VirtualFleet, tmp_path: Path) -> None:
    def add_one() -> None:
        path = tmp_path / COUNT
        path.write_text(str(int(path.read_text("utf-8")) + 1 if path.exists() else 1), "utf-8")

    @lw.task()
    def bad(run: Run) -> None:
        run.step("count", add_one)

    said = failing(lw, bad.bind())
    assert "count.json holds '2', undisturbed it holds '1'" in said
    assert "step 'count', when its function had returned, before its result was stored" in said


def test_a_step_for_a_service_without_keys_is_found_and_once_is_right(lw: VirtualFleet, sandbox: Sandbox) -> None:
    @lw.task()
    def bad(run: Run) -> int:
        return run.step("issue", open_issue)

    @lw.task()
    def good(run: Run) -> int:
        return run.once("issue", open_issue)

    assert "issues in the sandbox: 2 instead of 1" in failing(lw, bad.bind())
    assert survives_crashes(lw, good.bind()).unknown


def test_a_key_that_is_new_for_every_run_is_found(lw: VirtualFleet, sandbox: Sandbox) -> None:
    @lw.task()
    def bad(run: Run) -> str:
        return run.step("charge", lambda: pay(os.urandom(8).hex()))

    assert "payment_intents in the sandbox: 2 instead of 1" in failing(lw, bad.bind())


def test_a_mark_that_is_set_before_the_effect_is_found(lw: VirtualFleet, effects: Effects, tmp_path: Path) -> None:
    def mail() -> None:
        if not (tmp_path / "sent").exists():
            (tmp_path / "sent").touch()
            effects.add("mail")

    @lw.task()
    def bad(run: Run) -> None:
        run.step("mail", mail)

    said = failing(lw, bad.bind())
    assert 'effect "mail": 0 instead of 1' in said
    assert 'this was about to be done: effect "mail"' in said


def test_what_a_handler_would_put_right_as_it_dies_does_not_help_it(lw: VirtualFleet, tmp_path: Path) -> None:
    """A simulated death would run the `finally`, and find nothing."""
    marker = tmp_path / "busy"

    @lw.task()
    def bad(run: Run) -> int:
        if marker.exists():
            raise GiveUp("somebody else is at it")
        marker.touch()
        try:
            return run.step("count", lambda: 1)
        finally:
            marker.unlink()

    assert "the task ends failed: GiveUp: somebody else is at it" in failing(lw, bad.bind())


def test_a_handler_whose_crashes_may_not_be_is_told_so(lw: VirtualFleet) -> None:
    @lw.task(crashes=0)
    def brittle(run: Run) -> int:
        return run.step("count", lambda: 1)

    assert "the task ends failed" in failing(lw, brittle.bind())


def test_a_handler_that_goes_another_way_each_time_is_told_that_nothing_was_tried(
    lw: VirtualFleet, effects: Effects
) -> None:
    runs = Path(effects.file.parent, "runs")

    @lw.task()
    def fickle(run: Run) -> None:
        runs.write_text("x" * (1 + len(runs.read_text("utf-8")) if runs.exists() else 1), "utf-8")
        if len(runs.read_text("utf-8")) <= 2:  # the two undisturbed ones
            run.step("rare", lambda: None)

    said = failing(lw, fickle.bind())
    assert "did not come here again" in said
    assert "step 'rare'" in said


# -- check ---------------------------------------------------------------------------------------------------------------


def test_check_is_heard_for_every_crash(lw: VirtualFleet, tmp_path: Path) -> None:
    """The file is not compared: it is another one each time."""

    def note() -> None:
        with (tmp_path / "log").open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")

    @lw.task()
    def bad(run: Run) -> None:
        run.step("note", note)

    def check(lw: Longwatch, task: Task[None]) -> None:
        lines = (tmp_path / "log").read_text("utf-8").splitlines()
        assert len(lines) == 1, f"{len(lines)} lines"

    said = failing(lw, bad.bind(), check=check)
    assert "check: AssertionError: 2 lines" in said
    assert len(re.findall("step 'note'", said)) == 1, said


def test_check_may_answer_false(lw: VirtualFleet) -> None:
    @lw.task()
    def one(run: Run) -> int:
        return 1

    said = failing(lw, one.bind(), check=lambda lw, task: task.result == 2)
    assert "answered False" in said


def test_what_is_wrong_undisturbed_is_not_blamed_on_a_crash(lw: VirtualFleet) -> None:
    sent = list[str]()

    @lw.task()
    def mail(run: Run) -> None:
        run.once("mail", sent.append, "mail")

    with pytest.raises(AssertionError) as raised:
        survives_crashes(lw, mail.bind(), check=lambda lw, task: sent == ["mail"])
    assert "lost with them" in "".join(raised.value.__notes__)


def test_check_is_told_to_expect_an_unknown_task(lw: VirtualFleet, effects: Effects) -> None:
    @lw.task()
    def mail(run: Run) -> int:
        return run.once("mail", lambda: 1)

    said = failing(lw, mail.bind(), check=lambda lw, task: task.result == 1)
    assert "check has to expect that" in said


def test_a_task_that_fails_anyway_is_no_test_of_crashes(lw: VirtualFleet) -> None:
    @lw.task()
    def bad(run: Run) -> None:
        raise GiveUp("no such customer")

    assert "ends failed, even undisturbed: GiveUp: no such customer" in failing(lw, bad.bind())


def test_a_handler_that_the_fleet_does_not_have_is_told_so(lw: VirtualFleet) -> None:
    with pytest.raises(ConfigError, match="nobody runs invoice"):
        survives_crashes(lw, invoice.bind("acme"))


@pytest.mark.slow
def test_a_handler_that_hangs_is_ended_and_told(
    lw: VirtualFleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(crashes, "PATIENCE_S", 10)

    @lw.task()
    def hangs(run: Run) -> None:
        if run.attempt > 1 and not (tmp_path / "begun").exists():
            time.sleep(60)
        run.step("one", (tmp_path / "begun").touch)

    said = failing(lw, hangs.bind())
    assert "it could not go on: it had not come to an end after 10 s" in said


def test_a_fleet_whose_time_is_real_is_refused(tmp_path: Path) -> None:
    with longwatch.open(tmp_path / "real.db", config={}) as real, pytest.raises(ConfigError, match="virtual clock"):
        survives_crashes(real, invoice.bind("acme"))
