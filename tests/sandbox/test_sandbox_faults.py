"""Each fault does what it says, to whom it says, as often as it says."""

import time
from typing import Any

import anthropic
import httpx
import openai
import pytest
import stripe
from stripe.params import ChargeCreateParams

from longwatch.sandbox import Fault, Sandbox, expected_answer
from longwatch.sandbox.faults import Faults

MODEL = "claude-haiku-4-5"
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
CHARGE = {"amount": "1000", "currency": "gbp", "source": "tok_visa"}
BILLED = 53


def claude(sandbox: Sandbox, retries: int = 0, timeout: float = 20) -> anthropic.Anthropic:
    url = sandbox.base_urls["anthropic"]
    return anthropic.Anthropic(base_url=url, api_key="key", max_retries=retries, timeout=timeout)


def test_a_dropped_reply_and_its_retry_are_one_charge(sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="drop_reply", count=1)])
    client = stripe.StripeClient("k", base_addresses={"api": sandbox.base_urls["stripe"]}, max_network_retries=0)
    ask: ChargeCreateParams = {"amount": 1000, "currency": "gbp", "source": "tok_visa"}
    with pytest.raises(stripe.APIConnectionError):
        client.v1.charges.create(ask, {"idempotency_key": "once"})
    made = client.v1.charges.create(ask, {"idempotency_key": "once"})
    assert [row["id"] for row in sandbox.effects()["charges"]] == [made.id]
    assert sandbox.bill()["stripe"]["micros"] == 200_000
    assert sandbox.counts()["stripe"]["statuses"] == {"0": 1, "200": 1}


def test_a_dropped_reply_without_a_key_is_charged_twice(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "stripe", "kind": "drop_reply", "count": 1}])
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/stripe/v1/charges", data=CHARGE)
    http.post("/stripe/v1/charges", data=CHARGE)
    assert len(sandbox.effects()["charges"]) == 2


def test_a_marker_tells_that_a_dropped_issue_was_created(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "github", "kind": "drop_reply", "endpoint": "POST /repos"}])
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/github/repos/acme/shop/issues", json={"title": "x", "body": "marker-1"})
    found = http.get("/github/search/issues", params={"q": "marker-1"}).json()
    assert found["total_count"] == 1


def test_an_overload_refuses_at_once_and_bills_nothing(sandbox: Sandbox) -> None:
    sandbox.faults([{"service": "anthropic", "kind": "status", "status": 529}])
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        claude(sandbox).messages.create(**BODY)
    assert overloaded.value.status_code == 529
    assert overloaded.value.body == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": overloaded.value.response.headers["request-id"],
    }
    assert sandbox.bill()["anthropic"]["micros"] == 0
    assert sandbox.effects()["answers"] == []


def test_a_client_that_retries_outlives_two_overloads(sandbox: Sandbox) -> None:
    sandbox.faults([{"service": "anthropic", "kind": "status", "status": 529, "count": 2}])
    claude(sandbox, retries=2).messages.create(**BODY)
    assert sandbox.counts()["anthropic"]["statuses"] == {"529": 2, "200": 1}
    assert sandbox.bill()["anthropic"]["micros"] == BILLED


@pytest.mark.parametrize(
    ("service", "path", "status", "header"),
    [
        ("anthropic", "/anthropic/v1/messages", 429, "retry-after"),
        ("openai", "/openai/v1/chat/completions", 500, "x-request-id"),
        ("stripe", "/stripe/v1/charges", 429, "stripe-rate-limited-reason"),
        ("github", "/github/repos/a/b/issues", 403, "retry-after"),
    ],
)
def test_an_injected_error_has_the_shape_of_its_provider(
    sandbox: Sandbox, http: httpx.Client, service: str, path: str, status: int, header: str
) -> None:
    sandbox.faults([{"service": "*", "kind": "status", "status": status, "retry_after_s": 7}])
    reply = http.post(path, json=BODY)
    assert (reply.status_code, header in reply.headers) == (status, True)
    assert reply.headers.get("retry-after", "7") == "7"
    assert sandbox.counts()[service]["statuses"] == {str(status): 1}


def test_a_server_error_after_the_charge_is_what_its_key_replays(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "stripe", "kind": "status_after", "status": 500, "count": 1}])
    replies = [http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [500, 500]
    assert replies[1].headers["idempotent-replayed"] == "true"
    assert len(sandbox.effects()["charges"]) == 1
    assert sandbox.bill()["stripe"]["micros"] == 200_000


def test_a_server_error_before_the_charge_leaves_no_trace(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "stripe", "kind": "status", "status": 500, "count": 1}])
    replies = [http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [500, 200]
    assert len(sandbox.effects()["charges"]) == 1


def test_a_stream_that_is_cut_is_an_error_and_is_billed(sandbox: Sandbox) -> None:
    sandbox.faults([{"service": "anthropic", "kind": "cut"}])
    seen = list[str]()
    stream = claude(sandbox).messages.create(**BODY, stream=True)
    with pytest.raises(Exception, match="peer closed connection"):
        seen.extend(event.type for event in stream)
    assert seen[0] == "message_start"
    assert "message_stop" not in seen
    assert sandbox.bill()["anthropic"]["micros"] == BILLED


def test_a_body_that_is_cut_is_an_error(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "openai", "kind": "cut"}])
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/openai/v1/chat/completions", json={**BODY, "model": "gpt-4o"})


def test_a_silent_stream_ends_by_the_patience_of_its_client(sandbox: Sandbox) -> None:
    sandbox.faults([{"service": "openai", "kind": "silent"}])
    url = sandbox.env()["OPENAI_BASE_URL"]
    client = openai.OpenAI(base_url=url, api_key="key", max_retries=0, timeout=0.3)
    stream = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    pieces = list[str]()
    with pytest.raises(openai.APITimeoutError):
        pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    answer = expected_answer([{"role": "user", "content": "hello"}])
    assert len("".join(pieces)) < len(answer)
    assert answer.startswith("".join(pieces))


def test_latency_delays_every_reply(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "anthropic", "kind": "latency", "latency_ms": 100}] * 2)
    began = time.monotonic()
    assert http.post("/anthropic/v1/messages", json=BODY).status_code == 200
    assert time.monotonic() - began >= 0.2


def test_base_latency_and_its_fixed_jitter_are_for_successes(sandbox: Sandbox, http: httpx.Client) -> None:
    limit = {"amount": 2, "per_ms": 3_600_000}
    sandbox.limits(stripe={"latency_ms": 300, "jitter_ms": 100, "requests": limit})
    took = list[float]()
    for _ in range(3):
        began = time.monotonic()
        http.get("/stripe/v1/charges")
        took.append(time.monotonic() - began)
    shares = [(number * 2_654_435_761 % 2**32) / 2**32 for number in (1, 2)]
    assert all(took[place] >= 0.3 + 0.1 * share for place, share in enumerate(shares))
    assert took[2] < 0.3


def test_faults_can_be_read_and_cleared(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.faults([{"service": "stripe", "kind": "status", "status": 500, "after": 1, "count": 1}])
    statuses = [http.get("/stripe/v1/charges").status_code for _ in range(3)]
    assert statuses == [200, 500, 200]
    fault = sandbox.set_faults()[0]
    assert (fault["seen"], fault["hits"], fault["kind"]) == (3, 1, "status")
    sandbox.clear_faults()
    assert sandbox.set_faults() == []


def test_a_late_fault_waits_for_a_request_that_is_admitted(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"requests": {"amount": 1, "per_ms": 3_600_000}})
    sandbox.faults([{"service": "stripe", "kind": "drop_reply", "after": 1, "count": 1}])
    assert [http.get("/stripe/v1/charges").status_code for _ in range(2)] == [200, 429]
    assert (sandbox.set_faults()[0]["seen"], sandbox.set_faults()[0]["hits"]) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"service": "paypal", "kind": "cut"}, "service"),
        ({"service": "stripe", "kind": "explode"}, "kind"),
        ({"service": "stripe", "kind": "status", "status": 200}, "status"),
        ({"service": "stripe", "kind": "cut", "probability": 2}, "probability"),
        ({"service": "stripe", "kind": "cut", "chance": 1}, "chance"),
    ],
)
def test_a_wrong_fault_is_refused_by_name(sandbox: Sandbox, fault: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        sandbox.faults([fault])


def test_a_fault_ends_when_its_time_is_over() -> None:
    faults = Faults()
    faults.replace([Fault(service="anthropic", kind="status", seconds=2)], now_ns=0)
    struck = [faults.before_admission("anthropic", "", at_ns).fault for at_ns in (0, 1_999_999_999, 2_000_000_000)]
    assert [fault is not None for fault in struck] == [True, True, False]


def test_the_dice_of_a_fault_repeat_with_its_seed() -> None:
    def hits(seed: int) -> list[bool]:
        faults = Faults()
        faults.replace([Fault(service="*", kind="cut", probability=0.3, seed=seed)], now_ns=0)
        return [faults.after_admission("stripe", "", 0) is not None for _ in range(1_000)]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert 250 <= sum(hits(1)) <= 350


def test_the_first_fault_that_hits_wins_and_latencies_add_up() -> None:
    faults = Faults()
    slow = Fault(service="*", kind="latency", latency_ms=5)
    errors = [Fault(service="stripe", kind="status", status=status) for status in (500, 503)]
    faults.replace([slow, *errors, slow, Fault(service="stripe", kind="cut", endpoint="POST /v1/charges")], now_ns=0)
    struck = faults.before_admission("stripe", "GET /v1/charges", 0)
    assert (struck.latency_ms, struck.fault) == (10, errors[0])
    assert faults.after_admission("stripe", "GET /v1/charges", 0) is None
    assert faults.after_admission("stripe", "POST /v1/charges", 0) is not None
