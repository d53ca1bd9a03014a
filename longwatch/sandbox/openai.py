"""OpenAI's chat completions, with and without a stream.

Two buckets, requests and tokens (prompt and completion together); a request that is refused still counts as one. Resets are
durations such as `6m0s`. Streams end with `[DONE]`, after a chunk of usage when `stream_options.include_usage` asks for it.
Paths are served with and without /v1, because clients differ in what they call a base URL.
"""

from typing import Any, NamedTuple

import msgspec

from longwatch.sandbox import answers, prices
from longwatch.sandbox.answers import Cut, Message
from longwatch.sandbox.effects import Effects
from longwatch.sandbox.exchange import Headers, Instant, Reply, Request, Work, encode, json_reply, stream_reply
from longwatch.sandbox.quota import NS_PER_MS, Need, Rate, Short, admit, buckets
from longwatch.sandbox.settings import OpenAI as Settings
from longwatch.sandbox.tally import Account

PIECE_CHARACTERS = 24
CREATE = "POST /v1/chat/completions"
UNITS = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}

Error = tuple[str, str | None]
ERRORS: dict[int, Error] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class Call(msgspec.Struct, frozen=True):
    """The body of a request, as far as it matters here."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class Plan(NamedTuple):
    """An admitted call: everything that its reply depends on."""

    call: Call
    key: str
    digest: str
    said: Cut
    usage: prices.Usage
    cost_micros: int


class OpenAI:
    """One organization with all its keys."""

    def __init__(self, settings: Settings, account: Account, effects: Effects, now: Instant) -> None:
        self.settings = settings
        self._account = account
        self._effects = effects
        self._numbered = 0
        self._buckets = buckets(_rates(settings), {}, now.ns)

    def change(self, settings: Settings, now: Instant) -> None:
        self.settings = settings
        self._buckets = buckets(_rates(settings), self._buckets, now.ns)

    def endpoint(self, method: str, path: str) -> str:
        return f"{method} {path if path.startswith('/v1/') else '/v1' + path}"

    def error(self, status: int, *, retry_after_s: int) -> Reply:
        return self._error(status, "Rate limit reached" if status == 429 else "The server had an error")

    def admit(self, request: Request, now: Instant) -> Reply | Work:
        key = request.bearer()
        if not key:
            return self._error(401, "You didn't provide an API key.")
        if self.endpoint(request.method, request.path) != CREATE:
            return self._error(404, f"Invalid URL ({request.method} {request.path})")
        try:
            call = msgspec.json.decode(request.body, type=Call)
        except msgspec.DecodeError as error:
            return self._error(400, str(error))
        price = prices.find(call.model, self.settings.prices, prices.OPENAI)
        if price is None:
            return self._error(404, f"The model `{call.model}` does not exist or you do not have access to it.")
        plan = _plan(call, key, price)
        return self._refusal(plan, request, now) or (lambda at, instead: instead or self._answer(plan, at))

    def _refusal(self, plan: Plan, request: Request, now: Instant) -> Reply | None:
        concurrency = self.settings.concurrency
        if concurrency is not None and request.others >= concurrency:
            return self._error(429, "Too many concurrent requests.")
        takes = {"requests": 1, "tokens": plan.usage.prompt + plan.usage.output}
        short = admit([Need(name, bucket, takes[name]) for name, bucket in self._buckets.items()], now.ns)
        if short is None:
            return None
        if "requests" in self._buckets:
            self._buckets["requests"].take(1, now.ns)
        return self._error(429, _limit_message(plan.call.model, short), self._limits(now), kind=short.need.name)

    def _answer(self, plan: Plan, now: Instant) -> Reply:
        self._account.charge(plan.key, plan.call.model, plan.cost_micros)
        self._effects.answered("openai", plan.call.model, plan.digest)
        self._numbered += 1
        created = now.epoch_ms // 1_000
        identity = f"chatcmpl-{self._numbered:024d}"
        headers = [self._request_id(), *self._limits(now)]
        if plan.call.stream:
            events, chunk_ms = _events(plan, identity, created), self.settings.chunk_ms
            return stream_reply(events, headers, chunk_ms=chunk_ms, cost_micros=plan.cost_micros)
        return json_reply(200, _completion(plan, identity, created), headers, cost_micros=plan.cost_micros)

    def _limits(self, now: Instant) -> Headers:
        headers: Headers = []
        for name, bucket in self._buckets.items():
            values = {
                "limit": str(bucket.rate.amount),
                "remaining": str(bucket.remaining(now.ns)),
                "reset": duration(bucket.full_ns(now.ns)),
            }
            headers += [(f"x-ratelimit-{field}-{name}".encode(), value.encode()) for field, value in values.items()]
        return headers

    def _error(self, status: int, message: str, headers: Headers | None = None, *, kind: str = "") -> Reply:
        default, code = ERRORS.get(status, ("server_error", None))
        error = {"message": message, "type": kind or default, "param": None, "code": code}
        return json_reply(status, {"error": error}, [self._request_id(), *(headers or [])])

    def _request_id(self) -> tuple[bytes, bytes]:
        self._numbered += 1
        return (b"x-request-id", b"req_%032d" % self._numbered)


def duration(ns: int) -> str:
    """A wait as OpenAI writes it: 12ms, 1.5s, 6m0s, 1h0m0s."""
    ms = -(-ns // NS_PER_MS)
    if ms < 1_000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{ms / 1_000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}" if minutes else seconds


def _rates(settings: Settings) -> dict[str, Rate | None]:
    return {"requests": settings.requests, "tokens": settings.tokens}


def _plan(call: Call, key: str, price: prices.Price) -> Plan:
    prompt = answers.flatten(call.messages)
    limit = call.max_completion_tokens or call.max_tokens
    said = answers.cut(answers.answer(prompt), max_tokens=limit, stops=call.stops())
    usage = prices.Usage(answers.tokens(prompt.characters), 0, 0, 0, max(1, answers.tokens(len(said.text))))
    return Plan(call, key, prompt.digest, said, usage, prices.cost_micros(price, usage))


def _limit_message(model: str, short: Short) -> str:
    rate = short.need.bucket.rate
    wait = "later" if short.wait_ns is None else f"in {duration(short.wait_ns)}"
    figures = f"Limit {rate.amount}, Requested {short.need.units}"
    return f"Rate limit reached for {model} on {UNITS[short.need.name]}: {figures}. Please try again {wait}."


def _usage(usage: prices.Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _completion(plan: Plan, identity: str, created: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": plan.said.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[plan.said.reason]}
    return {
        "id": identity,
        "object": "chat.completion",
        "created": created,
        "model": plan.call.model,
        "choices": [choice],
        "usage": _usage(plan.usage),
        "service_tier": "default",
    }


def _events(plan: Plan, identity: str, created: int) -> list[bytes]:
    """A whole answer as the chunks of a stream."""
    frame: dict[str, Any] = {
        "id": identity,
        "object": "chat.completion.chunk",
        "created": created,
        "model": plan.call.model,
    }
    text = plan.said.text
    pieces = [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    chunks = [{**frame, "choices": [_choice(delta, None)]} for delta in deltas]
    chunks.append({**frame, "choices": [_choice({}, FINISH[plan.said.reason])]})
    if plan.call.stream_options and plan.call.stream_options.include_usage:
        chunks.append({**frame, "choices": [], "usage": _usage(plan.usage)})
    return [*(b"data: %s\n\n" % encode(chunk) for chunk in chunks), b"data: [DONE]\n\n"]


def _choice(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
