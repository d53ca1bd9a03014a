"""The official stripe SDK, unmodified, against the stand-in."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import stripe

from longwatch.sandbox import Sandbox

CHARGE = {"amount": "1000", "currency": "gbp", "source": "tok_visa"}


def client(sandbox: Sandbox) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_a", base_addresses={"api": sandbox.base_urls["stripe"]}, max_network_retries=0)


def charge(sandbox: Sandbox, key: str, amount: int = 1000) -> stripe.Charge:
    return client(sandbox).v1.charges.create(
        {"amount": amount, "currency": "gbp", "source": "tok_visa", "metadata": {"order": "7"}},
        {"idempotency_key": key},
    )


def test_a_charge_is_made_found_and_billed(sandbox: Sandbox) -> None:
    made = charge(sandbox, "key-1")
    found = client(sandbox).v1.charges.retrieve(made.id)
    assert (found.amount, found.currency, found.status, found.metadata["order"]) == (1000, "gbp", "succeeded", "7")
    assert sandbox.bill()["stripe"] == {
        "currency": "GBP",
        "micros": 200_000,
        "keys": {"sk_test_a": 200_000},
        "models": {"charge": 200_000},
    }
    effect = sandbox.effects()["charges"][0]
    assert (effect["idempotency_key"], effect["metadata"], effect["amount"]) == ("key-1", {"order": "7"}, 1000)


def test_a_replayed_key_charges_once(sandbox: Sandbox, http: httpx.Client) -> None:
    replies = [http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"}) for _ in range(3)]
    assert len({reply.content for reply in replies}) == 1
    assert [reply.headers.get("idempotent-replayed") for reply in replies] == [None, "true", "true"]
    assert replies[1].headers["original-request"] == replies[0].headers["request-id"]
    assert len(sandbox.effects()["charges"]) == 1
    assert sandbox.bill()["stripe"]["micros"] == 200_000


def test_the_sdk_sees_a_replay_as_the_same_charge(sandbox: Sandbox) -> None:
    assert charge(sandbox, "same").id == charge(sandbox, "same").id


def test_a_key_with_other_parameters_is_a_conflict(sandbox: Sandbox) -> None:
    charge(sandbox, "k")
    with pytest.raises(stripe.IdempotencyError) as conflict:
        charge(sandbox, "k", amount=2000)
    assert conflict.value.http_status == 400
    assert len(sandbox.effects()["charges"]) == 1


def test_a_key_belongs_to_its_account(sandbox: Sandbox, http: httpx.Client) -> None:
    for account in ("Bearer a", "Bearer b"):
        http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k", "authorization": account})
    assert len(sandbox.effects()["charges"]) == 2


def test_a_key_in_use_is_a_conflict_until_its_first_request_ends(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"latency_ms": 500})

    def ask(_: int) -> httpx.Response:
        return http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"})

    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(ask, range(4)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409]
    conflict = next(reply for reply in replies if reply.status_code == 409)
    assert conflict.json()["error"]["code"] == "idempotency_key_in_use"
    assert ask(0).headers["idempotent-replayed"] == "true"
    assert len(sandbox.effects()["charges"]) == 1


def test_a_key_is_forgotten_when_its_time_is_over(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"key_ms": 1})
    sandbox.faults([{"service": "stripe", "kind": "latency", "latency_ms": 20}])
    for _ in range(2):
        http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"})
    assert len(sandbox.effects()["charges"]) == 2


def test_a_declined_card_is_stored_under_its_key_and_not_billed(sandbox: Sandbox) -> None:
    replayed = list[str | None]()
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            client(sandbox).v1.charges.create(
                {"amount": 5, "currency": "gbp", "source": "tok_chargeDeclined"}, {"idempotency_key": "k"}
            )
        assert declined.value.code == "card_declined"
        replayed.append((declined.value.headers or {}).get("idempotent-replayed"))
    assert replayed == [None, "true"]
    assert (sandbox.bill()["stripe"]["micros"], sandbox.effects()["charges"]) == (0, [])


def test_a_refusal_by_rate_is_not_stored_and_has_its_reason(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"requests": {"amount": 2, "per_ms": 3_600_000}})
    for key in ("a", "b"):
        charge(sandbox, key)
    refused = http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "c"})
    assert (refused.status_code, refused.headers["stripe-rate-limited-reason"]) == (429, "global-rate")
    assert "retry-after" not in refused.headers
    with pytest.raises(stripe.RateLimitError):
        charge(sandbox, "c")
    sandbox.limits(stripe={"requests": None})
    assert charge(sandbox, "c").status == "succeeded"
    assert len(sandbox.effects()["charges"]) == 3


def test_every_endpoint_has_a_limit_of_its_own(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"endpoint": {"amount": 1, "per_ms": 3_600_000}})
    replies = [http.get(f"/stripe/v1/{name}") for name in ("charges", "customers", "charges")]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].headers["stripe-rate-limited-reason"] == "endpoint-rate"


@pytest.mark.parametrize(
    ("setting", "reason"), [("concurrency", "global-concurrency"), ("endpoint_concurrency", "endpoint-concurrency")]
)
def test_requests_in_flight_are_limited(sandbox: Sandbox, http: httpx.Client, setting: str, reason: str) -> None:
    sandbox.limits(stripe={setting: 2, "latency_ms": 500})

    def ask(_: int) -> httpx.Response:
        return http.post("/stripe/v1/charges", data=CHARGE)

    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(ask, range(5)))
    refused = [reply.headers["stripe-rate-limited-reason"] for reply in replies if reply.status_code == 429]
    assert refused == [reason] * 3


def test_the_default_limit_is_that_of_test_mode(sandbox: Sandbox, http: httpx.Client) -> None:
    statuses = [http.get("/stripe/v1/charges").status_code for _ in range(60)]
    events = sandbox.events()
    seconds = (events[-1].t_ms - events[0].t_ms) / 1_000
    assert 25 <= statuses.count(200) <= 25 + 25 * seconds + 1
    assert statuses[:25] == [200] * 25


def test_customers_are_made_changed_and_listed_by_page(sandbox: Sandbox) -> None:
    sandbox.limits(stripe={"requests": None, "endpoint": None})
    customers = client(sandbox).v1.customers
    for number in range(12):
        customers.create({"email": f"{number}@example.com", "metadata": {"number": str(number), "old": "x"}})
    page = customers.list({"limit": 5})
    assert (page.has_more, page.data[0].email) == (True, "11@example.com")
    everyone = [customer.email for customer in page.auto_paging_iter()]
    assert everyone == [f"{number}@example.com" for number in reversed(range(12))]
    before = customers.list({"limit": 2, "ending_before": page.data[4].id})
    assert [customer.email for customer in before.data] == ["9@example.com", "8@example.com"]
    changed = customers.update(page.data[0].id, {"name": "Ann", "metadata": {"old": "", "new": "y"}})
    assert changed.metadata is not None
    assert (changed.name, changed.metadata.to_dict()) == ("Ann", {"number": "11", "new": "y"})
    assert sandbox.bill()["stripe"]["micros"] == 0


def test_a_payment_intent_is_billed_when_it_is_confirmed(sandbox: Sandbox) -> None:
    intents = client(sandbox).v1.payment_intents
    intent = intents.create({"amount": 500, "currency": "eur", "metadata": {"order": "9"}})
    assert (intent.status, sandbox.bill()["stripe"]["micros"]) == ("requires_payment_method", 0)
    assert intents.confirm(intent.id, {"payment_method": "pm_card_visa"}).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError) as again:
        intents.confirm(intent.id)
    assert again.value.code == "payment_intent_unexpected_state"
    at_once = intents.create({"amount": 5, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"})
    assert (at_once.status, at_once.amount_received) == ("succeeded", 5)
    assert sandbox.bill()["stripe"]["models"] == {"payment_intent": 400_000}
    assert [row["status"] for row in sandbox.effects()["payment_intents"]] == ["succeeded", "succeeded"]


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({}, "amount"),
        ({"amount": "ten", "currency": "gbp"}, "amount"),
        ({"amount": "10"}, "currency"),
        ({**CHARGE, "metadata": "x"}, "metadata"),
    ],
)
def test_a_wrong_charge_names_its_parameter(
    sandbox: Sandbox, http: httpx.Client, form: dict[str, str], param: str
) -> None:
    reply = http.post("/stripe/v1/charges", data=form, headers={"idempotency-key": "k"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/charges/ch_none", 404),
        ("POST", "/charges/ch_none", 404),
        ("POST", "/payment_intents/pi_none/confirm", 404),
        ("GET", "/balance", 404),
        ("DELETE", "/charges/ch_none", 405),
        ("GET", "/charges?limit=0", 400),
        ("GET", "/charges?starting_after=ch_none", 400),
    ],
)
def test_what_is_not_there_is_an_error(
    sandbox: Sandbox, http: httpx.Client, method: str, path: str, status: int
) -> None:
    reply = http.request(method, f"/stripe/v1{path}")
    error: dict[str, Any] = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, "invalid_request_error")


def test_a_key_is_needed_and_basic_is_taken(sandbox: Sandbox) -> None:
    url = sandbox.base_urls["stripe"] + "/v1/charges"
    with httpx.Client(trust_env=False) as bare:
        assert bare.get(url).status_code == 401
        assert bare.post(url, data=CHARGE, auth=("sk_test_b", "")).status_code == 200
    assert sandbox.bill()["stripe"]["keys"] == {"sk_test_b": 200_000}
