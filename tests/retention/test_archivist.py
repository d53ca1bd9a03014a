"""What leaves the hot state is in the archive, whole; what somebody needs stays; and sums and keys go on counting."""

import json
from typing import Any

import pytest

import longwatch
from longwatch import KeyConflict, Longwatch, NotFound, Run
from longwatch.db.connection import Transaction, Value
from longwatch.policy.retention import Close
from longwatch.policy.window import DAY_MS, HOUR_MS, MINUTE_MS, window_of, zone_of
from longwatch.runtime.archive import Archives
from longwatch.store.look import Look
from longwatch.store.money import Cost

NOW = Close(0)


def work_some(lw: Longwatch, number: int = 6, **options: Any) -> list[longwatch.Task[Any]]:
    @lw.task("invoice")
    def invoice(run: Run, n: int) -> int:
        run.step("count", lambda: n)
        with run.call("api", budget="growth", money="0.02 USD"):
            pass
        run.record("fact", f"billed customer {n}")
        if n == 4:
            raise longwatch.GiveUp("no such customer")
        return n * n

    tasks = [lw.submit("invoice", {"n": n}, key=f"k{n}", **options) for n in range(number)]
    work(lw)
    return tasks


def work(lw: Longwatch) -> None:
    """Until there is nothing to do, nor anything going on beside it."""
    lw.work(until_idle=True)
    found = lw.opened.parts.archives
    assert found is not None
    found.rest()


def bodies(archives: Archives, kind: str) -> list[dict[str, Any]]:
    return [
        json.loads(entry.body)
        for segment in archives.archive.segments()
        for entry in archives.archive.entries(segment)
        if entry.kind == kind
    ]


def rows(archives: Archives) -> tuple[int, int, int]:
    hot = archives.archivists.hot()
    return hot.tasks, hot.calls, hot.entries


def costs(lw: Longwatch) -> list[Cost]:
    from longwatch.policy.window import Span

    spans = [Span(0, 10**15, 0)]
    found, _ = lw.opened.parts.earnings.added_up(["budget", "agent", "kind", "day"], spans, "USD")
    return sorted(found, key=lambda cost: str(cost.kind))


def test_what_ended_is_in_the_archive_and_no_more_in_the_state(lw: Longwatch, archives: Archives) -> None:
    tasks = work_some(lw)
    before = costs(lw)
    journal = lw.opened.parts.journal.after(0, limit=10_000)
    made = archives.round(NOW)
    assert len(made.segments) == 2
    assert rows(archives)[:2] == (1, 1)  # the newest of each stays: places are never given twice
    kept = {body["id"]: body for body in bodies(archives, "task")}
    assert set(kept) == {task.id for task in tasks[:-1]}
    assert {body["state"] for body in kept.values()} == {"done", "failed"}
    first = kept[tasks[0].id]
    assert (first["args"], first["result"], first["key"]) == ('{"n":0}', "0", "k0")
    assert [run["outcome"] for run in first["runs"]] == ["finished"]
    assert [(step["name"], step["result"]) for step in first["steps"]] == [("count", "0")]
    assert {body["task"] for body in bodies(archives, "call")} == set(kept)
    told = {body["seq"] for body in bodies(archives, "journal")}
    hot = {entry.seq for entry in lw.opened.parts.journal.after(0, limit=10_000)}
    assert told.isdisjoint(hot)
    assert {entry.seq for entry in journal} <= told | hot
    assert costs(lw) == before


def test_twice_does_no_harm(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    archives.round(NOW)
    archives.round(NOW)
    ids = [body["id"] for body in bodies(archives, "task")]
    assert len(ids) == len(set(ids)) == 5
    assert archives.archivists.begun() == []
    assert archives.archive.verify() == []


def test_what_is_young_stays(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    before = rows(archives)
    assert archives.round(Close(3_600_000)).segments == ()
    assert rows(archives) == before
    assert not archives.exists()


def test_a_failed_task_stays_until_those_that_it_took_down_have_gone(lw: Longwatch, archives: Archives) -> None:
    @lw.task("ask")
    def ask(run: Run) -> None:
        raise longwatch.GiveUp("no")

    failed, last = lw.submit("ask"), lw.submit("ask")
    waiting = lw.submit("ask", after=[failed])
    work(lw)
    assert [lw.get(task.id).state for task in (failed, last, waiting)] == ["failed", "failed", "cancelled"]
    archives.round(NOW)
    kept = [body["id"] for body in bodies(archives, "task")]
    assert kept == [last.id]  # the newest stays, and what it needs with it
    lw.submit("ask")
    archives.round(NOW)
    assert [body["id"] for body in bodies(archives, "task")] == [last.id, waiting.id, failed.id]


def test_a_batch_leaves_as_a_whole(lw: Longwatch, archives: Archives) -> None:
    @lw.task("one")
    def one(run: Run, n: int) -> int:
        return n

    @lw.task("later", retries=1)
    def later(run: Run, n: int) -> int:
        raise longwatch.RetryLater("1h")

    batch = lw.submit_batch("november", [("one", {"n": 1}), ("later", {"n": 2})])
    lw.submit("one", {"n": 3})
    work(lw)
    archives.round(NOW)
    assert [lw.get(task.id).state for task in batch] == ["done", "scheduled"]
    lw.cancel(batch[1].id)
    archives.round(NOW)
    kept = bodies(archives, "task")
    assert [(body["batch"], body["of_batch"]["name"]) for body in kept] == [(batch.id, "november")] * 2
    again = [("one", {"n": 1}), ("later", {"n": 2})]
    with pytest.raises(
        KeyConflict, match="there was a batch 'november', whose tasks have ended and are in the archive"
    ):
        lw.submit_batch("november", again)
    restore(archives, batch[0].id)
    with pytest.raises(KeyConflict, match="there was a batch 'november'"):  # the other one would be run again
        lw.submit_batch("november", again)
    assert lw.submit_batch("december", again).fresh == 2


def restore(archives: Archives, task: str) -> None:
    found = [
        (segment.name, entry)
        for segment in archives.archive.segments()
        for entry in archives.archive.entries(segment)
        if entry.task == task
    ]
    assert archives.restore(found, who="ada").tasks == [task]


def test_the_key_of_an_archived_task_stays_taken(lw: Longwatch, archives: Archives) -> None:
    tasks = work_some(lw)
    archives.round(NOW)
    assert lw.submit("invoice", {"n": 0}, key="k0").id == tasks[0].id
    assert lw.submit("invoice", {"n": 5}, key="k5").id == tasks[5].id  # the newest is still here
    with pytest.raises(NotFound) as raised:
        lw.get(tasks[0].id)
    assert "longwatch archive show" in raised.value.hint


def test_a_cap_that_is_set_later_counts_what_archived_calls_cost(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    archives.round(NOW)
    with lw.opened.parts.database.transaction() as tx:
        tx.count("retire.drop_calls", ids="[]")
        row = tx.one("spend.open", purse="agent:main", ends_ms=1 << 60, dimension="money", per="total", starts_ms=0)
        assert row is not None
        assert row.settled == 6 * 20_000


def opened(lw: Longwatch, per: str, at_ms: int) -> int:
    """What a window of the agent's money that is opened now begins with; it is closed again."""
    window = window_of(at_ms, per, zone_of("UTC"))
    with lw.opened.parts.database.transaction() as tx:
        asked: dict[str, Value] = {
            "purse": "agent:main",
            "ends_ms": window.ends_ms,
            "dimension": "money",
            "per": per,
        }
        row = tx.one("spend.open", starts_ms=window.starts_ms, **asked)
        assert row is not None
        tx.count("retire.drop_spend", **asked)
        return int(row.settled)


def test_an_hour_that_begins_counts_nothing_of_the_hours_before(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    with lw.opened.parts.database.read() as tx:
        made_ms = calendar_ms(tx)
    hours = {hour_ms: opened(lw, "hour", hour_ms) for hour_ms in (made_ms - HOUR_MS, made_ms, made_ms + HOUR_MS)}
    days = {day_ms: opened(lw, "day", day_ms) for day_ms in (made_ms - DAY_MS, made_ms, made_ms + DAY_MS)}
    assert (sum(hours.values()), sum(days.values())) == (6 * 20_000, 6 * 20_000)
    archives.round(NOW)
    assert {hour_ms: opened(lw, "hour", hour_ms) for hour_ms in hours} == hours
    assert {day_ms: opened(lw, "day", day_ms) for day_ms in days} == days


def test_a_minute_that_is_not_over_counts_what_has_gone_already(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    with lw.opened.parts.database.read() as tx:
        made_ms = calendar_ms(tx)
    before = opened(lw, "minute", made_ms)
    assert before > 0
    archives.round(NOW)
    assert opened(lw, "minute", made_ms) == before
    assert opened(lw, "minute", made_ms + MINUTE_MS) == 0


def test_hours_of_days_that_are_long_over_are_added_up(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    archives.round(NOW)
    before = costs(lw)
    with lw.opened.parts.database.transaction() as tx:
        made_ms = calendar_ms(tx)
        tx.count("spend.turn", at_ms=made_ms + 3 * DAY_MS)
    assert lengths(lw) in ({MINUTE_MS}, {HOUR_MS}, {MINUTE_MS, HOUR_MS})
    archives.round(NOW)
    assert lengths(lw) == set()
    assert costs(lw) == before
    assert opened(lw, "day", made_ms) == 6 * 20_000


def calendar_ms(tx: Transaction) -> int:
    found = tx.one("spend.calendar")
    assert found is not None
    return int(found.at_ms)


def lengths(lw: Longwatch) -> set[int]:
    """Of the minutes and hours by which costs of archived calls are counted."""
    with lw.opened.parts.database.read() as tx:
        rows = tx.all("retire.hours", before_ms=1 << 60, limit=100)
    return {row.ends_ms - row.starts_ms for row in rows}


def test_who_archives_keeps_others_out_and_who_died_is_followed(lw: Longwatch, archives: Archives) -> None:
    work_some(lw)
    assert archives.archivists.take("somebody else", lease_ms=60_000) is not None
    assert archives.round(NOW).busy
    assert rows(archives)[0] == 6


def test_a_task_comes_back_as_it_was_and_goes_again_without_a_second_copy(lw: Longwatch, archives: Archives) -> None:
    tasks = work_some(lw)
    look, before = Look(lw.opened.parts.database), costs(lw)
    story, told = look.story(tasks[2].id), lw.opened.parts.journal.after(0, subject=tasks[2].id)
    archives.round(NOW)
    found = [
        (segment.name, entry)
        for segment in archives.archive.segments()
        for entry in archives.archive.entries(segment)
        if entry.task == tasks[2].id
    ]
    made = archives.restore(found, who="ada")
    assert (made.tasks, made.here) == ([tasks[2].id], [])
    assert look.story(tasks[2].id) == story
    assert lw.opened.parts.journal.after(0, subject=tasks[2].id)[:-1] == told
    assert costs(lw) == before
    assert lw.submit("invoice", {"n": 2}, key="k2").result == 4
    assert archives.restore(found, who="ada").here == [tasks[2].id]
    archives.round(NOW)
    assert look.story(tasks[2].id) == story  # it was asked for, and stays for a while
    with lw.opened.parts.database.transaction() as tx:
        tx.count("retire.keep_restored", task=tasks[2].id, segment=found[0][0], keep_ms=-1)
        for name, _ in found:
            tx.count("retire.keep_restored", task=tasks[2].id, segment=name, keep_ms=-1)
    archives.round(NOW)
    assert rows(archives)[0] == 1
    assert costs(lw) == before
    assert [body["id"] for body in bodies(archives, "task")].count(tasks[2].id) == 1
    assert len(bodies(archives, "call")) == len({body["id"] for body in bodies(archives, "call")})
    told_of = [body["seq"] for body in bodies(archives, "journal")]
    assert len(told_of) == len(set(told_of))


def test_a_task_that_is_retried_while_its_copy_is_made_is_not_lost(lw: Longwatch, archives: Archives) -> None:
    tasks = work_some(lw)
    listed = archives.archivists.listed

    def retried(source: str, segment: str) -> None:
        if source.startswith("tasks/"):
            lw.retry(tasks[4].id)
        listed(source, segment)

    object.__setattr__(archives.archivists, "listed", retried)
    archives.round(NOW)
    assert lw.get(tasks[4].id).state in ("ready", "scheduled")
    assert rows(archives)[0] == 2
