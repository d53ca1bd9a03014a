"""Snapshots that Claude writes in batches, over the real SDK against the sandbox: what is paid, and that whoever is killed
between any two steps neither loses a batch nor has another one made."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
import warm

import longwatch
from longwatch import Longwatch, Memory
from longwatch.runtime.authoring import Authoring
from longwatch.runtime.upkeep import Upkeep
from longwatch.sandbox import Sandbox, started
from longwatch.sandbox.faults import Fault
from longwatch.store.batches import Batches
from longwatch.store.snapshots import Snapshots

MODEL, OTHER = "claude-haiku-5-5", "claude-sonnet-5-5"
CREATE = "POST /v1/messages/batches"
HOUR = 3_600_000
MEMORY = {"snapshot_every": 20, "writer": MODEL, "budget": "memory", "batch": True}
CONFIG: dict[str, Any] = {
    "memory": MEMORY,
    "service": {"anthropic": {"rate": {"requests": "1000/s"}}},
    "budget": {"memory": {"money": "1 USD/month"}, "main": {"money": "5 USD/month"}},
}
GOOD = {
    "facts": [{"text": "Invoice n 2 was sent", "records": ["r4"]}],
    "narrative": [{"text": "Invoices were done and sent", "records": ["r2", "r3"]}],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with started() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Whose batches take an hour."""
    server.reset()
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    server.limits(anthropic={"tools": {"snapshot": GOOD}, "batch_ms": HOUR})
    return server


@pytest.fixture
def lw(place: str, sandbox: Sandbox) -> Generator[Longwatch]:
    with longwatch.open(place, config=CONFIG) as fleet:
        yield fleet


def fill(memory: Memory, tasks: int = 20) -> None:
    """r1 is a decision, r2 to r21 are results."""
    memory.record("decision", "no paid links")
    memory.record_many(
        {"kind": "result", "text": f"invoice(n {n}) done: sent", "task": f"task_{n}"} for n in range(tasks)
    )


def says(sandbox: Sandbox, text: str, ref: str) -> None:
    answer = {"facts": [{"text": text, "records": [ref]}], "narrative": []}
    sandbox.limits(anthropic={"tools": {"snapshot": answer}})


def ended(sandbox: Sandbox) -> None:
    """As if the hour had passed."""
    sandbox.limits(anthropic={"batch_ms": 0})


def execute(lw: Longwatch, sql: str) -> None:
    with lw.opened.parts.memories.store.database.transaction(part="memory") as tx:
        tx.plain(sql)  # type: ignore[attr-defined]


def later(lw: Longwatch) -> None:
    """As if the pauses had passed, and what is open had been asked for three minutes ago."""
    ago_ms = lw.opened.parts.world.wall_ms() - 180_000
    execute(lw, "update memory_writer set again_ms = 0, until_ms = 0")
    execute(lw, "update memory_compactor set until_ms = 0")
    execute(lw, "update memory_batch set poll_ms = 0")
    execute(lw, f"update memory_batch set asked_ms = {ago_ms} where asked_ms > {ago_ms}")
    with lw.opened.parts.database.transaction() as tx:
        tx.plain("delete from gate")  # type: ignore[attr-defined]


def open_batches(lw: Longwatch) -> int:
    return Batches(lw.opened.parts.memories.store.database).open()


def made(sandbox: Sandbox) -> int:
    """How many batches there are at the provider."""
    found = sandbox.counts()["anthropic"]["endpoints"].get(CREATE, {})
    return sum(count for status, count in found.items() if status in ("0", "200"))


def billed(sandbox: Sandbox) -> int:
    return int(sandbox.bill()["anthropic"]["micros"])


def charged(lw: Longwatch) -> dict[str, int]:
    """By the state of calls: micro-units, of all calls there ever were."""
    limiter, found = lw.opened.parts.calls.limiter, dict[str, int]()
    for entry in lw.opened.parts.journal.latest(kind="call.admitted", limit=100):
        call = limiter.find(entry.subject)
        phase = "open" if call.phase in ("waiting", "leaving") else call.phase
        found[phase] = found.get(phase, 0) + call.money
    return found


def sql_of(lw: Longwatch, memory: Memory) -> Any:
    return Snapshots(lw.opened.parts.memories.store.database).tops(memory.agent)[0].shape


def test_it_is_offline_at_once_and_written_at_half_the_price_when_the_batch_has_ended(
    lw: Longwatch, memory: Memory, sandbox: Sandbox
) -> None:
    fill(memory)
    assert memory.compact() == 1
    (before,) = memory.snapshots()
    assert (before.author, before.micros) == ("offline", 0)
    assert before.why is not None
    assert before.why.startswith(f"{MODEL} was asked for it in msgbatch_")
    ((state, most),) = charged(lw).items()
    assert (state, billed(sandbox)) == ("settled", 0), "the most that it can cost is spent"
    later(lw)
    assert memory.compact() == 0
    assert (memory.snapshots()[0].author, made(sandbox)) == ("offline", 1), "it is looked at, and asked for once"
    ended(sandbox)
    later(lw)
    memory.compact()
    (after,) = memory.snapshots()
    assert (after.id, after.author, after.why) == (before.id, MODEL, None)
    assert [each.text for each in sql_of(lw, memory).facts] == ["Invoice n 2 was sent"]
    assert charged(lw) == {"settled": billed(sandbox)}
    assert 0 < after.micros == billed(sandbox) < most
    assert (open_batches(lw), memory.verify()) == (0, ())
    plain = anthropic.Anthropic().messages.batches
    (line,) = plain.results(next(iter(plain.list())).id)
    assert line.custom_id.startswith(before.id)
    later(lw)
    memory.compact()
    assert made(sandbox) == 1


STRUCK = """
import json, os, signal, sys
import longwatch
from longwatch.runtime.world import Machine

def reach(self, reached):
    if reached == sys.argv[2]:
        os.kill(os.getpid(), int(sys.argv[4]))
Machine.reach = reach
with longwatch.open(sys.argv[1], config=json.loads(sys.argv[3])) as lw:
    lw.memory("seo").compact()
"""
ASKING = ("batch.asked", "call.admitted", "call.leaving", "batch.made", "batch.written")
TAKING = ("batch.fetched", "batch.settled", "memory.written", "batch.taken")


def compacting(place: str, tmp_path: Path, mark: str, sent: signal.Signals) -> "subprocess.Popen[str]":
    """A process that is sent the signal when it has come so far."""
    script = tmp_path / "compact.py"
    script.write_text(STRUCK)
    command = [sys.executable, str(script), place, mark, json.dumps(CONFIG), str(int(sent))]
    if sent == signal.SIGKILL:
        return warm.Popen(command, stderr=subprocess.PIPE)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # the parent of one that is stopped is told


def killed(place: str, tmp_path: Path, mark: str) -> None:
    process = compacting(place, tmp_path, mark, signal.SIGKILL)
    _, words = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, words


@pytest.mark.parametrize("mark", ASKING)
def test_whoever_is_killed_while_he_asks_one_batch_is_made_and_every_charge_is_recorded(
    place: str, sandbox: Sandbox, tmp_path: Path, mark: str
) -> None:
    with longwatch.open(place, config=CONFIG) as lw:
        memory = lw.memory("seo")
        fill(memory)
        killed(place, tmp_path, mark)
        sent = mark in ("batch.made", "batch.written")
        assert made(sandbox) == sent
        for _ in range(3):
            later(lw)
            memory.compact()
        assert made(sandbox) == 1, "also where its name was never written down"
        ended(sandbox)
        for _ in range(2):
            later(lw)
            memory.compact()
        assert (memory.snapshots()[0].author, made(sandbox), open_batches(lw)) == (MODEL, 1, 0)
        found = charged(lw)
        assert found["settled"] == memory.snapshots()[0].micros == billed(sandbox) > 0
        doubtful = mark in ("call.admitted", "call.leaving")
        assert set(found) == ({"settled", "unknown"} if doubtful else {"settled"}), "it might have been sent"
        assert memory.verify() == ()


@pytest.mark.parametrize("mark", ["batch.asked", "call.leaving"])
def test_whoever_was_stopped_and_sends_after_others_did_is_paid_for_and_writes_nothing(
    place: str, sandbox: Sandbox, tmp_path: Path, mark: str
) -> None:
    with longwatch.open(place, config=CONFIG) as lw:
        memory = lw.memory("seo")
        fill(memory)
        process = compacting(place, tmp_path, mark, signal.SIGSTOP)
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            for _ in range(3):
                later(lw)
                memory.compact()
            assert (made(sandbox), open_batches(lw)) == (1, 1), "nobody waits for it"
        finally:
            process.send_signal(signal.SIGCONT)
        _, words = process.communicate(timeout=60)
        assert (process.returncode, made(sandbox)) == (0, 2), words
        ended(sandbox)
        later(lw)
        memory.compact()
        (snapshot,) = memory.snapshots()
        assert (snapshot.author, open_batches(lw)) == (MODEL, 0)
        assert snapshot.micros * 2 == billed(sandbox) < sum(charged(lw).values()), "both were billed, both are recorded"
        assert memory.verify() == ()


@pytest.mark.parametrize("mark", TAKING)
def test_whoever_is_killed_while_he_takes_the_answer_it_is_taken_once_and_paid_once(
    place: str, sandbox: Sandbox, tmp_path: Path, mark: str
) -> None:
    with longwatch.open(place, config=CONFIG) as lw:
        memory = lw.memory("seo")
        fill(memory)
        memory.compact()
        ended(sandbox)
        later(lw)
        killed(place, tmp_path, mark)
        over = mark in ("memory.written", "batch.taken")
        assert (memory.snapshots()[0].author, open_batches(lw)) == ((MODEL, 0) if over else ("offline", 1))
        later(lw)
        memory.compact()
        (written,) = memory.snapshots()
        assert (written.author, made(sandbox), open_batches(lw)) == (MODEL, 1, 0)
        assert charged(lw) == {"settled": billed(sandbox)} == {"settled": written.micros}
        assert memory.verify() == ()


def test_batches_of_others_are_not_taken_for_ones_own(place: str, sandbox: Sandbox, tmp_path: Path) -> None:
    theirs: list[Any] = [
        {
            "custom_id": "snap_x-1",
            "params": {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
        }
    ]
    with longwatch.open(place, config=CONFIG) as lw:
        memory = lw.memory("seo")
        fill(memory)
        plain = anthropic.Anthropic().messages.batches
        plain.create(requests=theirs)
        killed(place, tmp_path, "batch.asked")
        later(lw)
        memory.compact()
        assert made(sandbox) == 1, "until theirs has ended nobody knows whose it is"
        ended(sandbox)
        sandbox.limits(anthropic={"batch_ms": 0})
        later(lw)
        memory.compact()
        (snapshot,) = memory.snapshots()
        assert snapshot.why == "no batch was made of it"
        for _ in range(2):
            later(lw)
            memory.compact()
        assert (memory.snapshots()[0].author, made(sandbox)) == (MODEL, 2)


SOON = {"expired": {"batch_expiry_ms": 1}, "errored": {"batch_ms": 0, "batch_errors": True}}


@pytest.mark.parametrize("kind", ["errored", "canceled", "expired"])
def test_one_that_comes_to_no_answer_gives_its_money_back_and_is_asked_for_again(
    lw: Longwatch, memory: Memory, sandbox: Sandbox, kind: str
) -> None:
    fill(memory)
    memory.compact()
    if kind == "canceled":
        plain = anthropic.Anthropic().messages.batches
        plain.cancel(next(iter(plain.list())).id)
    sandbox.limits(anthropic=SOON.get(kind, {}))
    later(lw)
    memory.compact()
    (snapshot,) = memory.snapshots()
    assert snapshot.author == "offline"
    assert snapshot.why is not None
    assert snapshot.why.endswith(f"was {kind}")
    assert (charged(lw), billed(sandbox), open_batches(lw)) == ({"settled": 0}, 0, 0)
    assert not Authoring(lw.opened.parts.memories).is_due(), "there is a pause"
    sandbox.limits(anthropic={"batch_ms": 0, "batch_errors": False, "batch_expiry_ms": HOUR})
    for _ in range(2):
        later(lw)
        memory.compact()
    assert (memory.snapshots()[0].author, made(sandbox)) == (MODEL, 2)
    assert charged(lw)["settled"] == billed(sandbox)


def test_a_batch_whose_making_was_not_answered_is_found(lw: Longwatch, memory: Memory, sandbox: Sandbox) -> None:
    fill(memory)
    sandbox.faults([Fault(service="anthropic", kind="drop_reply")])
    memory.compact()
    sandbox.clear_faults()
    assert (set(charged(lw)), made(sandbox), open_batches(lw)) == ({"unknown"}, 1, 1)
    later(lw)
    memory.compact()
    assert made(sandbox) == 1, "it may be the one that goes on"
    ended(sandbox)
    later(lw)
    memory.compact()
    assert (memory.snapshots()[0].author, made(sandbox)) == (MODEL, 1)
    assert charged(lw) == {"settled": billed(sandbox)}, "what is known replaces the hold"


@pytest.mark.parametrize("kind", ["answered", "not answered"])
def test_a_batch_is_not_forgotten_because_its_calls_end_could_not_be_written(
    lw: Longwatch, memory: Memory, sandbox: Sandbox, kind: str
) -> None:
    fill(memory)
    if kind == "not answered":
        sandbox.faults([Fault(service="anthropic", kind="drop_reply")])
    limiter = lw.opened.parts.calls.limiter
    with pytest.MonkeyPatch.context() as patch:
        for way in ("settle", "unknown"):
            patch.setattr(limiter, way, away)
        memory.compact()
    sandbox.clear_faults()
    assert (made(sandbox), open_batches(lw)) == (1, 1)
    ended(sandbox)
    later(lw)
    memory.compact()
    assert (memory.snapshots()[0].author, made(sandbox)) == (MODEL, 1)
    assert len(lw.opened.parts.calls.owed) == 0
    assert charged(lw) == {"settled": billed(sandbox)}


def away(*_: object, **__: object) -> None:
    raise longwatch.StoreUnavailable("the state is away")


@pytest.mark.parametrize("status", [400, 529])
def test_a_refusal_costs_nothing_and_leaves_nothing_behind(
    lw: Longwatch, memory: Memory, sandbox: Sandbox, status: int
) -> None:
    fill(memory)
    sandbox.faults([Fault(service="anthropic", kind="status", status=status)])
    memory.compact()
    assert memory.snapshots()[0].why == f"anthropic answered {status}"
    assert (sum(charged(lw).values()), open_batches(lw), made(sandbox)) == (0, 0, 0)


def test_a_budget_that_refuses_sends_nothing(place: str, sandbox: Sandbox) -> None:
    config = CONFIG | {"budget": {"memory": {"money": "0.000100 USD/month"}}}
    with longwatch.open(place, config=config) as lw:
        memory = lw.memory("seo")
        fill(memory)
        memory.compact()
        (snapshot,) = memory.snapshots()
        assert snapshot.why is not None
        assert snapshot.why.startswith("budget_exceeded: memory cannot hold")
        assert (open_batches(lw), made(sandbox)) == (0, 0)


def test_the_second_answer_without_the_shape_lets_the_offline_one_stand(
    lw: Longwatch, memory: Memory, sandbox: Sandbox
) -> None:
    sandbox.limits(anthropic={"tools": {"snapshot": {"facts": "none"}}, "batch_ms": 0})
    fill(memory)
    memory.compact()
    for _ in range(3):
        later(lw)
        memory.compact()
    (snapshot,) = memory.snapshots()
    assert (snapshot.author, snapshot.why) == ("offline", f"2 answers of {MODEL} had not the shape")
    assert (made(sandbox), open_batches(lw)) == (2, 0)
    assert charged(lw) == {"settled": billed(sandbox)} == {"settled": snapshot.micros}


def test_what_was_redacted_meanwhile_is_thrown_away_paid_and_asked_for_anew(
    lw: Longwatch, memory: Memory, sandbox: Sandbox
) -> None:
    secret = "xyzzyplugh"
    memory.record("fact", f"the word of acme is {secret}")
    fill(memory)
    says(sandbox, f"acme word {secret}", "r1")
    memory.compact()
    memory.redact("r1", "a secret")
    ended(sandbox)
    first = billed(sandbox)
    sandbox.limits(anthropic={"batch_ms": HOUR})
    later(lw)
    memory.compact()
    (snapshot,) = memory.snapshots()
    assert (snapshot.author, made(sandbox), open_batches(lw)) == ("offline", 2, 1)
    assert charged(lw)["settled"] > snapshot.micros == first > 0, (
        "the next one is paid for at the most that it can cost"
    )
    assert secret not in str(sql_of(lw, memory))
    says(sandbox, "Invoice n 2 was sent", "r5")
    ended(sandbox)
    for _ in range(2):
        later(lw)
        memory.compact()
    (snapshot,) = memory.snapshots()
    assert (snapshot.author, made(sandbox), snapshot.micros) == (MODEL, 2, billed(sandbox))
    assert charged(lw) == {"settled": billed(sandbox)}


@pytest.mark.parametrize("changed", [{"batch": False}, {"writer": OTHER}, {"batch": False, "writer": OTHER}])
def test_an_open_one_is_taken_whatever_the_config_says_by_then(
    place: str, sandbox: Sandbox, changed: dict[str, Any]
) -> None:
    with longwatch.open(place, config=CONFIG) as lw:
        fill(lw.memory("seo"))
        lw.memory("seo").compact()
    with longwatch.open(place, config=CONFIG | {"memory": MEMORY | changed}) as lw:
        memory = lw.memory("seo")
        later(lw)
        memory.compact()
        assert (made(sandbox), memory.snapshots()[0].author, billed(sandbox)) == (1, "offline", 0), "it is waited for"
        ended(sandbox)
        later(lw)
        memory.compact()
        assert memory.snapshots()[0].author == MODEL
        assert charged(lw) == {"settled": billed(sandbox)}, "at the price of who wrote it"


def test_an_open_one_takes_no_place_of_calls_in_flight(place: str, sandbox: Sandbox) -> None:
    service = {"anthropic": {"rate": {"requests": "1000/s"}, "concurrency": 1}}
    with longwatch.open(place, config=CONFIG | {"service": service}) as lw:
        fill(lw.memory("seo"))
        lw.memory("seo").compact()
        assert open_batches(lw) == 1
        with lw.call("anthropic", money="0.01 USD", wait=0):
            pass


def test_one_that_does_not_end_or_is_gone_is_charged_at_its_hold_and_asked_for_again(
    lw: Longwatch, memory: Memory, sandbox: Sandbox
) -> None:
    fill(memory)
    memory.compact()
    ((_, held),) = charged(lw).items()
    execute(lw, f"update memory_batch set asked_ms = asked_ms - {25 * HOUR}")
    later(lw)
    memory.compact()
    assert str(memory.snapshots()[0].why).endswith("did not end")
    assert charged(lw) == {"settled": held}
    later(lw)
    memory.compact()
    assert made(sandbox) == 2
    execute(lw, "update memory_batch set batch = 'msgbatch_nowhere'")
    later(lw)
    memory.compact()
    assert memory.snapshots()[0].why == "msgbatch_nowhere is not there any more"
    assert charged(lw) == {"settled": 2 * held}


def test_twenty_are_open_at_most(place: str, sandbox: Sandbox) -> None:
    with longwatch.open(place, config=CONFIG | {"memory": {"snapshot_every": 20}}) as lw:
        fill(lw.memory("seo"), 22 * 20)
        lw.memory("seo").compact()
    with longwatch.open(place, config=CONFIG) as lw:
        assert Authoring(lw.opened.parts.memories).step() == 0
        assert (open_batches(lw), made(sandbox)) == (2, 2)
        for _ in range(3):
            lw.memory("seo").compact()
        assert (open_batches(lw), made(sandbox)) == (20, 20)
        assert not Authoring(lw.opened.parts.memories).is_due()


def test_workers_make_batches_and_take_them_in_beside_their_beats(
    lw: Longwatch, memory: Memory, sandbox: Sandbox
) -> None:
    parts = lw.opened.parts
    upkeep = Upkeep(parts)

    def round_of_it() -> None:
        with parts.database.transaction() as tx:
            tx.plain("update fleet set upkeep_ms = 0")  # type: ignore[attr-defined]
        assert upkeep.step()
        if upkeep._writing is not None:
            assert parts.sleeper.wait_for_flag(upkeep._writing, parts.steady_ms() + 20_000)

    fill(memory)
    round_of_it()
    assert (memory.snapshots()[0].author, open_batches(lw)) == ("offline", 1)
    before = sandbox.counts()["anthropic"]["requests"]
    round_of_it()
    assert sandbox.counts()["anthropic"]["requests"] == before, "it is not looked at again at once"
    ended(sandbox)
    later(lw)
    round_of_it()
    assert (memory.snapshots()[0].author, open_batches(lw)) == (MODEL, 0)
    assert charged(lw) == {"settled": billed(sandbox)}
