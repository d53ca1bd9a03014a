"""Half a year of constant load, by a clock of its own: from the third week on the state stays as it is."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import longwatch
from longwatch import Run
from longwatch.testing.fleet import Bench, VirtualFleet

WEEKS, A_DAY = 26, 12
CONFIG: dict[str, Any] = {
    "archive": {"every": "1w", "room": "1 B"},
    "fleet": {"money": ["100 USD/hour", "1000 USD/month"]},
    "service": {"api": {"price": "0.01 USD"}},
    "budget": {"growth": {"calls": "100/day"}, "main": {}},
}
TABLES = ("task", "run", "step", "call", "record", "spend", "need", "batch", "restored", "retiring")


@pytest.fixture
def bench() -> Generator[Bench]:
    yield (made := Bench())
    made.clock.end_beside()


def one_week(lw: VirtualFleet, week: int) -> None:
    for day in range(7):
        for n in range(A_DAY):
            lw.agent(f"agent-{n % 3}").submit("invoice", {"n": n, "of": f"{week}-{day}"})
        lw.work(until_idle=True)
        assert lw.opened.parts.archives is not None
        lw.opened.parts.archives.rest()
        lw.bench.clock.advance("1d")


def rows(lw: VirtualFleet) -> dict[str, int]:
    found: dict[str, int] = {}
    with lw.opened.parts.database.read() as tx:
        for table in TABLES:
            ((count,),) = tx.plain(f'select count(*) from "{table}"')  # type: ignore[attr-defined]
            found[table] = int(count)  # pyright: ignore[reportUnknownArgumentType]
    return found


def declare(lw: VirtualFleet) -> None:
    @lw.task("invoice")
    def invoice(run: Run, n: int, of: str) -> str:
        run.step("letter", lambda: f"letter {n} of {of}")
        with run.call("api", budget="growth", money="0.02 USD"):
            pass
        if n == 7:
            raise longwatch.GiveUp("no such customer")
        return f"billed {n} of {of}"


def remembered(lw: VirtualFleet) -> int:
    """Records that are in memory's own tables."""
    store = lw.opened.parts.memories.store
    return sum(len(store.range(each.agent, 1, 1 << 40, limit=1 << 20)) for each in store.agents())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_constant_load_the_state_is_flat_from_the_third_week_on(bench: Bench, tmp_path: Path) -> None:
    sizes: list[int] = []
    counts: list[dict[str, int]] = []
    records: list[int] = []
    with VirtualFleet.made(bench, tmp_path, CONFIG) as lw:
        declare(lw)
        for week in range(WEEKS):
            one_week(lw, week)
            counts.append(rows(lw))
            records.append(remembered(lw))
            sizes.append(Path(lw.opened.settings.state).stat().st_size)
        archives = lw.opened.parts.archives
        assert archives is not None
        archived = sum(segment.entries.get("task", 0) for segment in archives.segments())
        assert archives.archive.verify() == []
        assert [lw.memory(f"agent-{n}").verify(whole=True) for n in range(3)] == [(), (), ()]
    submitted = WEEKS * 7 * A_DAY
    assert archived + counts[-1]["task"] == submitted  # each is in one place
    total = [sum(each.values()) for each in counts]
    for week in range(3, WEEKS):
        assert abs(total[week] - total[2]) <= 0.1 * total[2], (week, counts[2], counts[week])
        assert abs(sizes[week] - sizes[2]) <= 0.1 * sizes[2], (week, sizes)
    assert max(records[12:]) <= 1.1 * max(records[6:12]), records  # it goes up and down with the snapshots
