"""The official openai SDK, unmodified, against the stand-in."""

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from longwatch.sandbox import Sandbox, expected_answer
from longwatch.sandbox.openai import duration

MODEL = "gpt-4o-mini"
HELLO: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello"},
]
ANSWER = expected_answer([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}])
PROMPT = -(-len("system: Be brief." + "user: hello") // 4)


def client(sandbox: Sandbox) -> openai.OpenAI:
    return openai.OpenAI(base_url=sandbox.env()["OPENAI_BASE_URL"], api_key="key", max_retries=0)


def test_a_completion_is_answered_and_billed(sandbox: Sandbox) -> None:
    completion = client(sandbox).chat.completions.create(model=MODEL, messages=HELLO)
    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (PROMPT, 10)
    assert sandbox.bill()["openai"]["micros"] == -(-(PROMPT * 150 + 10 * 600) // 1_000)


def test_a_stream_says_the_same_and_ends_with_its_usage(sandbox: Sandbox) -> None:
    stream = client(sandbox).chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    assert (text, usage.total_tokens, chunks[-1].choices) == (ANSWER, PROMPT + 10, [])


def test_max_tokens_ends_a_completion_by_length(sandbox: Sandbox) -> None:
    choice = client(sandbox).chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).choices[0]
    assert (choice.message.content, choice.finish_reason) == (ANSWER[:8], "length")


def test_limits_come_as_durations(sandbox: Sandbox) -> None:
    sandbox.limits(openai={"requests": {"amount": 10, "per_ms": 3_600_000}})
    reply = client(sandbox).chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert reply.headers["x-ratelimit-limit-requests"] == "10"
    assert reply.headers["x-ratelimit-remaining-requests"] == "9"
    assert reply.headers["x-ratelimit-reset-requests"].startswith(("6m0s", "5m59."))
    assert int(reply.headers["x-ratelimit-remaining-tokens"]) <= 2_000_000


def test_a_refused_request_counts_as_one(sandbox: Sandbox) -> None:
    sandbox.limits(
        openai={"requests": {"amount": 3, "per_ms": 3_600_000}, "tokens": {"amount": 1, "per_ms": 3_600_000}}
    )
    kinds = list[str | None]()
    for _ in range(4):
        with pytest.raises(openai.RateLimitError) as refusal:
            client(sandbox).chat.completions.create(model=MODEL, messages=HELLO)
        kinds.append(refusal.value.type)
        assert refusal.value.code == "rate_limit_exceeded"
    assert kinds == ["tokens", "tokens", "tokens", "tokens"]
    sandbox.limits(openai={"tokens": None})
    with pytest.raises(openai.RateLimitError) as refusal:
        client(sandbox).chat.completions.create(model=MODEL, messages=HELLO)
    assert refusal.value.type == "requests"
    assert refusal.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_version_may_be_left_out_of_the_path(sandbox: Sandbox, http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": HELLO}
    assert http.post("/openai/chat/completions", json=body).status_code == 200
    assert http.post("/openai/v1/chat/completions", json={**body, "model": "none"}).status_code == 404
    assert sandbox.counts()["openai"]["endpoints"] == {"POST /v1/chat/completions": {"200": 1, "404": 1}}


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (12, "12ms"), (1_500, "1.5s"), (20_000, "20s"), (360_000, "6m0s"), (3_723_000, "1h2m3s")],
)
def test_a_duration_is_written_as_the_headers_do(ms: int, text: str) -> None:
    assert duration(ms * 1_000_000) == text
