"""Wrapped clients under a budget that falls back on cheaper models: the request itself names the other model."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from accounts import spent
from anthropic.types import MessageParam

import longwatch
from longwatch import BudgetExceeded, Longwatch, Run
from longwatch.sandbox import Sandbox
from longwatch.sandbox.faults import Fault

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
CONFIG: dict[str, Any] = {
    "budget": {
        "growth": {
            "money": "0.0012 USD/month",  # less than 100 words of sonnet or gpt-4o, more than many of the small ones
            "then": "cheaper",
            "models": [SONNET, HAIKU, "gpt-4o", "gpt-4o-mini"],
        }
    }
}
LONG = 120


@pytest.fixture
def lw(tmp_path: Path) -> Iterator[Longwatch]:
    with longwatch.open(str(tmp_path / "state.db"), config=CONFIG, agent="main", budget="growth") as opened:
        yield opened


def claude(sandbox: Sandbox) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key", max_retries=2)


def steps(lw: Longwatch) -> list[tuple[object, object]]:
    entries = lw.opened.parts.journal.latest(kind="call.degraded")
    return [(entry.data["from"], entry.data["to"]) for entry in entries]


def test_every_way_of_asking_sends_the_model_that_the_budget_has_room_for(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox))
    assert client.messages.create(model=SONNET, max_tokens=LONG, messages=HELLO).model == HAIKU
    raw = client.messages.with_raw_response.create(model=SONNET, max_tokens=LONG, messages=HELLO)
    assert raw.parse().model == HAIKU
    with client.messages.stream(model=SONNET, max_tokens=LONG, messages=HELLO) as stream:
        assert stream.get_final_message().model == HAIKU
    beside = client.messages.create(
        model="claude-none", max_tokens=LONG, messages=HELLO, extra_body={"model": SONNET, "top_k": 5}
    )
    assert beside.model == HAIKU
    assert steps(lw) == [(SONNET, HAIKU)] * 4
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"], "priced by the model that was used"


def test_a_model_that_fits_is_sent_as_it_was_asked_for(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox))
    assert client.messages.create(model=SONNET, max_tokens=20, messages=HELLO).model == SONNET
    assert client.messages.create(model=HAIKU, max_tokens=LONG, messages=HELLO).model == HAIKU
    assert steps(lw) == []
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"]


def test_an_async_client_and_one_of_another_provider_fall_back_on_their_own_models(
    lw: Longwatch, sandbox: Sandbox
) -> None:
    async def ask() -> str:
        client = lw.wrap(anthropic.AsyncAnthropic(base_url=sandbox.base_urls["anthropic"], api_key="key"))
        return (await client.messages.create(model=SONNET, max_tokens=LONG, messages=HELLO)).model

    assert asyncio.run(ask()) == HAIKU
    gpt = lw.wrap(openai.OpenAI(base_url=sandbox.env()["OPENAI_BASE_URL"], api_key="key"))
    answer = gpt.chat.completions.create(
        model="gpt-4o", max_tokens=LONG, messages=[{"role": "user", "content": "hello"}]
    )
    assert answer.model == "gpt-4o-mini"
    assert steps(lw) == [(SONNET, HAIKU), ("gpt-4o", "gpt-4o-mini")]
    bill = sandbox.bill()
    assert spent(lw) == bill["anthropic"]["micros"] + bill["openai"]["micros"]


def test_a_further_try_goes_on_with_the_model_of_the_first(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="status", status=529, retry_after_s=0, count=1)])
    client = lw.wrap(claude(sandbox))
    assert client.messages.create(model=SONNET, max_tokens=LONG, messages=HELLO).model == HAIKU
    assert steps(lw) == [(SONNET, HAIKU)] * 2
    assert sandbox.bill()["anthropic"]["micros"] == spent(lw)


def test_nothing_is_sent_once_the_cheapest_does_not_fit_either(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox))
    with pytest.raises(BudgetExceeded, match=f"for {HAIKU}, the cheapest"):
        client.messages.create(model=SONNET, max_tokens=9_000, messages=HELLO)
    assert sandbox.bill().get("anthropic", {"micros": 0})["micros"] == 0
    assert steps(lw) == []


def test_a_handler_goes_on_offline_and_leaves_a_note(lw: Longwatch, sandbox: Sandbox) -> None:
    plain = claude(sandbox)

    @lw.task("letter")
    def letter(run: Run) -> str:
        try:
            answer = run.wrap(plain).messages.create(model=SONNET, max_tokens=9_000, messages=HELLO)
        except BudgetExceeded as refused:
            run.record("decision", "wrote the letter from the template", data={"budget": refused.budget})
            return "Dear customer"
        return answer.model

    task = lw.submit(letter.bind())
    lw.work(until_idle=True)
    assert lw.wait(task.id).result == "Dear customer"
    (note,) = lw.opened.parts.journal.latest(kind="note.decision", subject=task.id)
    assert note.data["data"] == {"budget": "growth"}
