"""Four connections at once: some order of what they did explains all that they were told, and the state it left."""

import os
import random

import pytest
from histories import (
    CLIENTS,
    Act,
    Event,
    answered,
    claim,
    first_tasks,
    hidden,
    on_engine,
    on_model,
    play,
    search_of,
    state_of,
    told,
)

from longwatch.db.connection import Database
from longwatch.db.postgres import PostgresDatabase
from longwatch.policy.task import Finished
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.moves import Run
from longwatch.testing.invariants import Watch
from longwatch.testing.model.state import Ledger
from longwatch.testing.play import START_MS, HandClock, plain
from longwatch.testing.postgres import Server

QUICK, LONG = 25, 600


def check(server: Server, seed: int) -> None:
    url = server.new_database()
    clock = HandClock()
    databases: list[Database] = [PostgresDatabase(url, Machine(), clock=clock) for _ in range(CLIENTS)]
    try:
        for database in databases:
            fleet.enter(database, clock, name="shop", redaction_key="key")
        first_tasks(on_engine(databases[0]))
        events = play(databases, seed)
        ends_as = state_of(databases[0])
        order, search = search_of(events, ends_as)
        assert order is not None, (
            f"seed {seed}: no order explains this; the longest got {len(search.longest)}:\n{told(events)}"
        )
        Watch(databases[0]).look_closely()
    finally:
        for database in databases:
            database.close()
        server.drop(url)


def test_four_connections_act_as_if_one_after_the_other(server: Server) -> None:
    for seed in range(QUICK):
        check(server, seed)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_many_histories_of_four_connections_can_be_explained(server: Server) -> None:
    first = random.SystemRandom().randrange(1 << 32)  # other histories every time; the error names the seed
    share = int(os.environ.get("LONGWATCH_SHARE", "100"))  # percent, as of the other long runs
    for seed in range(first, first + LONG * share // 100):
        check(server, seed)


def test_a_history_that_nothing_explains_is_found(server: Server) -> None:
    url = server.new_database()
    clock = HandClock()
    databases: list[Database] = [PostgresDatabase(url, Machine(), clock=clock) for _ in range(CLIENTS)]
    fleet.enter(databases[0], clock, name="shop", redaction_key="key")
    first_tasks(on_engine(databases[0]))
    events = play(databases, 1)
    ends_as = state_of(databases[0])
    for database in databases:
        database.close()
    server.drop(url)
    assert search_of(events, ends_as)[0] is not None
    claims = [place for place, event in enumerate(events) if event.said.startswith("claim")]
    first = next(place for place in claims if events[place].answer != [])
    assert search_of(events[:first] + events[first + 1 :], ends_as)[0] is None, "a claim that was left out is missed"


def late_claim(ready_at: int) -> tuple[list[Event], dict[str, object]]:
    """A claim, from tick 10 to 20, that takes c after all others were answered, and not what became ready at ready_at."""
    state = Ledger(lambda: START_MS)
    side, held, events = on_model(state), dict[str, Run](), list[Event]()
    first_tasks(side)

    def done(client: int, said: str, act: Act, begun: int, ended: int) -> None:
        events.append(Event(client, said, act, begun, ended, answered(act, side, held)))

    done(0, "claim first", claim("owner0", "first", 1), 0, 1)
    done(1, "claim second", claim("owner1", "second", 1), 2, 3)
    done(0, "Finished first", lambda side, held: side.runs.conclude(held["first"], Finished("1")), 4, 5)
    done(
        1,
        "Finished second",
        lambda side, held: side.runs.conclude(held["second"], Finished("1")),
        ready_at,
        ready_at + 1,
    )
    done(2, "retry c", lambda side, held: side.tasks.retry("c"), 15, 16)
    with hidden(state, frozenset("d")):
        done(3, "claim late", claim("owner3", "late", 2), 10, 20)
    return events, {name: plain(task, START_MS) for name, task in state.tasks.items()}


def test_a_claim_need_not_see_what_became_ready_while_it_ran() -> None:
    assert search_of(*late_claim(ready_at=12))[0] is not None


def test_a_claim_has_to_see_what_was_ready_before_it_began() -> None:
    assert search_of(*late_claim(ready_at=6))[0] is None
