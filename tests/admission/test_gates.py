"""A service that pushes back keeps the calls of every process back; one probe finds out when it answers again."""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest

import longwatch
from longwatch import Longwatch, ServicePaused, WaitTimeout
from longwatch.policy.answer import Verdict
from longwatch.policy.breaker import Gate
from longwatch.sandbox import Fault, started

MODEL = "claude-haiku-4-5"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
CONFIG: dict[str, Any] = {
    "fleet": {"currency": "USD"},
    "service": {"anthropic": {"rate": {"requests": "200/s"}}, "api": {"rate": "200/s"}},
}
WORKER = textwrap.dedent("""
    import sys, anthropic, longwatch
    state, url, calls = sys.argv[1:4]
    config = {"fleet": {"currency": "USD"}, "service": {"anthropic": {"rate": {"requests": "200/s"}}, "api": {"rate": "200/s"}}}
    with longwatch.open(state, config=config, agent="main") as lw:
        client = lw.wrap(anthropic.Anthropic(api_key="k", base_url=url))
        client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "a"}])
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(calls)):
            client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "a"}])
        print("done", flush=True)
""")


class Overloaded(Exception):
    status_code = 529


@pytest.fixture
def lw(tmp_path: Path) -> Any:
    with longwatch.open(str(tmp_path / "state.db"), config=CONFIG, agent="main") as opened:
        yield opened


def states(lw: Longwatch) -> dict[str, str]:
    return {gate.name: gate.state for gate in lw.opened.parts.calls.limiter.gates.all()}


def test_an_outage_costs_a_few_calls_in_all_and_fails_none(tmp_path: Path) -> None:
    outage_s, workers = 6, 4
    with started() as sandbox:
        command = [sys.executable, "-c", WORKER, str(tmp_path / "state.db"), sandbox.base_urls["anthropic"], "30"]
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)
        ]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            sandbox.faults([Fault(service="anthropic", kind="status", status=529)])
            for child in children:
                assert child.stdin is not None
                child.stdin.write("go\n")
                child.stdin.flush()
            time.sleep(outage_s)
            wasted = sandbox.counts()["anthropic"]["statuses"]["529"]
            sandbox.clear_faults()
            assert [child.wait(60) for child in children] == [0] * workers
        finally:
            for child in children:
                child.kill()
                child.communicate()
        answered = sandbox.counts()["anthropic"]["statuses"]
    assert answered["200"] == workers * 31
    assert answered["529"] <= wasted + 1, "at most the probe under way"
    assert wasted <= workers + 1, "what was under way, and the probe after 1 s; the next one would be after 7"


def test_a_call_that_names_its_time_keeps_all_others_back_for_it(lw: Longwatch) -> None:
    with lw.call("api", money="0 USD") as call:
        call.answered(429, {"retry-after": "1"})
    began = time.monotonic()
    with lw.call("api", money="0 USD"):
        assert 0.9 <= time.monotonic() - began < 5
    assert states(lw) == {"api": "cooling"}


def test_a_plain_block_that_ends_with_an_sdk_error_opens_the_gate(lw: Longwatch) -> None:
    with pytest.raises(Overloaded), lw.call("api", money="0 USD"):
        raise Overloaded
    assert states(lw) == {"api": "open"}
    with pytest.raises(WaitTimeout), lw.call("api", money="0 USD", wait="0.2s"):
        pytest.fail("it is open")
    began = time.monotonic()
    with lw.call("api", money="0 USD"):
        assert time.monotonic() - began < 5
    assert states(lw) == {"api": "closed"}


def test_whoever_sleeps_for_a_slot_is_called_back(tmp_path: Path) -> None:
    """The slots were given before the service pushed back: nobody leaves on them, and nobody is paced the worse for it."""
    slow = {"service": {"slow": {"rate": "5/s", "burst": 1}}, "fleet": {"currency": "USD"}}
    with longwatch.open(str(tmp_path / "slow.db"), config=slow, agent="main") as fleet:
        left: list[float] = []

        def call() -> None:
            with fleet.call("slow", money="0 USD"):
                left.append(time.monotonic())

        with fleet.call("slow", money="0 USD") as first:
            others = [threading.Thread(target=call) for _ in range(4)]
            for other in others:
                other.start()
            time.sleep(0.1)
            told = time.monotonic()
            first.answered(429, {"retry-after": "2"})
        for other in others:
            other.join(20)
    assert len(left) == 4
    assert min(left) - told >= 1.9
    gaps = [after - before for before, after in zip(sorted(left), sorted(left)[1:], strict=False)]
    assert min(gaps) >= 0.15, "they go on at 5 a second"


def test_a_dead_probe_holds_nobody_up_for_long(lw: Longwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwatch.policy.breaker.PROBE_MS", 1_000)
    with pytest.raises(Overloaded), lw.call("api", money="0 USD"):
        raise Overloaded
    gates = lw.opened.parts.calls.limiter.gates
    deadline = time.monotonic() + 5
    while not isinstance(gates.probe("api", "call_of_the_dead"), tuple):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    began = time.monotonic()
    with lw.call("api", money="0 USD"):
        assert 0.5 < time.monotonic() - began < 5


def test_a_spend_cap_refuses_the_fleet_until_somebody_resumes_it(lw: Longwatch) -> None:
    with started() as sandbox:
        sandbox.limits(anthropic={"spend_cap_micros": 0})
        client = lw.wrap(anthropic.Anthropic(api_key="k", base_url=sandbox.base_urls["anthropic"]))
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
        with pytest.raises(ServicePaused, match="what may be spent there is spent") as found:
            client.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
        assert sandbox.counts()["anthropic"]["requests"] == 1, "the second one was not sent"
        assert "longwatch service resume anthropic" in found.value.hint
        sandbox.limits(anthropic={"spend_cap_micros": None})
        lw.opened.parts.calls.limiter.gates.resume("anthropic")
        assert client.messages.create(model=MODEL, max_tokens=9, messages=HELLO).content


def test_one_model_that_cannot_answer_keeps_no_other_back(lw: Longwatch) -> None:
    with pytest.raises(Overloaded), lw.call("api", model="big", money="0 USD"):
        raise Overloaded
    with lw.call("api", model="small", money="0 USD", wait="0s"):
        pass
    assert states(lw) == {"api/big": "open"}


def test_a_program_that_fails_by_itself_keeps_nobody_back(lw: Longwatch) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), lw.call("api", money="0 USD"):
            raise ZeroDivisionError
    assert states(lw) == {}


def test_a_paused_service_refuses_at_once_and_says_who_can_help(lw: Longwatch) -> None:
    gates = lw.opened.parts.calls.limiter.gates
    gates.pause("api", "we are moving house")
    with pytest.raises(ServicePaused, match="we are moving house"), lw.call("api", money="0 USD"):
        pytest.fail("it is paused")
    gates.resume("api")
    with lw.call("api", money="0 USD", wait="5s"):
        pass


def test_a_parked_service_is_asked_again_while_nobody_is_awake(lw: Longwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwatch.policy.breaker.PARK_MS", 1_000)
    with lw.call("api", money="0 USD") as call:
        call.judged(Verdict("spent"), "the cap is reached")
    with pytest.raises(ServicePaused), lw.call("api", money="0 USD"):
        pytest.fail("it is parked")
    time.sleep(1.1)
    with lw.call("api", money="0 USD") as probe:
        assert probe.probe
        with pytest.raises(ServicePaused), lw.call("api", money="0 USD"):
            pytest.fail("there is one probe")
        probe.judged(Verdict("spent"), "still")
    with pytest.raises(ServicePaused), lw.call("api", money="0 USD"):
        pytest.fail("the probe was told the same")
    time.sleep(1.1)
    with lw.call("api", money="0 USD"):
        pass
    assert states(lw) == {"api": "closed"}


def test_a_meter_of_another_history_keeps_nobody_back_for_ever(lw: Longwatch) -> None:
    """As after a restore: the gate's row is older than the meter that enforces it."""
    with pytest.raises(Overloaded), lw.call("api", money="0 USD"):
        raise Overloaded
    with lw.opened.parts.calls.limiter.database.transaction() as tx:
        tx.count("gate.keep", **Gate("api", version=0)._asdict())
    began = time.monotonic()
    with lw.call("api", money="0 USD", wait="5s"):
        assert time.monotonic() - began < 1
