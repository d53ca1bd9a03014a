"""`wrap(client, count_tokens=True)`: the provider says what a prompt weighs before it is held, and is never needed for it."""

import asyncio
import logging
import time
from typing import Any

import anthropic
import openai
import pytest
import stripe
from accounts import ends
from anthropic.types import MessageParam

import longwatch
from longwatch import ConfigError, Longwatch, Run
from longwatch.sandbox import Sandbox
from longwatch.sandbox.faults import Fault
from longwatch.store.journal import Entry

MODEL = "claude-haiku-4-5"
LONG: list[MessageParam] = [{"role": "user", "content": "the quick brown fox jumps over the lazy dog " * 200}]
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": LONG}


def claude(sandbox: Sandbox) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key")


def admitted(lw: Longwatch) -> list[Entry]:
    """The calls, oldest first."""
    lw.opened.parts.calls.limiter.flush()
    found = lw.opened.parts.journal.latest(kind="call.admitted", limit=100)
    return sorted(found, key=lambda entry: entry.seq)


def asked(lw: Longwatch) -> list[tuple[object, object]]:
    """Of every call: its model, and what it held."""
    return [(entry.data.get("model"), entry.data["money"]) for entry in admitted(lw)]


def price(lw: Longwatch, tokens: int) -> int:
    call = lw.call("anthropic", model=MODEL, weight={"input_tokens": tokens}, max_tokens=100)
    with call as entered:
        held = lw.opened.parts.calls.limiter.find(entered.id).held_money
        entered.release()
    return held


def counts(sandbox: Sandbox) -> dict[str, int]:
    found = sandbox.counts()["anthropic"]["endpoints"]
    return {endpoint: sum(statuses.values()) for endpoint, statuses in found.items()}


def test_a_prompt_is_held_at_what_the_provider_counts(lw: Longwatch, sandbox: Sandbox) -> None:
    exact = claude(sandbox).messages.count_tokens(model=MODEL, messages=LONG).input_tokens
    client = lw.wrap(claude(sandbox), budget="research", count_tokens=True)
    answer = client.messages.create(model=MODEL, max_tokens=100, messages=LONG)
    (counting, held), estimated = asked(lw), lw.wrap(claude(sandbox), budget="research")
    assert counting == ("count_tokens", 0)
    assert held == (MODEL, price(lw, exact))
    assert answer.usage.input_tokens == exact
    before = asked(lw)[-1]
    estimated.messages.create(**ASK)
    assert before != asked(lw)[-1]
    assert asked(lw)[-1][1] > held[1]  # type: ignore[operator]  # micro-units
    assert [end.split()[0] for end in ends(lw)].count("unknown") == 0


def test_every_way_of_asking_is_counted_once_a_request(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="research", count_tokens=True)
    client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=LONG).parse()
    with client.messages.with_streaming_response.create(model=MODEL, max_tokens=100, messages=LONG) as reply:
        reply.parse()
    with client.messages.stream(**ASK) as stream:
        stream.until_done()
    client.beta.messages.create(betas=["context-1m"], **ASK)
    client.with_options(timeout=30).messages.create(system="be brief", **ASK)
    assert [model for model, _ in asked(lw)] == ["count_tokens", MODEL] * 5
    held = {money for model, money in asked(lw)[:8] if model == MODEL}
    assert len(held) == 1
    assert counts(sandbox) == {"POST /v1/messages/count_tokens": 5, "POST /v1/messages": 5}


def test_what_is_no_message_is_not_counted(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="research", count_tokens=True)
    client.messages.count_tokens(model=MODEL, messages=LONG)
    with pytest.raises(anthropic.NotFoundError):
        client.models.list()
    assert [model for model, _ in asked(lw)] == [None, None]


def test_an_asyncio_client_counts_too(lw: Longwatch, sandbox: Sandbox) -> None:
    async def program() -> int:
        plain = anthropic.AsyncAnthropic(base_url=sandbox.base_urls["anthropic"], api_key="key")
        client = lw.wrap(plain, budget="research", count_tokens=True)
        answers = await asyncio.gather(
            *(client.messages.create(model=MODEL, max_tokens=100, messages=LONG) for _ in range(4))
        )
        return int(answers[0].usage.input_tokens)

    exact = asyncio.run(program())
    found = sorted(asked(lw), key=str)
    assert found == [(MODEL, price(lw, exact))] * 4 + [("count_tokens", 0)] * 4


@pytest.mark.parametrize("fault", [("status", 529), ("status", 429), ("drop_reply", 500)])
def test_when_counting_fails_the_estimate_stands_and_it_is_told_once(
    lw: Longwatch, sandbox: Sandbox, fault: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    kind, status = fault
    endpoint = "POST /v1/messages/count_tokens"
    sandbox.faults([Fault(service="anthropic", endpoint=endpoint, kind=kind, status=status)])  # type: ignore[arg-type]
    client = lw.wrap(claude(sandbox), budget="research", count_tokens=True)
    with caplog.at_level(logging.WARNING, "longwatch"):
        for _ in range(3):
            client.messages.create(**ASK)
    told = [record.getMessage() for record in caplog.records if "cannot be counted" in record.getMessage()]
    assert len(told) == 1, told
    assert counts(sandbox) == {endpoint: 1, "POST /v1/messages": 3}  # nobody is asked again just then
    plain = lw.wrap(claude(sandbox), budget="research")
    plain.messages.create(**ASK)
    assert len({money for model, money in asked(lw) if model == MODEL}) == 1
    assert not [end for end in ends(lw) if end.startswith("unknown")]


def test_counting_has_a_rate_of_its_own_and_takes_nothing_from_the_others(sandbox: Sandbox, tmp_path: Any) -> None:
    config: longwatch.Config = {
        "service": {
            "anthropic": {
                "rate": {"requests": "10/s"},
                "quota": "3/day",
                "model": {"count_tokens": {"rate": {"requests": "1/day"}}},
            }
        },
        "budget": {"few": {"calls": "3/day", "tokens": "100000/day"}},
    }
    with longwatch.open(str(tmp_path / "s.db"), config=config) as lw:
        client = lw.wrap(claude(sandbox), budget="few", count_tokens=True, wait="1s")
        began = time.monotonic()
        for _ in range(3):
            client.messages.create(**ASK)
        assert time.monotonic() - began < 20
        assert counts(sandbox) == {"POST /v1/messages/count_tokens": 1, "POST /v1/messages": 3}
        caps = {(cap.purse, cap.dimension): cap.spent for cap in lw.opened.parts.calls.limiter.peek().caps}
        assert caps["budget:few", "calls"] == 3
        assert caps["service:anthropic", "calls"] == 3


def test_a_message_has_the_slot_that_counting_did_not_take(sandbox: Sandbox) -> None:
    with longwatch.open(":memory:", config={"service": {"anthropic": {"rate": {"requests": "1/day"}}}}) as lw:
        lw.wrap(claude(sandbox), count_tokens=True, wait="1s").messages.create(**ASK)
        assert [model for model, _ in asked(lw)] == ["count_tokens", MODEL]


def test_a_limit_of_counting_keeps_no_message_back(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"counts": {"amount": 1, "per_ms": 3_600_000}})
    client = lw.wrap(claude(sandbox), budget="research", count_tokens=True)
    began = time.monotonic()
    for _ in range(3):
        client.messages.create(**ASK)
    assert time.monotonic() - began < 20
    assert sandbox.counts()["anthropic"]["statuses"] == {"200": 4, "429": 1}


def test_a_stored_step_is_not_counted_again(lw: Longwatch, sandbox: Sandbox) -> None:
    keys: list[str] = []

    @lw.task("letter", retries=1, backoff="0s")
    def letter(run: Run, counts: bool) -> int:
        client = run.wrap(claude(sandbox), budget="research", count_tokens=counts)

        def ask() -> int:
            answer = client.messages.create(model=MODEL, max_tokens=100, messages=LONG)
            with run.call("github") as call:
                keys.append(call.key.partition(run.task)[2])
            return int(answer.usage.input_tokens)

        found = run.step("ask", ask)
        if run.attempt == 1:
            raise ValueError("again")
        return found

    task, _ = lw.submit("letter", {"counts": True}, money="1 USD"), lw.submit("letter", {"counts": False})
    lw.work(until_idle=True)
    assert lw.wait(task.id).result > 0
    assert counts(sandbox) == {"POST /v1/messages/count_tokens": 1, "POST /v1/messages": 2}
    found = lw.opened.parts.calls.limiter.of_task(task.id)
    assert [call.model for call in found] == ["count_tokens", MODEL, None]
    assert len(set(keys)) == 1, "counting takes no place among the calls of a step"


def test_a_task_with_a_cap_on_tokens_and_calls_counts_for_nothing(lw: Longwatch, sandbox: Sandbox) -> None:
    @lw.task("letter")
    def letter(run: Run) -> int:
        return int(
            run.wrap(claude(sandbox), count_tokens=True)
            .messages.create(model=MODEL, max_tokens=100, messages=LONG)
            .usage.input_tokens
        )

    task = lw.submit("letter", calls=1, tokens=100_000)
    lw.work(until_idle=True)
    assert lw.wait(task.id).result > 0
    assert next(cap.spent for cap in lw.opened.parts.calls.limiter.task_caps.all(task.id)) == 1
    assert counts(sandbox)["POST /v1/messages/count_tokens"] == 1


def test_clients_without_such_an_endpoint_are_refused(lw: Longwatch, sandbox: Sandbox) -> None:
    plain: list[Any] = [
        openai.OpenAI(base_url=sandbox.env()["OPENAI_BASE_URL"], api_key="key"),
        openai.AsyncOpenAI(api_key="key"),
        stripe.StripeClient("key"),
    ]
    for client in plain:
        with pytest.raises(ConfigError, match="is for clients of Anthropic"):
            lw.wrap(client, count_tokens=True)
