"""Wrapped clients of Anthropic and OpenAI: paced, held, settled to the micro-unit by every way an answer can come."""

import asyncio
import gc
import time
from typing import Any, ClassVar

import anthropic
import openai
import pydantic
import pytest
from accounts import ends, spent
from anthropic.types import MessageParam, ToolParam

import longwatch
from longwatch import BudgetExceeded, ConfigError, Longwatch, UnknownPrice
from longwatch.sandbox import Sandbox
from longwatch.sandbox.faults import Fault

MODEL = "claude-haiku-4-5"
HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
TOOLS: list[ToolParam] = [
    {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
]


def claude(sandbox: Sandbox, retries: int = 2) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key", max_retries=retries)


def aclaude(sandbox: Sandbox) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=sandbox.base_urls["anthropic"], api_key="key")


def gpt(sandbox: Sandbox) -> openai.OpenAI:
    return openai.OpenAI(base_url=sandbox.env()["OPENAI_BASE_URL"], api_key="key")


def test_a_wrapped_client_is_of_the_same_type_and_the_plain_one_stays_plain(lw: Longwatch, sandbox: Sandbox) -> None:
    plain = claude(sandbox)
    client = lw.wrap(plain, budget="research")
    assert type(client) is anthropic.Anthropic
    plain.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert ends(lw) == []
    with pytest.raises(ConfigError, match="wrapped already"):
        lw.wrap(client)


def test_every_way_an_answer_comes_is_settled_to_the_micro_unit(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="research")
    client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    client.with_options(timeout=30).messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    client.beta.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "hello"}])
    client.messages.create(model=MODEL, max_tokens=100, messages=HELLO, tools=TOOLS)
    raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert raw.parse().model == MODEL
    with client.messages.with_streaming_response.create(model=MODEL, max_tokens=100, messages=HELLO) as reply:
        assert reply.parse().model == MODEL
    for _ in client.messages.create(model=MODEL, max_tokens=100, messages=HELLO, stream=True):
        pass
    with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        stream.until_done()
    assert len(ends(lw)) == 8, ends(lw)
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"]


def test_an_existing_asyncio_program_is_limited_by_one_line(lw: Longwatch, sandbox: Sandbox) -> None:
    async def program() -> list[Any]:
        client = lw.wrap(aclaude(sandbox), budget="research")

        async def ask(number: int) -> Any:
            if number % 2:
                async with client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
                    return await stream.get_final_text()
            return await client.messages.create(model=MODEL, max_tokens=100, messages=HELLO, tools=TOOLS)

        return await asyncio.gather(*(ask(number) for number in range(12)))

    assert len(asyncio.run(program())) == 12
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"]
    assert sandbox.counts()["anthropic"]["statuses"] == {"200": 12}


def test_openai_is_settled_the_same_way(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(gpt(sandbox), budget="research")
    ask: list[Any] = [{"role": "user", "content": "hello"}]
    client.chat.completions.create(model="gpt-4o-mini", messages=ask, max_completion_tokens=50)
    stream = client.chat.completions.create(
        model="gpt-4o-mini", messages=ask, max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    assert list(stream)
    assert spent(lw) == sandbox.bill()["openai"]["micros"]


def test_a_request_without_a_longest_answer_is_refused_unless_one_is_named(lw: Longwatch, sandbox: Sandbox) -> None:
    ask: list[Any] = [{"role": "user", "content": "hello"}]
    with pytest.raises(ConfigError, match="max_tokens"):
        lw.wrap(gpt(sandbox)).chat.completions.create(model="gpt-4o-mini", messages=ask)
    assert sandbox.counts().get("openai", {}).get("requests", 0) == 0
    lw.wrap(gpt(sandbox), max_tokens=50).chat.completions.create(model="gpt-4o-mini", messages=ask)
    assert spent(lw) == sandbox.bill()["openai"]["micros"]


def test_what_no_budget_has_is_never_sent(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="tiny")
    with pytest.raises(BudgetExceeded):
        client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    with pytest.raises(BudgetExceeded), client.messages.stream(model=MODEL, max_tokens=100, messages=HELLO):
        pass
    with pytest.raises(UnknownPrice):
        lw.wrap(claude(sandbox)).messages.create(model="claude-of-tomorrow", max_tokens=9, messages=HELLO)
    assert sandbox.counts().get("anthropic", {}).get("requests", 0) == 0


def test_a_model_of_tomorrow_can_be_given_a_price(sandbox: Sandbox) -> None:
    price = {"input": "3 USD", "output": "15 USD"}
    sandbox.limits(
        anthropic={"prices": {"claude-of-tomorrow": {"input": 3_000, "output": 15_000, "cache_read": 3_000}}}
    )
    config: longwatch.Config = {"service": {"anthropic": {"model": {"claude-of-*": {"price": {**price}}}}}}
    with longwatch.open(":memory:", config=config) as lw:
        lw.wrap(claude(sandbox)).messages.create(model="claude-of-tomorrow", max_tokens=100, messages=HELLO)
        assert spent(lw) == sandbox.bill()["anthropic"]["micros"] > 0


def test_a_typo_is_refused_with_the_nearest_name(lw: Longwatch, sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="did you mean research"):
        lw.wrap(claude(sandbox), budget="reserch")
    with pytest.raises(ConfigError, match="did you mean anthropic"):
        lw.wrap(claude(sandbox), service="antropic")
    with pytest.raises(ConfigError, match="cannot be wrapped"):
        lw.wrap(object())
    with pytest.raises(ConfigError, match="the module anthropic"):
        lw.wrap(anthropic)


def test_what_costs_nothing_holds_nothing(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="tiny")
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO)
    assert counted.input_tokens > 0
    assert ends(lw) == ["settled 0"]


def test_an_answer_that_it_did_nothing_is_tried_again_and_costs_nothing(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="status", status=529, retry_after_s=0, count=2)])
    client = lw.wrap(claude(sandbox), budget="research")
    client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert [end.split()[0] for end in ends(lw)] == ["settled"] * 3
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"]


def test_the_error_of_the_last_try_is_the_librarys_own(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="status", status=529, retry_after_s=0)])
    with pytest.raises(anthropic.APIStatusError) as found:
        lw.wrap(claude(sandbox, retries=1), wait="4s").messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert found.value.status_code == 529
    assert sandbox.counts()["anthropic"]["requests"] == 2, "after 1 s and 7 s it is asked whether it answers again"
    assert spent(lw) == 0


def test_a_spend_cap_is_not_tried_again(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"spend_cap_micros": 0})
    with pytest.raises(anthropic.RateLimitError):
        lw.wrap(claude(sandbox)).messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert sandbox.counts()["anthropic"]["requests"] == 1


def test_a_wait_that_is_too_long_is_the_callers_to_decide(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="status", status=429, retry_after_s=3600)])
    began = time.monotonic()
    with pytest.raises(anthropic.RateLimitError):
        lw.wrap(claude(sandbox)).messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert time.monotonic() - began < 60


def test_an_answer_that_was_lost_is_charged_at_its_hold_and_not_asked_for_again(
    lw: Longwatch, sandbox: Sandbox
) -> None:
    sandbox.faults([Fault(service="anthropic", kind="drop_reply")])
    client = lw.wrap(claude(sandbox), budget="research")
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert sandbox.counts()["anthropic"]["requests"] == 1
    (end,) = ends(lw)
    kind, charged = end.split()
    assert kind == "unknown"
    assert int(charged) >= sandbox.bill()["anthropic"]["micros"] > 0


def test_what_was_never_sent_is_free_and_tried_again(lw: Longwatch) -> None:
    client = lw.wrap(
        anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="key", max_retries=1), budget="research"
    )
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert ends(lw) == ["released 0", "released 0"]


def test_a_stream_that_is_closed_early_is_charged_at_its_hold(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="research")
    with client.messages.create(model=MODEL, max_tokens=100, messages=HELLO, stream=True) as stream:
        next(iter(stream))
    (end,) = ends(lw)
    assert end.startswith("unknown")
    assert int(end.split()[1]) >= sandbox.bill()["anthropic"]["micros"]


def test_everything_that_is_sent_is_held(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="drop_reply")])
    client, long = lw.wrap(claude(sandbox), retries=0), "word " * 30_000
    many: Any = (message for message in [{"role": "user", "content": long}])
    asks: list[dict[str, Any]] = [
        {"messages": many},
        {"messages": HELLO, "extra_body": {"system": long, "max_tokens": 4_000}},
    ]
    for asked in asks:
        before = sandbox.bill().get("anthropic", {}).get("micros", 0)
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.create(model=MODEL, max_tokens=100, **asked)
        kind, charged = ends(lw)[-1].split()
        assert kind == "unknown"
        assert int(charged) >= sandbox.bill()["anthropic"]["micros"] - before > 30_000


def test_an_answer_that_came_is_settled_by_it_whatever_is_made_of_it(lw: Longwatch, sandbox: Sandbox) -> None:
    class Shape(pydantic.BaseModel):
        never: int

    with pytest.raises(pydantic.ValidationError):
        lw.wrap(claude(sandbox)).messages.parse(model=MODEL, max_tokens=100, messages=HELLO, output_format=Shape)
    ask: Any = [{"role": "user", "content": "hello"}]
    with pytest.raises(pydantic.ValidationError):
        lw.wrap(gpt(sandbox)).chat.completions.parse(
            model="gpt-4o-mini", max_tokens=100, messages=ask, response_format=Shape
        )
    assert spent(lw) == sandbox.bill()["anthropic"]["micros"] + sandbox.bill()["openai"]["micros"]


def test_a_stream_that_nobody_has_any_more_is_charged_at_once(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(claude(sandbox), budget="research")
    stream = client.messages.create(model=MODEL, max_tokens=100, messages=HELLO, stream=True)
    next(iter(stream))
    del stream
    gc.collect()
    lw.opened.parts.calls.owed.pay()
    assert ends(lw)[0].startswith("unknown")


def test_a_raw_response_that_was_read_as_a_stream_has_ended(lw: Longwatch, sandbox: Sandbox) -> None:
    client, kept = lw.wrap(gpt(sandbox)), list[Any]()
    ask: Any = [{"role": "user", "content": "hello"}]
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=ask, max_tokens=50, stream=True, stream_options={"include_usage": True}
        )
        stream = raw.parse()
        kept.append(raw)
        if len(kept) == 1:
            list(stream)
        else:
            next(stream)
            stream.close()
    assert [end.split()[0] for end in ends(lw)] == ["settled", "unknown"]


def test_what_a_finished_answer_tells_again_is_not_paid_again(lw: Longwatch, sandbox: Sandbox) -> None:
    class Later:
        def __init__(self, **_: object) -> None: ...

        usage: ClassVar[dict[str, int]] = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}

    client = lw.wrap(claude(sandbox))
    loose: Any = client
    loose._process_response = Later
    assert isinstance(client.messages.count_tokens(model=MODEL, messages=HELLO), Later)
    assert ends(lw) == ["settled 0"]


def test_a_service_of_somebody_else_has_to_have_a_price(sandbox: Sandbox) -> None:
    config: longwatch.Config = {"service": {"llama": {"rate": "100/s"}}}
    with longwatch.open(":memory:", config=config) as lw:
        with pytest.raises(UnknownPrice, match="llama"):
            lw.wrap(gpt(sandbox), service="llama")
        lw.wrap(gpt(sandbox), service="llama", money="0 USD")


def test_a_request_that_is_cancelled_holds_nothing_open(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="anthropic", kind="latency", latency_ms=5_000)])

    async def program() -> None:
        client = lw.wrap(aclaude(sandbox), budget="research")
        asking = asyncio.ensure_future(client.messages.create(model=MODEL, max_tokens=100, messages=HELLO))
        await asyncio.sleep(1.0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(program())
    assert lw.opened.parts.calls.limiter.open_calls() == []
    assert ends(lw)[0].startswith("unknown")


@pytest.mark.slow
@pytest.mark.alone  # a loop that is kept from its processor sends later than any headroom allows for
def test_rates_hold_over_wrapped_clients(lw: Longwatch, sandbox: Sandbox) -> None:
    """Of a hard limit that each client by itself would run into."""
    sandbox.limits(anthropic={"requests": {"amount": 40, "per_ms": 1_000, "burst": 10}})
    config = {"service": {"anthropic": {"rate": "40/s", "burst": 10}}}
    with longwatch.open(":memory:", config=config) as paced:

        async def program() -> None:
            client = paced.wrap(aclaude(sandbox), retries=0)
            asks = (client.messages.create(model=MODEL, max_tokens=10, messages=HELLO) for _ in range(60))
            await asyncio.gather(*asks)

        asyncio.run(program())
    assert sandbox.counts()["anthropic"]["statuses"] == {"200": 60}
