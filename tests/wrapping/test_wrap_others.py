"""Wrapped clients of Stripe and GitHub, and clients wrapped by a run."""

import asyncio
import gc
import importlib
from pathlib import Path
from typing import Any

import anthropic
import pytest
import stripe
from accounts import CONFIG, ends, spent

import longwatch
from longwatch import BudgetExceeded, ConfigError, LimitRefused, Longwatch, Run
from longwatch.sandbox import Sandbox
from longwatch.sandbox.faults import Fault

CHARGE: Any = {"amount": 1000, "currency": "gbp", "source": "tok_visa"}


def charge_of(amount: int) -> Any:
    return {**CHARGE, "amount": amount}


def till(sandbox: Sandbox) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_a", base_addresses={"api": sandbox.base_urls["stripe"]})


# -- Stripe ------------------------------------------------------------------------------------------------------------------


def test_writes_cost_and_reads_do_not(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(till(sandbox))
    assert type(client) is stripe.StripeClient
    made = client.v1.charges.create(CHARGE)
    assert client.v1.charges.retrieve(made.id).amount == 1000
    assert ends(lw) == ["settled 250000", "settled 0"]
    assert spent(lw) == sandbox.bill()["stripe"]["micros"] * 125 // 100


def test_what_an_object_asks_for_is_paced_too(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(till(sandbox))
    for _ in range(3):
        client.v1.charges.create(CHARGE)
    pages = client.v1.charges.list({"limit": 1})
    assert len(list(pages.auto_paging_iter())) == 3
    assert len(ends(lw)) == sandbox.counts()["stripe"]["requests"]


def test_a_lost_reply_is_asked_for_again_with_the_same_key_and_charged_once(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="drop_reply", count=1)])
    made = lw.wrap(till(sandbox), budget="research").v1.charges.create(CHARGE)
    assert [charge["id"] for charge in sandbox.effects()["charges"]] == [made.id]
    assert sandbox.counts()["stripe"]["requests"] == 2
    (purse,) = (cap for cap in lw.opened.parts.calls.limiter.peek().caps if cap.purse == "budget:research")
    assert (purse.spent, purse.held) == (sandbox.bill()["stripe"]["micros"] * 125 // 100, 0)
    assert [end.split()[0] for end in ends(lw)] == ["unknown", "recharged", "settled"]


def test_a_key_of_the_callers_own_is_sent(lw: Longwatch, sandbox: Sandbox) -> None:
    lw.wrap(till(sandbox)).v1.charges.create(CHARGE, {"idempotency_key": "mine"})
    assert sandbox.effects()["charges"][0]["idempotency_key"] == "mine"


def test_an_error_of_stripe_is_stripes_own_and_costs_nothing(lw: Longwatch, sandbox: Sandbox) -> None:
    with pytest.raises(stripe.StripeError) as found:
        lw.wrap(till(sandbox)).v1.charges.create(charge_of(-1))
    assert found.value.http_status == 400
    assert spent(lw) == 0


def test_a_limited_write_is_made_again(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="status", status=429, retry_after_s=0, count=1)])
    lw.wrap(till(sandbox)).v1.charges.create(CHARGE)
    assert spent(lw) == sandbox.bill()["stripe"]["micros"] * 125 // 100


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of Stripe's own use of its HTTP library
def test_stripe_in_an_event_loop(lw: Longwatch, sandbox: Sandbox) -> None:
    client = lw.wrap(till(sandbox))

    async def program() -> None:
        await asyncio.gather(*(client.v1.charges.create_async(CHARGE) for _ in range(5)))

    asyncio.run(program())
    assert spent(lw) == sandbox.bill()["stripe"]["micros"] * 125 // 100


def test_the_module_itself_cannot_be_wrapped(lw: Longwatch) -> None:
    with pytest.raises(ConfigError, match="the module stripe") as found:
        lw.wrap(stripe)
    assert "StripeClient" in found.value.hint


def test_no_key_of_the_callers_is_the_keys_of_the_calls(lw: Longwatch, sandbox: Sandbox) -> None:
    for empty in (None, ""):
        sandbox.faults([Fault(service="stripe", kind="drop_reply", count=1)])
        options: Any = {"idempotency_key": empty}
        lw.wrap(till(sandbox)).v1.charges.create(CHARGE, options)
    assert len(sandbox.effects()["charges"]) == 2
    assert sandbox.counts()["stripe"]["requests"] == 4


def test_there_are_no_more_tries_than_the_client_asks_for(lw: Longwatch, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="drop_reply")])
    plain = stripe.StripeClient("sk", base_addresses={"api": sandbox.base_urls["stripe"]}, max_network_retries=0)
    with pytest.raises(stripe.APIConnectionError):
        lw.wrap(plain).v1.charges.create(CHARGE)
    assert sandbox.counts()["stripe"]["requests"] == 1


def test_a_further_try_that_is_refused_does_not_hide_what_became_of_the_first(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="drop_reply", count=1)])
    config: Any = {**CONFIG, "budget": {"small": {"money": "0.30 USD/month"}}}
    with longwatch.open(str(tmp_path / "small.db"), config=config) as lw:
        with pytest.raises(stripe.APIConnectionError) as found:
            lw.wrap(till(sandbox), budget="small").v1.charges.create(CHARGE)
        assert isinstance(found.value.__cause__, BudgetExceeded)


def test_a_mistake_of_the_program_is_not_tried_again(lw: Longwatch, sandbox: Sandbox) -> None:
    client: Any = lw.wrap(till(sandbox))
    with pytest.raises(ValueError, match="path"):
        client.raw_request("post", "v1/charges/../x", amount=1)
    assert len(ends(lw)) == 1


def test_connecting_an_account_still_knows_its_client(lw: Longwatch) -> None:
    client = lw.wrap(stripe.StripeClient("sk", client_id="ca_123"))
    assert "client_id=ca_123" in client.oauth.authorize_url()


# -- GitHub ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def library() -> Any:
    """Its thousands of models are compiled without the collector: CPython 3.11 may fail to when that runs meanwhile."""
    gc.disable()
    try:
        found = importlib.import_module("githubkit")
        client = found.GitHub("token")
        assert client.rest.issues
        return found
    finally:
        gc.enable()


@pytest.fixture
def github(sandbox: Sandbox, library: Any) -> Any:
    return library.GitHub("token", base_url=sandbox.base_urls["github"], http_cache=False)


def test_github_is_paced_by_every_door(lw: Longwatch, sandbox: Sandbox, github: Any) -> None:
    client = lw.wrap(github)
    assert type(client) is type(github)
    client.rest.issues.create("acme", "shop", title="Broken")
    assert client.rest.issues.get("acme", "shop", 1).parsed_data.title == "Broken"
    client.request("GET", "/repos/acme/shop/issues/1")
    assert len(ends(lw)) == sandbox.counts()["github"]["requests"] == 3
    github.rest.issues.get("acme", "shop", 1)
    assert len(ends(lw)) == 3, "the plain client stays plain"


def test_github_in_an_event_loop_and_its_errors(lw: Longwatch, sandbox: Sandbox, github: Any) -> None:
    from githubkit.exception import RequestFailed

    client = lw.wrap(github)

    async def program() -> None:
        await client.rest.issues.async_create("acme", "shop", title="Broken")
        with pytest.raises(RequestFailed):
            await client.rest.issues.async_get("acme", "shop", 99)

    asyncio.run(program())
    assert len(ends(lw)) == 2


def test_another_login_is_paced_too(lw: Longwatch, sandbox: Sandbox, github: Any) -> None:
    from githubkit import TokenAuthStrategy

    client = lw.wrap(github).with_auth(TokenAuthStrategy("other"))
    client.rest.issues.create("acme", "shop", title="x")
    assert len(ends(lw)) == sandbox.counts()["github"]["requests"] == 1


def test_both_clients_have_a_block_of_their_own(lw: Longwatch, github: Any) -> None:
    with github, lw.wrap(github) as client:
        client.rest.issues.create("acme", "shop", title="x")


def test_a_quota_that_is_spent_refuses_before_anything_is_sent(tmp_path: Path, sandbox: Sandbox, github: Any) -> None:
    config = {"service": {"github": {"quota": "2/day"}}}
    with longwatch.open(str(tmp_path / "quota.db"), config=config) as lw:
        client = lw.wrap(github)
        for title in ("a", "b"):
            client.rest.issues.create("acme", "shop", title=title)
        with pytest.raises(LimitRefused):
            client.rest.issues.create("acme", "shop", title="c")
    assert sandbox.counts()["github"]["requests"] == 2


# -- in a run ----------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_retried_sends_the_same_keys_whatever_was_tried_again(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.faults([Fault(service="stripe", kind="status", status=429, retry_after_s=0, count=2)])
    attempts: list[int] = []
    with longwatch.open(str(tmp_path / "run.db"), config=CONFIG) as lw:

        @lw.task("pay", retries=1, backoff="0s")
        def pay(run: Run) -> None:
            client = run.wrap(till(sandbox))

            def twice() -> None:
                client.v1.charges.create(CHARGE)
                client.v1.charges.create(charge_of(2000))
                attempts.append(1)
                if len(attempts) == 1:
                    raise RuntimeError("after both were charged")

            run.step("twice", twice)

        task = lw.submit(pay.bind())
        lw.work(until_idle=True)
        assert lw.get(task.id).state == "done"
    charges = sandbox.effects()["charges"]
    assert len(attempts) == 2
    assert [charge["amount"] for charge in charges] == [1000, 2000]
    assert [charge["idempotency_key"].rpartition(":")[2] for charge in charges] == ["1", "2"]


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_what_is_read_before_does_not_shift_the_key_of_what_is_written(
    tmp_path: Path, sandbox: Sandbox, where: str
) -> None:
    attempts: list[int] = []
    till(sandbox).v1.charges.create(charge_of(5))
    with longwatch.open(str(tmp_path / "shift.db"), config=CONFIG) as lw:
        outside = lw.wrap(till(sandbox))

        @lw.task("pay", retries=1, backoff="0s")
        def pay(run: Run) -> None:
            client = outside if where == "outside" else run.wrap(till(sandbox))

            def read_and_pay() -> None:
                list(client.v1.charges.list({"limit": 1}).auto_paging_iter())  # two pages when it is made again
                client.v1.charges.create(CHARGE)
                attempts.append(1)
                if len(attempts) == 1:
                    raise RuntimeError("after it was charged")

            run.step("pay", read_and_pay)

        task = lw.submit(pay.bind())
        lw.work(until_idle=True)
        assert lw.get(task.id).state == "done"
    assert [charge["amount"] for charge in sandbox.effects()["charges"]] == [5, 1000]
    assert len(attempts) == 2


def test_a_client_wrapped_by_the_fleet_belongs_to_the_run_it_is_used_in(tmp_path: Path, sandbox: Sandbox) -> None:
    with longwatch.open(str(tmp_path / "in.db"), config=CONFIG) as lw:

        @lw.task("ask")
        def ask(run: Run) -> None:
            plain = anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key")
            lw.wrap(plain, budget="research").messages.create(
                model="claude-haiku-4-5", max_tokens=50, messages=[{"role": "user", "content": "hello"}]
            )

        task = lw.submit(ask.bind())
        lw.work(until_idle=True)
        (call,) = lw.opened.parts.calls.limiter.of_task(task.id)
        assert (call.phase, call.budget, call.money) == ("settled", "research", sandbox.bill()["anthropic"]["micros"])
