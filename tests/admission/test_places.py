"""Calls of one process that come to a line at one instant: they take their places together, and fail each for itself."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import longwatch
from longwatch.admission.calls import CallRequest
from longwatch.admission.lines import Lines, Standing
from longwatch.errors import StoreUnavailable
from longwatch.runtime.place import Looks


class Held:
    """Lines whose first transaction waits until it is let go on."""

    def __init__(self, lines: Lines) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self.fail_at = self.interrupt_at = -1
        self._stand = lines.stand

    def stand(self, line: str, requests: Sequence[CallRequest], *, most: int) -> Standing:
        self.sizes.append(len(requests))
        self.begun.set()
        assert self.go_on.wait(20)
        if len(self.sizes) - 1 == self.fail_at:
            raise StoreUnavailable("the disk is full")
        standing = self._stand(line, requests, most=most)
        interrupted = len(self.sizes) - 1 == self.interrupt_at
        return Standing(standing.turns, Interrupting(standing.ahead)) if interrupted else standing


class Interrupting(dict[str, int]):
    """Ctrl-C when the second one is told."""

    told = 0

    def get(self, call: str, otherwise: int = 0) -> int:  # type: ignore[override]
        self.told += 1
        if self.told == 2:
            raise KeyboardInterrupt
        return super().get(call, otherwise)


@pytest.fixture
def looks(tmp_path: Path) -> Iterator[Looks]:
    with longwatch.open(str(tmp_path / "state.db"), config={"service": {"api": {"rate": "1/min"}}}) as lw:
        yield lw.opened.parts.calls.looks


@pytest.fixture
def held(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> Held:
    found = Held(looks.limiter.lines)
    monkeypatch.setattr(looks.limiter.lines, "stand", found.stand)
    return found


def come(looks: Looks, size: int, found: dict[int, int | None], first: int = 0) -> list[threading.Thread]:
    """So many calls, each in a thread of its own; found: how many are before each, None: it could not stand."""

    def stand(number: int) -> None:
        try:
            found[number] = looks.stand("api", asked(number), most=3)
        except (StoreUnavailable, KeyboardInterrupt):
            found[number] = None

    threads = [threading.Thread(target=stand, args=(number,), daemon=True) for number in range(first, first + size)]
    for thread in threads:
        thread.start()
    return threads


def asked(number: int) -> CallRequest:
    return CallRequest(f"call_{number}", f"key_{number}", "api", "seo", "owner")


def waiting(looks: Looks) -> int:
    return sum(each.waiting for each in looks.limiter.lines.all())


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def stood(looks: Looks, held: Held, size: int) -> dict[int, int | None]:
    """One call, and so many that come while it takes its place."""
    found: dict[int, int | None] = {}
    first = come(looks, 1, found)
    assert held.begun.wait(20)
    others = come(looks, size, found, first=1)
    held.go_on.set()
    joined([*first, *others])
    return found


def test_whoever_comes_meanwhile_stands_with_the_next_one(looks: Looks, held: Held) -> None:
    found = stood(looks, held, 150)
    assert held.sizes[0] == 1
    assert len(held.sizes) < 10
    assert max(held.sizes) <= 100
    assert sorted(before for before in found.values() if before is not None) == list(range(151))
    assert looks.rank("api", asked(0), 3) == 0
    assert vars(looks)["_coming"] == {}, "nothing is kept of owners that are gone"


def test_one_that_fails_does_not_take_the_others_with_it(looks: Looks, held: Held) -> None:
    held.fail_at = 1
    found = stood(looks, held, 30)
    assert [found[number] for number in found].count(None) == 1
    assert sorted(before for before in found.values() if before is not None) == list(range(30))
    assert waiting(looks) == 30


def test_one_that_is_interrupted_when_all_stand_leaves_the_others_their_places(looks: Looks, held: Held) -> None:
    held.interrupt_at = 1
    found = stood(looks, held, 30)
    assert [found[number] for number in found].count(None) == 1
    places = [before for before in found.values() if before is not None]
    assert len(set(places)) == 30
    assert waiting(looks) == 31, "the one who was interrupted gives his up himself"
    assert looks.stand("api", asked(31), most=3) == 31


def test_nobody_stands_for_one_who_has_gone(looks: Looks, held: Held) -> None:
    found: dict[int, int | None] = {}
    first = come(looks, 1, found)
    assert held.begun.wait(20)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        looks.stand("api", asked(1), most=3)
    others = come(looks, 5, found, first=2)
    held.go_on.set()
    joined([*first, *others])
    assert waiting(looks) == 6
    assert looks.limiter.lines.before("call_1") is None
