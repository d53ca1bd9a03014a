"""Anthropic's Message Batches, over the real SDK: processing time, results, half the price, and what is not billed."""

from typing import Any

import anthropic
import pytest

from longwatch.sandbox import Sandbox

MODEL = "claude-haiku-5-5"


@pytest.fixture
def claude(sandbox: Sandbox) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key", max_retries=0)


def wanted(*texts: str, model: str = MODEL) -> list[Any]:
    return [
        {
            "custom_id": f"n-{number}",
            "params": {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}]},
        }
        for number, text in enumerate(texts)
    ]


def test_a_batch_takes_its_time_and_costs_half(sandbox: Sandbox, claude: anthropic.Anthropic) -> None:
    anyhow: Any = claude
    plain: Any = anyhow.messages.create(**wanted("hello there, who is it")[0]["params"])
    whole = sandbox.bill()["anthropic"]["micros"]
    sandbox.limits(anthropic={"batch_ms": 3_600_000})
    made = claude.messages.batches.create(requests=wanted("hello there, who is it"))
    assert (made.processing_status, made.request_counts.processing, made.results_url) == ("in_progress", 1, None)
    assert claude.messages.batches.retrieve(made.id) == made
    assert sandbox.bill()["anthropic"]["micros"] == whole, "nothing was answered yet"
    sandbox.limits(anthropic={"batch_ms": 0})
    assert sandbox.bill()["anthropic"]["micros"] - whole == -(-whole // 2), "whether or not anybody looks"
    ended = claude.messages.batches.retrieve(made.id)
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 1)
    (line,) = claude.messages.batches.results(made.id)
    assert line.custom_id == "n-0"
    assert line.result.type == "succeeded"
    message: Any = line.result.message
    assert message.content == plain.content
    assert (message.model, message.usage.service_tier) == (MODEL, "batch")
    (line,) = claude.messages.batches.results(made.id)
    assert sandbox.bill()["anthropic"]["micros"] - whole == -(-whole // 2), "results may be read again"


def test_creating_one_twice_makes_two_and_a_list_tells_of_no_ids_of_requests(claude: anthropic.Anthropic) -> None:
    made = [claude.messages.batches.create(requests=wanted("a", "b")) for _ in range(5)]
    listed = list(claude.messages.batches.list(limit=2))
    assert [each.id for each in listed] == [each.id for each in reversed(made)]
    assert "custom_id" not in listed[0].to_json()
    other = claude.copy(api_key="another")
    assert list(other.messages.batches.list()) == []
    with pytest.raises(anthropic.NotFoundError):
        other.messages.batches.retrieve(made[0].id)


@pytest.mark.parametrize("kind", ["errored", "canceled", "expired"])
def test_what_comes_to_no_answer_costs_nothing(sandbox: Sandbox, claude: anthropic.Anthropic, kind: str) -> None:
    sandbox.limits(anthropic={"batch_ms": 3_600_000})
    made = claude.messages.batches.create(requests=wanted("a", model="clod" if kind == "errored" else MODEL))
    if kind == "canceled":
        assert claude.messages.batches.cancel(made.id).processing_status == "canceling"
    else:
        sandbox.limits(anthropic={"batch_ms": 0} if kind == "errored" else {"batch_expiry_ms": 1})
    (line,) = claude.messages.batches.results(made.id)
    assert line.result.type == kind
    assert getattr(claude.messages.batches.retrieve(made.id).request_counts, kind) == 1
    assert sandbox.bill()["anthropic"]["micros"] == 0


def test_one_that_cannot_be_is_refused(sandbox: Sandbox, claude: anthropic.Anthropic) -> None:
    for requests in ([], [*wanted("a"), *wanted("b")], [wanted("a")[0] | {"custom_id": "no spaces"}]):
        with pytest.raises(anthropic.BadRequestError):
            claude.messages.batches.create(requests=requests)
    sandbox.limits(anthropic={"spend_cap_micros": 0})
    with pytest.raises(anthropic.RateLimitError):
        claude.messages.batches.create(requests=wanted("a"))
    assert list(claude.messages.batches.list()) == []
