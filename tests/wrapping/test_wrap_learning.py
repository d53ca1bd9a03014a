"""Wrapped clients hear what answers say of limits; no program has to tell."""

import asyncio
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import longwatch
from longwatch import Longwatch, WaitTimeout
from longwatch.policy.learning import Learned
from longwatch.sandbox import Sandbox

MODEL = "claude-haiku-4-5"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def state(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


@pytest.fixture
def bare(state: str) -> Iterator[Longwatch]:
    """A fleet that has no limits configured."""
    with longwatch.open(state, config={"fleet": {"name": "shop"}}, agent="main") as opened:
        yield opened


def learned(lw: Longwatch) -> dict[tuple[str, str, str], Learned]:
    return {each.key: each for each in lw.opened.parts.calls.limiter.learned.all()}


def claude(sandbox: Sandbox) -> Any:
    return anthropic.Anthropic(api_key="sk-ant-sandbox", base_url=sandbox.base_urls["anthropic"])


@pytest.mark.parametrize("way", ["parsed", "raw", "stream", "streamed raw"])
def test_what_an_answer_of_anthropic_says_is_a_rate_from_the_next_call_on(
    bare: Longwatch, sandbox: Sandbox, way: str
) -> None:
    client, asked = bare.wrap(claude(sandbox)), {"model": MODEL, "max_tokens": 9, "messages": HELLO}
    match way:
        case "parsed":
            client.messages.create(**asked)
        case "raw":
            client.messages.with_raw_response.create(**asked).parse()
        case "stream":
            for _ in client.messages.create(**asked, stream=True):
                pass
        case _:
            with client.messages.with_streaming_response.create(**asked) as answer:
                answer.read()
    found = learned(bare)["anthropic", MODEL, "requests"]
    assert (found.source, found.amount, found.per_ms, found.burst) == ("published", 4_000, 60_000, 66)
    assert "anthropic-ratelimit-requests-limit: 4000" in found.evidence
    limiter = bare.opened.parts.calls.limiter
    names = {gauge.meter for gauge in limiter.scope("anthropic", MODEL, None, "main").scope.rates}
    assert names == {f"anthropic/{MODEL}/{each}" for each in ("requests", "input_tokens", "output_tokens")}
    (entry,) = [e for e in bare.opened.parts.journal.latest(kind="limit.") if e.subject.endswith("/requests")]
    assert (entry.kind, entry.data["rate"], entry.data["before"]) == ("limit.learned", 4_000, None)


def test_a_refusal_says_it_too_and_so_do_async_clients(bare: Longwatch, sandbox: Sandbox) -> None:
    sandbox.limits(anthropic={"requests": {"amount": 20, "per_ms": 60_000, "burst": 1}})

    async def twice() -> None:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=sandbox.base_urls["anthropic"]) as client:
            await bare.wrap(client).messages.create(model=MODEL, max_tokens=9, messages=HELLO)

    claude(sandbox).messages.create(model=MODEL, max_tokens=9, messages=HELLO)  # somebody else, with the same key
    client = bare.wrap(claude(sandbox), wait="1s")
    with pytest.raises((anthropic.RateLimitError, WaitTimeout)):
        client.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
    assert learned(bare)["anthropic", MODEL, "requests"].amount == 20
    sandbox.limits(anthropic={"requests": {"amount": 900, "per_ms": 60_000}})
    bare.opened.parts.calls.limiter.gates.resume("anthropic")
    asyncio.run(twice())
    assert learned(bare)["anthropic", MODEL, "requests"].amount == 20, "a faster one is not believed at once"


def test_openai_and_its_tokens(bare: Longwatch, sandbox: Sandbox) -> None:
    client = bare.wrap(openai.OpenAI(api_key="sk-sandbox", base_url=sandbox.base_urls["openai"] + "/v1"))
    client.chat.completions.create(model="gpt-4o-mini", max_tokens=9, messages=HELLO)
    found = learned(bare)
    assert found["openai", "gpt-4o-mini", "requests"].amount == 10_000
    assert found["openai", "gpt-4o-mini", "input_tokens"].amount == 2_000_000


@pytest.fixture(scope="module")
def github() -> Any:
    gc.disable()
    try:
        return importlib.import_module("githubkit")
    finally:
        gc.enable()


def test_what_others_leave_of_githubs_hour_is_believed_until_its_reset(
    bare: Longwatch, state: str, sandbox: Sandbox, github: Any
) -> None:
    sandbox.limits(github={"primary": {"amount": 60, "per_ms": 3_600_000}})
    plain = github.GitHub("token", base_url=sandbox.base_urls["github"], http_cache=False)
    for _ in range(57):  # somebody else with the same token, whom nobody here has counted
        plain.request("GET", "/repos/acme/shop/issues")
    client = bare.wrap(plain, wait="300ms", retries=0)
    client.request("GET", "/repos/acme/shop/issues")
    client.request("GET", "/repos/acme/shop/issues")
    client.request("GET", "/repos/acme/shop/issues")
    with pytest.raises(WaitTimeout):
        client.request("GET", "/repos/acme/shop/issues")
    assert set(sandbox.counts()["github"]["statuses"]) == {"200"}, "it knew that nothing remains before it asked"
    ran = subprocess.run(
        [sys.executable, "-m", "longwatch", "limit", "list", "--json"],
        env={**os.environ, "LONGWATCH_STATE": state},
        cwd=Path(state).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = [row for row in json.loads(ran.stdout)["limits"] if row["service"] == "github"]
    assert (row["rate"], row["origin"], row["learned"]["source"]) == ("60/h", "learned", "published")
    assert row["learned"]["dimension"] == "quota"
    assert "remaining: 2" in row["learned"]["evidence"]
