"""The official anthropic SDK, unmodified, against the stand-in."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, TextBlockParam, ToolParam

from longwatch.sandbox import Sandbox, expected_answer, prompt_digest

MODEL = "claude-haiku-4-5"
HELLO: list[MessageParam] = [{"role": "user", "content": "hello"}]
ANSWER = expected_answer([{"role": "user", "content": "hello"}])
BODY = {"model": MODEL, "max_tokens": 100, "messages": HELLO}
EVENTS = [
    "message_start",
    "content_block_start",
    "ping",
    "content_block_delta",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


def client(sandbox: Sandbox, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key", max_retries=retries)


def test_a_message_is_answered_counted_and_billed(sandbox: Sandbox) -> None:
    message = client(sandbox).messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    block = message.content[0]
    assert block.type == "text"
    assert (block.text, message.stop_reason) == (ANSWER, "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, len(ANSWER) // 4)
    assert sandbox.counts()["anthropic"]["endpoints"] == {"POST /v1/messages": {"200": 1}}
    assert sandbox.bill()["anthropic"] == {
        "currency": "USD",
        "micros": 3 + 5 * 10,
        "keys": {"key": 53},
        "models": {MODEL: 53},
    }


def test_a_stream_says_the_same_as_a_message(sandbox: Sandbox) -> None:
    with client(sandbox).messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert (text, final.stop_reason, final.usage.output_tokens) == (ANSWER, "end_turn", 10)
    assert sandbox.bill()["anthropic"]["micros"] == 53


def test_a_tool_runner_uses_the_tools_that_were_asked_for_one_after_the_other(sandbox: Sandbox) -> None:
    """It asks for a thread first, is told that there is none, and sends the whole conversation then."""
    heard = list[str]()

    @anthropic.beta_tool
    def say(word: str) -> str:
        """Say a word."""
        heard.append(word)
        return "said"

    script = 'use tool say with {"word": "one"}, then use tool say with {"word": "two"}'
    runner = client(sandbox).beta.messages.tool_runner(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": script}], tools=[say]
    )
    assert (runner.until_done().stop_reason, heard) == ("end_turn", ["one", "two"])
    answers = sandbox.counts()["anthropic"]["endpoints"]["POST /v1/messages"]
    assert (answers["200"], answers["400"]) == (3, 1)


def test_a_stream_sends_the_documented_events(sandbox: Sandbox, http: httpx.Client) -> None:
    reply = http.post("/anthropic/v1/messages?beta=true", json={**BODY, "stream": True})
    names = [line.removeprefix("event: ") for line in reply.text.splitlines() if line.startswith("event: ")]
    assert names == EVENTS
    assert reply.headers["content-type"].startswith("text/event-stream")


def test_the_async_client_works_with_and_without_a_stream(sandbox: Sandbox) -> None:
    async def both() -> tuple[str, str]:
        url = sandbox.base_urls["anthropic"]
        async with anthropic.AsyncAnthropic(base_url=url, auth_token="bearer", max_retries=0) as asynchronous:
            message = await asynchronous.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
            async with asynchronous.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
                streamed = await stream.get_final_text()
        block = message.content[0]
        return block.text if block.type == "text" else "", streamed

    assert asyncio.run(both()) == (ANSWER, ANSWER)
    assert sandbox.bill()["anthropic"]["keys"] == {"bearer": 106}


def test_tokens_are_counted_without_a_bill(sandbox: Sandbox) -> None:
    count = client(sandbox).messages.count_tokens(model=MODEL, messages=HELLO, system="x" * 400)
    assert count.input_tokens == -(-(400 + len("system: ") + len("user: hello")) // 4)
    assert sandbox.bill()["anthropic"]["micros"] == 0


def test_counting_has_a_rate_of_its_own_and_knows_no_unknown_model(sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"counts": {"amount": 1, "per_ms": 3_600_000}})
    counter = client(sandbox)
    counter.messages.count_tokens(model=MODEL, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError):
        counter.messages.count_tokens(model=MODEL, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError):
        counter.messages.count_tokens(model="claude-of-nowhere", messages=HELLO)
    counter.messages.create(model=MODEL, max_tokens=10, messages=HELLO)


def test_max_tokens_cuts_the_answer_and_says_so(sandbox: Sandbox) -> None:
    message = client(sandbox).messages.create(model=MODEL, max_tokens=2, messages=HELLO)
    block = message.content[0]
    assert block.type == "text"
    assert (block.text, message.stop_reason, message.usage.output_tokens) == (ANSWER[:8], "max_tokens", 2)


def test_a_tool_is_used_when_the_user_asks_for_it(sandbox: Sandbox) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "days", "unit"],
    }
    tools: list[ToolParam] = [{"name": "weather", "description": "tells it", "input_schema": schema}]
    asked: list[MessageParam] = [{"role": "user", "content": "Please use tool weather now."}]
    message = client(sandbox).messages.create(model=MODEL, max_tokens=100, messages=asked, tools=tools)
    digest = prompt_digest([{"role": "user", "content": "Please use tool weather now."}])
    block = message.content[0]
    assert block.type == "tool_use"
    assert (block.name, message.stop_reason) == ("weather", "tool_use")
    assert block.input == {"city": f"sandbox {digest[:12]}", "days": 0, "unit": "C"}
    given: list[MessageParam] = [{"role": "user", "content": 'use tool weather with {"city": {"name": "Bonn"}} today'}]
    with client(sandbox).messages.stream(model=MODEL, max_tokens=100, messages=given, tools=tools) as stream:
        block = stream.get_final_message().content[0]
    assert block.type == "tool_use"
    assert block.input == {"city": {"name": "Bonn"}}
    plain = client(sandbox).messages.create(model=MODEL, max_tokens=100, messages=HELLO, tools=tools)
    assert plain.content[0].type == "text"


def test_a_cached_prefix_is_written_once_and_then_read(sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"input_tokens": {"amount": 3_000, "per_ms": 3_600_000}})
    system: list[TextBlockParam] = [{"type": "text", "text": "x" * 8_000, "cache_control": {"type": "ephemeral"}}]
    usages = [
        client(sandbox).messages.create(model=MODEL, max_tokens=9, messages=HELLO, system=system).usage
        for _ in range(2)
    ]
    prefix = -(-(8_000 + len("system: ")) // 4)
    seen = [(u.cache_creation_input_tokens, u.cache_read_input_tokens, u.input_tokens) for u in usages]
    assert seen == [(prefix, 0, 3), (0, prefix, 3)]
    first = -(-(5 * prefix + 4 * 3 + 4 * 9 * 5) // 4)
    second = -(-(prefix * 100 + 3 * 1_000 + 9 * 5_000) // 1_000)
    assert sandbox.bill()["anthropic"]["micros"] == first + second


def test_a_short_prefix_is_not_cached(sandbox: Sandbox) -> None:
    system: list[TextBlockParam] = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    usage = client(sandbox).messages.create(model=MODEL, max_tokens=9, messages=HELLO, system=system).usage
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (0, 0)


def test_requests_beyond_the_burst_are_refused_and_told_when_to_return(sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"requests": {"amount": 60, "per_ms": 3_600_000, "burst": 3}})
    create = client(sandbox).messages.create
    for _ in range(3):
        create(model=MODEL, max_tokens=9, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError) as refusal:
        create(model=MODEL, max_tokens=9, messages=HELLO)
    headers = refusal.value.response.headers
    assert 55 <= int(headers["retry-after"]) <= 60
    assert (headers["anthropic-ratelimit-requests-limit"], headers["anthropic-ratelimit-requests-remaining"]) == (
        "60",
        "0",
    )
    reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert 170 <= (reset - datetime.now(UTC)).total_seconds() <= 182
    assert refusal.value.body == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "This request would exceed your organization's rate limit of 60 requests per minute.",
        },
        "request_id": headers["request-id"],
    }
    assert sandbox.counts()["anthropic"]["statuses"] == {"200": 3, "429": 1}


@pytest.mark.parametrize("dimension", ["input_tokens", "output_tokens"])
def test_tokens_are_limited_in_each_direction(sandbox: Sandbox, dimension: str) -> None:
    sandbox.limits(anthropic={dimension: {"amount": 12, "per_ms": 3_600_000}})
    create = client(sandbox).messages.create
    statuses = list[int]()
    for _ in range(5):
        try:
            create(model=MODEL, max_tokens=3, messages=HELLO)
            statuses.append(200)
        except anthropic.RateLimitError as refusal:
            statuses.append(refusal.status_code)
    assert statuses == [200, 200, 200, 200, 429]


def test_token_headers_are_rounded_to_a_thousand(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(anthropic={"input_tokens": {"amount": 10_000, "per_ms": 3_600_000}})
    big = {**BODY, "messages": [{"role": "user", "content": "x" * 9_600}]}
    headers = http.post("/anthropic/v1/messages", json=big).headers
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "8000"
    assert headers["anthropic-ratelimit-tokens-limit"] == "410000"
    assert headers["anthropic-ratelimit-output-tokens-limit"] == "400000"


def test_a_spend_cap_refuses_without_retry_after(sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"spend_cap_micros": 60})
    create = client(sandbox).messages.create
    for _ in range(2):
        create(model=MODEL, max_tokens=100, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError) as refusal:
        create(model=MODEL, max_tokens=100, messages=HELLO)
    assert "retry-after" not in refusal.value.response.headers
    assert sandbox.bill()["anthropic"]["micros"] == 106


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"model": "gpt-4o"}, 404, "not_found_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": "hello"}, 400, "invalid_request_error"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error"),
    ],
)
def test_a_wrong_request_is_refused_and_not_billed(
    sandbox: Sandbox, http: httpx.Client, change: dict[str, Any], status: int, kind: str
) -> None:
    reply = http.post("/anthropic/v1/messages", json={**BODY, **change})
    assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
    assert sandbox.bill()["anthropic"]["micros"] == 0


def test_a_request_without_a_key_is_refused(sandbox: Sandbox) -> None:
    reply = httpx.post(f"{sandbox.base_urls['anthropic']}/v1/messages", json=BODY, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["type"]) == (401, "authentication_error")


def test_a_model_can_be_given_a_price_of_its_own(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(anthropic={"prices": {"claude-next": {"input": 1_000_000, "output": 0, "cache_read": 0}}})
    http.post("/anthropic/v1/messages", json={**BODY, "model": "claude-next-1"})
    assert sandbox.bill()["anthropic"]["models"] == {"claude-next-1": 3_000}


def test_effects_tell_how_often_a_prompt_was_answered(sandbox: Sandbox) -> None:
    for _ in range(2):
        client(sandbox).messages.create(model=MODEL, max_tokens=9, messages=HELLO)
    digest = prompt_digest([{"role": "user", "content": "hello"}])
    assert sandbox.effects()["answers"] == [{"service": "anthropic", "model": MODEL, "sha256": digest, "count": 2}]


def test_a_tool_is_used_with_what_the_settings_say(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(anthropic={"tools": {"lookup": {"city": "Paris"}}})
    body = {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"name": "lookup", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "lookup"},
    }
    url = f"{sandbox.base_urls['anthropic']}/v1/messages"
    assert http.post(url, json=body).json()["content"][0]["input"] == {"city": "Paris"}
    body["messages"] = [{"role": "user", "content": 'use tool lookup with {"city": "Rome"}'}]
    assert http.post(url, json=body).json()["content"][0]["input"] == {"city": "Rome"}
