"""Anthropic's Messages API: /v1/messages, with and without a stream, /v1/messages/count_tokens, and batches (batches.py).

Three buckets (requests, input tokens without cache reads, output tokens as they come, not `max_tokens`); a call takes of all
or of none and is refused with a 429 that says in `retry-after` when it would fit. Once the bill has reached
`spend_cap_micros` every call is a 429 without retry-after. Streams send the documented events, a ping among them. No
conversation is stored: a request for a thread is a 400 that says so.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from longwatch.sandbox import answers, prices
from longwatch.sandbox.answers import Block, CacheControl, Message, Part, Prompt, ToolUse
from longwatch.sandbox.anthropic_headers import limit_headers
from longwatch.sandbox.batches import BATCHES, Answered, Batches
from longwatch.sandbox.effects import Effects
from longwatch.sandbox.exchange import (
    Headers,
    Instant,
    Reply,
    Request,
    Work,
    encode,
    json_reply,
    sse,
    stream_reply,
)
from longwatch.sandbox.promptcache import PromptCache, Split
from longwatch.sandbox.quota import Need, Rate, admit, buckets, seconds
from longwatch.sandbox.settings import Anthropic as Settings
from longwatch.sandbox.tally import Account

PIECE_CHARACTERS = 24

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
MESSAGES = {429: "This request would exceed the rate limit of your organization.", 529: "Overloaded"}

UNTHREADED = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
"""What the SDK's tool runner is told that wants the conversation kept: it sends the whole of it then, as it does elsewhere."""

COUNT_TOKENS = "POST /v1/messages/count_tokens"
CREATE = "POST /v1/messages"


class Tool(msgspec.Struct, frozen=True):
    name: str
    description: str = ""
    input_schema: msgspec.Raw = msgspec.Raw(b"{}")
    cache_control: CacheControl | None = None

    def part(self) -> Part:
        return Part(f"{self.name}: {self.description}{bytes(self.input_schema).decode()}", self.cache_control)


class ToolChoice(msgspec.Struct, frozen=True):
    type: str = "auto"
    name: str | None = None


class Call(msgspec.Struct, frozen=True):
    """The body of a request, as far as it matters here."""

    model: str
    messages: list[Message]
    max_tokens: int = 0
    system: str | list[Block] | None = None
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    stop_sequences: list[str] | None = None
    stream: bool = False
    cache_control: CacheControl | None = None
    thread: msgspec.Raw = msgspec.Raw()

    def parts(self, prompt: Prompt) -> list[Part]:
        """Tools, system, messages: the order in which a prompt is cached."""
        parts = [*(tool.part() for tool in self.tools), *prompt.parts]
        if self.cache_control is not None:
            parts[-1] = Part(parts[-1].text, self.cache_control)
        return parts


class Said(NamedTuple):
    """The one content block of an answer, and why it ended."""

    text: str
    tool: ToolUse | None
    reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    sequence: str | None

    @property
    def characters(self) -> int:
        return len(encode(self.tool.input)) + len(self.tool.name) if self.tool else len(self.text)


class Plan(NamedTuple):
    """An admitted call: everything that its reply depends on."""

    call: Call
    key: str
    digest: str
    said: Said
    split: Split
    usage: prices.Usage
    cost_micros: int


class Anthropic:
    """One organization with all its keys."""

    def __init__(self, settings: Settings, account: Account, effects: Effects, now: Instant) -> None:
        self.settings = settings
        self._account = account
        self._effects = effects
        self._cache = PromptCache()
        self._numbered = 0
        self._batches = Batches(self._answered, self._error, self.capped)
        self._buckets = buckets(_rates(settings), {}, now.ns)
        self._counts = buckets({"requests": settings.counts}, {}, now.ns)

    def change(self, settings: Settings, now: Instant) -> None:
        self.settings = settings
        self._buckets = buckets(_rates(settings), self._buckets, now.ns)
        self._counts = buckets({"requests": settings.counts}, self._counts, now.ns)

    def endpoint(self, method: str, path: str) -> str:
        return self._batches.endpoint(method, path) if path.startswith(BATCHES) else f"{method} {path}"

    def error(self, status: int, *, retry_after_s: int) -> Reply:
        headers: Headers = [(b"retry-after", b"%d" % retry_after_s)] if status == 429 else []
        return self._error(status, MESSAGES.get(status, "Internal server error"), headers)

    def admit(self, request: Request, now: Instant) -> Reply | Work:
        key = request.header(b"x-api-key") or request.bearer()
        endpoint = self.endpoint(request.method, request.path)
        if not key:
            return self._error(401, "x-api-key header is required")
        if request.path.startswith(BATCHES):
            return self._batches.admit(endpoint, request, key, now, self.settings)
        if endpoint not in (CREATE, COUNT_TOKENS):
            return self._error(404, f"Not found: {request.path}")
        try:
            call = msgspec.json.decode(request.body, type=Call)
        except msgspec.DecodeError as error:
            return self._error(400, str(error))
        if endpoint == COUNT_TOKENS:
            return self._count(call, now)
        return self._create(call, key, request, now)

    def _count(self, call: Call, now: Instant) -> Reply:
        """Free, at a rate of its own; a model that does not exist counts nothing."""
        if prices.find(call.model, self.settings.prices, prices.ANTHROPIC) is None:
            return self._error(404, f"model: {call.model}")
        short = admit([Need("requests", bucket, 1) for bucket in self._counts.values()], now.ns)
        if short is not None:
            return self._error(429, MESSAGES[429], [_retry(seconds(short.wait_ns))])
        parts = call.parts(answers.flatten(call.messages, call.system))
        count = answers.tokens(sum(len(part.text) for part in parts))
        return json_reply(200, {"input_tokens": count}, [self._request_id()])

    # -- batches -----------------------------------------------------------------------------------------------------------

    def go_on(self, now: Instant) -> None:
        """What goes on by itself: batches end, and are billed."""
        self._batches.go_on(now, self.settings)

    def capped(self) -> Reply | None:
        cap = self.settings.spend_cap_micros
        spent = cap is not None and self._account.micros >= cap
        return self._error(429, "Your organization has reached its monthly spend limit.") if spent else None

    def _answered(self, key: str, params: bytes, now: Instant) -> Answered:
        """One request of a batch, at half the price."""
        try:
            call = msgspec.json.decode(params, type=Call)
        except msgspec.DecodeError as error:
            return self._in_error("invalid_request_error", str(error))
        price, problem = prices.find(call.model, self.settings.prices, prices.ANTHROPIC), _problem(call)
        if problem or price is None or self.settings.batch_errors:
            return self._in_error("invalid_request_error", problem or f"model: {call.model}")
        plan = self._plan(call, key, price, now)
        micros = prices.cost_micros(price, plan.usage, percent=prices.BATCHED)
        self._account.charge(key, call.model, micros)
        self._effects.answered("anthropic", call.model, plan.digest)
        self._numbered += 1
        message = _message(plan, self._numbered)
        return Answered("succeeded", {"message": message | {"usage": message["usage"] | {"service_tier": "batch"}}})

    def _in_error(self, kind: str, message: str) -> Answered:
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
        return Answered("errored", {"error": error})

    # -- one message -------------------------------------------------------------------------------------------------------

    def _create(self, call: Call, key: str, request: Request, now: Instant) -> Reply | Work:
        problem = _problem(call)
        price = prices.find(call.model, self.settings.prices, prices.ANTHROPIC)
        if problem:
            return self._error(400, problem)
        if bytes(call.thread) not in (b"", b"null"):
            return self._error(400, "thread: conversations are not stored here", details=UNTHREADED)
        if price is None:
            return self._error(404, f"model: {call.model}")
        plan = self._plan(call, key, price, now)
        refusal = self._refusal(plan, request, now)
        if refusal is not None:
            return refusal
        return lambda at, instead: instead or self._answer(plan, at)

    def _plan(self, call: Call, key: str, price: prices.Price, now: Instant) -> Plan:
        prompt = answers.flatten(call.messages, call.system)
        said = _say(call, prompt, self.settings.tools)
        split = self._cache.split(
            f"{key} {call.model} ", call.parts(prompt), tokens_min=self.settings.cache_tokens_min, now_ns=now.ns
        )
        output = max(1, answers.tokens(said.characters))
        usage = prices.Usage(split.input, split.write_5m, split.write_1h, split.read, output)
        return Plan(call, key, prompt.digest, said, split, usage, prices.cost_micros(price, usage))

    def _refusal(self, plan: Plan, request: Request, now: Instant) -> Reply | None:
        concurrency, capped = self.settings.concurrency, self.capped()
        if capped is not None:
            return capped
        if concurrency is not None and request.others >= concurrency:
            return self._error(429, "Number of concurrent connections has exceeded your rate limit.", [_retry(1)])
        usage = plan.usage
        takes = {"requests": 1, "input-tokens": usage.prompt - usage.read, "output-tokens": usage.output}
        short = admit([Need(name, bucket, takes[name]) for name, bucket in self._buckets.items()], now.ns)
        if short is None:
            return None
        limit = f"{short.need.bucket.rate.amount} {short.need.name.replace('-', ' ')}"
        message = f"This request would exceed your organization's rate limit of {limit} per minute."
        return self._error(429, message, [_retry(seconds(short.wait_ns)), *limit_headers(self._buckets, now)])

    def _answer(self, plan: Plan, now: Instant) -> Reply:
        self._cache.remember(plan.split.prefixes, now.ns)
        self._account.charge(plan.key, plan.call.model, plan.cost_micros)
        self._effects.answered("anthropic", plan.call.model, plan.digest)
        self._numbered += 1
        headers = [self._request_id(), *limit_headers(self._buckets, now)]
        if plan.call.stream:
            events, chunk_ms = _events(plan, self._numbered), self.settings.chunk_ms
            return stream_reply(events, headers, chunk_ms=chunk_ms, cost_micros=plan.cost_micros)
        return json_reply(200, _message(plan, self._numbered), headers, cost_micros=plan.cost_micros)

    def _error(
        self, status: int, message: str, headers: Headers | None = None, *, details: dict[str, Any] | None = None
    ) -> Reply:
        identity = self._request_id()
        error: dict[str, Any] = {"type": ERROR_TYPES.get(status, "api_error"), "message": message}
        error |= {"details": details} if details else {}
        body = {"type": "error", "error": error, "request_id": identity[1].decode()}
        return json_reply(status, body, [identity, *(headers or [])])

    def _request_id(self) -> tuple[bytes, bytes]:
        self._numbered += 1
        return (b"request-id", b"req_%024d" % self._numbered)


def _rates(settings: Settings) -> dict[str, Rate | None]:
    return {
        "requests": settings.requests,
        "input-tokens": settings.input_tokens,
        "output-tokens": settings.output_tokens,
    }


def _retry(after_s: int) -> tuple[bytes, bytes]:
    return (b"retry-after", b"%d" % after_s)


def _problem(call: Call) -> str | None:
    """What is wrong with a call that has the right shape."""
    if call.max_tokens < 1:
        return "max_tokens: Field required, and at least 1"
    if not call.messages:
        return "messages: at least one message is required"
    for place, message in enumerate(call.messages):
        if message.role not in ("user", "assistant", "system"):
            return f"messages.{place}.role: Input should be 'user' or 'assistant'"
    return None


def _say(call: Call, prompt: Prompt, inputs: Mapping[str, dict[str, Any]]) -> Said:
    forced = call.tool_choice.name if call.tool_choice else None
    schemas = {tool.name: tool.input_schema for tool in call.tools}
    use = answers.tool_use(prompt, schemas, forced, inputs) if schemas else None
    if use is not None:
        return Said("", use, "tool_use", None)
    end = answers.cut(answers.answer(prompt), max_tokens=call.max_tokens, stops=call.stop_sequences or ())
    return Said(end.text, None, end.reason, end.sequence)


def _message(plan: Plan, number: int) -> dict[str, Any]:
    said = plan.said
    return {
        "id": f"msg_{number:024d}",
        "type": "message",
        "role": "assistant",
        "model": plan.call.model,
        "content": [_block(said, number)],
        "stop_reason": said.reason,
        "stop_sequence": said.sequence,
        "usage": _usage(plan.usage, output=plan.usage.output),
    }


def _block(said: Said, number: int) -> dict[str, Any]:
    if said.tool is None:
        return {"type": "text", "text": said.text}
    return {"type": "tool_use", "id": f"toolu_{number:024d}", "name": said.tool.name, "input": said.tool.input}


def _usage(usage: prices.Usage, *, output: int) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.write_5m + usage.write_1h,
        "cache_read_input_tokens": usage.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.write_5m,
            "ephemeral_1h_input_tokens": usage.write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }


def _events(plan: Plan, number: int) -> list[bytes]:
    """A whole answer as the events of a stream."""
    said = plan.said
    opened = _message(plan, number)
    opened |= {"content": (), "stop_reason": None, "stop_sequence": None, "usage": _usage(plan.usage, output=1)}
    empty = _block(said, number)
    empty["text" if said.tool is None else "input"] = "" if said.tool is None else {}
    ended = {"stop_reason": said.reason, "stop_sequence": said.sequence}
    return [
        _event("message_start", message=opened),
        _event("content_block_start", index=0, content_block=empty),
        _event("ping"),
        *(_event("content_block_delta", index=0, delta=delta) for delta in _deltas(said)),
        _event("content_block_stop", index=0),
        _event("message_delta", delta=ended, usage={"output_tokens": plan.usage.output}),
        _event("message_stop"),
    ]


def _event(name: str, **fields: Any) -> bytes:
    return sse(name, {"type": name, **fields})


def _deltas(said: Said) -> list[dict[str, str]]:
    if said.tool is None:
        return [{"type": "text_delta", "text": piece} for piece in _pieces(said.text)]
    json = encode(said.tool.input).decode()
    return [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(json)]


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
