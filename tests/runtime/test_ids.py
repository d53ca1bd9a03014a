"""Ids of the real world: short, of one form, in the order of their milliseconds, and never the same twice."""

import threading

import pytest

from longwatch.runtime.world import ALPHABET, Machine, format_id

MANY = 50_000


def test_an_id_begins_with_its_instant_and_ends_in_chance() -> None:
    machine = Machine()
    before_ms = machine.wall_ms()
    made = [machine.new_id("call") for _ in range(MANY)]
    after_ms = machine.wall_ms()
    first, last = (
        format_id("call", at_ms=at_ms, entropy=entropy) for at_ms, entropy in ((before_ms, 0), (after_ms, 2**80 - 1))
    )
    assert first <= min(made)
    assert max(made) <= last
    assert len({*made}) == MANY
    assert {len(id) for id in made} == {len(first)}
    assert [id[:15] for id in made] == sorted(id[:15] for id in made)
    for place in range(15, 31):
        assert {id[place] for id in made} == {*ALPHABET}, f"character {place} is not left to chance"


@pytest.mark.parametrize("at_ms", [0, 1023, 1024, 1_700_000_000_000, 1_700_000_000_000 + 1_024 * 700, 2**48 - 1])
def test_an_id_says_its_instant_as_format_id_does(at_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    machine.new_id("call")
    monkeypatch.setattr("longwatch.runtime.world.time.time_ns", lambda: at_ms * 1_000_000)
    assert machine.new_id("run")[:14] == format_id("run", at_ms=at_ms, entropy=0)[:14]


def test_threads_that_make_ids_at_once_get_such_as_sort_by_their_instants() -> None:
    machine, made = Machine(), list[str]()

    def make() -> None:
        before_ms = machine.wall_ms()
        for _ in range(MANY // 10):
            made.append(id := machine.new_id("call"))
            now_ms = machine.wall_ms()
            if (
                not format_id("call", at_ms=before_ms, entropy=0)
                <= id
                <= format_id("call", at_ms=now_ms, entropy=2**80 - 1)
            ):
                made.append("out of order")
            before_ms = now_ms

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "out of order" not in made
    assert len({*made}) == len(made)
