"""`money` and `money reconcile` as real commands: against the bill of the sandbox, `budget list`, and a kill -9."""

import csv
import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

from longwatch.sandbox.client import Sandbox, started
from longwatch.testing import postgres, redis

BY = ("budget", "agent", "service", "model", "kind", "day")
AMOUNTS = ("settled_micros", "unknown_micros", "spent_micros", "held_micros", "earned_micros", "profit_micros")

CONFIG = """\
[fleet]
name = "shop"
currency = "USD"
exchange = { GBP = "1.25 USD" }
timezone = "Europe/London"
money = ["20 USD/month", "1000 USD total"]
"""

SHOP = """\
import os, signal, sys
import longwatch, stripe
from anthropic import Anthropic
from longwatch import Run

lw = longwatch.open(agent="biller", budget="billing")
stripe.api_base, stripe.api_key = os.environ["STRIPE_API_BASE"], os.environ["STRIPE_API_KEY"]

def write(run: Run, customer: str) -> str:
    client = run.wrap(Anthropic())
    answer = client.messages.create(
        model="claude-haiku-4-5", max_tokens=60, messages=[{"role": "user", "content": f"Letter for {customer}"}])
    return answer.content[0].text

def charge(run: Run, pence: int) -> str:
    with run.call("stripe", money="0.30 GBP") as call:
        intent = stripe.PaymentIntent.create(
            amount=pence, currency="gbp", payment_method="pm_card_visa", confirm=True, idempotency_key=call.key,
            automatic_payment_methods={"enabled": True, "allow_redirects": "never"})
        if os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)  # between hold and settle
        call.settle(money="0.20 GBP")
    return intent.id

@lw.task("letter")
def letter(run: Run, customer: str) -> str:
    return run.step("write", write, run, customer)

@lw.task("invoice", crashes=3)
def invoice(run: Run, pence: int) -> None:
    run.step("charge", charge, run, pence)
    run.earned("12 GBP", "invoice")
    run.earned("0.000001 USD")
    run.earned("7 EUR", "no rate for it")

if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        lw.agent("seo", budget="growth").submit(letter.bind(f"c{number}"))
        lw.submit(invoice.bind(1200 + number))
    lw.work(until_idle=True)
"""


@pytest.fixture(scope="module")
def server() -> Generator[Sandbox]:
    with started() as box:
        yield box


@pytest.fixture
def sandbox(server: Sandbox) -> Sandbox:
    """As new."""
    server.reset()
    return server


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, server: Sandbox) -> Shell:
    """A fleet with one call whose outcome nobody knows, for tests that change nothing."""
    shell = made(tmp_path_factory.mktemp("killed"), server)
    die(shell)
    assert len(unknown_calls(shell)) == 1
    return shell


@dataclass(frozen=True)
class Traded:
    """A fleet that has written three letters and made three payments. bill: what the providers say of these."""

    shell: Shell
    bill: dict[str, Any]


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory, server: Sandbox) -> Traded:
    """For tests that change nothing."""
    server.reset()
    shell = made(tmp_path_factory.mktemp("traded"), server)
    trade(shell)
    return Traded(shell, server.bill())


@pytest.fixture
def shell(tmp_path: Path, sandbox: Sandbox) -> Shell:
    return made(tmp_path, sandbox)


def made(folder: Path, sandbox: Sandbox) -> Shell:
    shell = Shell(folder, dict(sandbox.env()))
    shell.write("longwatch.toml", CONFIG)
    shell.write("shop.py", SHOP)
    return shell


def trade(shell: Shell, count: int = 3) -> None:
    said = shell.python("shop.py", str(count))
    assert said.status == 0, said.err


def die(shell: Shell) -> None:
    killed = replace(shell, more=shell.more | {"DIE": "1"}).python(
        "-c", "import shop; shop.lw.submit(shop.invoice.bind(900)); shop.lw.work(until_idle=True)"
    )
    assert killed.status == -9


def money(shell: Shell, *words: str) -> dict[str, Any]:
    said = shell("money", "--since", "total", *words, "--json")
    assert said.status == 0, said.out
    found: dict[str, Any] = said.json
    return found


def total_of(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in AMOUNTS}


def billed(bill: dict[str, Any]) -> int:
    """In the fleet's currency: every call costs 0.20 GBP there."""
    assert bill["stripe"]["currency"] == "GBP"
    return int(bill["anthropic"]["micros"] + bill["stripe"]["micros"] * 5 // 4)


def test_every_total_is_the_providers_bill_and_what_the_budgets_have_spent(traded: Traded) -> None:
    shell, due = traded.shell, billed(traded.bill)
    assert due > 750_000
    for by in [*((name,) for name in BY), ("agent", "day"), BY]:
        found = money(shell, "--by", ",".join(by))
        assert found["by"] == list(by)
        assert all(set(by) <= set(row) for row in found["rows"])
        assert total_of(found["rows"]) == {name: found["total"][name] for name in AMOUNTS}
        assert found["total"]["spent_micros"] == found["total"]["settled_micros"] == due
        assert found["total"]["earned_micros"] == 3 * 15_000_001
        assert found["total"]["profit_micros"] == 3 * 15_000_001 - due
    month = shell("money", "--since", "month", "--json").json["total"]["spent_micros"]
    listed = {row["window"]: row["spent_micros"] for row in shell("budget", "list", "--json").json["budgets"]}
    assert listed == {"month": month, "total": due}


def test_each_agent_budget_and_kind_has_its_own_profit(traded: Traded) -> None:
    shell, model = traded.shell, traded.bill["anthropic"]["micros"]
    profits = {
        name: {row[name]: row["profit_micros"] for row in money(shell, "--by", name)["rows"]}
        for name in ("agent", "budget", "kind")
    }
    billing = 3 * (15_000_001 - 250_000)
    assert profits == {
        "agent": {"seo": -model, "biller": billing},
        "budget": {"growth": -model, "billing": billing},
        "kind": {"letter": -model, "invoice": billing},
    }


def test_the_fields_that_were_there_before_are_there_still(traded: Traded) -> None:
    found = traded.shell("money", "--by", "day", "--json").json
    assert {"since_ms", "spent", "caps"} <= set(found)
    assert abs(found["since_ms"] - 30 * 86_400_000) < 60_000
    names = {"budget", "agent", "service", "calls", "spent_micros", "held_micros", "tokens", "currency"}
    assert {(row["budget"], row["agent"], row["service"]) for row in found["spent"]} == {
        ("growth", "seo", "anthropic"),
        ("billing", "biller", "stripe"),
    }
    assert all(names <= set(row) for row in found["spent"])


def test_the_sheet_is_exact_and_says_its_currency(traded: Traded) -> None:
    shell = traded.shell
    said = shell("money", "--by", "agent,day", "--csv")
    assert said.status == 0
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert list(rows[0]) == [
        "agent",
        "day",
        "calls",
        "tokens",
        "settled",
        "unknown",
        "held",
        "earned",
        "profit",
        "currency",
    ]
    total = money(shell)["total"]
    ours = [row for row in rows if row["currency"] == "USD"]
    for name in ("settled", "unknown", "held", "earned", "profit"):
        assert sum(Decimal(row[name]) for row in ours) * 1_000_000 == total[f"{name}_micros"]
    apart = [row for row in rows if row["currency"] != "USD"]
    assert [(row["agent"], row["earned"], row["currency"]) for row in apart] == [("biller", "21.000000", "EUR")]


def test_what_has_no_rate_is_shown_to_people_too(traded: Traded) -> None:
    shell = traded.shell
    said = shell("money").out
    assert "21.00 EUR" in said
    assert money(shell)["earned_apart"] == [
        {"budget": "billing", "agent": "biller", "service": None, "earned_micros": 21_000_000, "currency": "EUR"}
    ]


def test_until_and_since_part_all_time_without_a_gap(traded: Traded) -> None:
    shell = traded.shell
    whole, cut = money(shell)["total"], "2026-01-01"
    before, after = money(shell, "--until", cut)["total"], shell("money", "--since", cut, "--json").json["total"]
    assert all(before[name] + after[name] == whole[name] for name in AMOUNTS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--by", "agnet"], "did you mean agent?"),
        (["--since", "yesterday"], "--since"),
        (["--since", "2026-13-01"], "neither a day nor an instant"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "is not after"),
        (["--csv", "--json"], "two answers"),
        (["reconsile"], "did you mean reconcile?"),
        (["reconcile"], "which call"),
        (["reconcile", "--list", "call_1"], "which call"),
        (["reconcile", "call_1"], "what did call_1 cost?"),
        (["reconcile", "call_1", "0.12"], "not an amount of money"),
        (["reconcile", "call_1", "0.12 JPY"], "no exchange rate from JPY"),
        (["reconcile", "call_none", "0.12 GBP"], "no call has the key or id"),
        (["reconcile", "none.csv"], "cannot be read"),
    ],
)
def test_wrong_use_says_what_to_do(killed: Shell, words: list[str], says: str) -> None:
    said = killed("money", *words)
    assert said.status in (1, 2)
    assert said.out == "" or "--json" in words
    assert says in said.err + said.out


# -- reconcile -----------------------------------------------------------------------------------------------------------


ENGINES = ("sqlite", "postgres", "redis")


@pytest.fixture(params=ENGINES)
def anywhere(request: pytest.FixtureRequest, shell: Shell) -> Generator[Shell]:
    """The same fleet with each engine."""
    if request.param == "postgres":
        url = postgres.shared().new_database()
        shell.write("longwatch.toml", CONFIG + f'state = "{url}"\n')
        yield shell
        postgres.shared().drop(url)
    else:
        if request.param == "redis":
            shell.write("longwatch.toml", CONFIG + f'admission = "{redis.shared().url}"\n')
        yield shell


def unknown_calls(shell: Shell) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shell("money", "reconcile", "--list", "--json").json["calls"]
    return found


def test_killed_between_hold_and_settle_then_reconciled_by_the_providers_bill(
    anywhere: Shell, sandbox: Sandbox
) -> None:
    shell = anywhere
    trade(shell, 1)
    known = money(shell)["total"]["spent_micros"]
    die(shell)
    (lost,) = unknown_calls(shell)
    assert (lost["service"], lost["agent"], lost["held_micros"]) == ("stripe", "biller", 375_000)
    total = money(shell)["total"]
    assert (total["settled_micros"], total["unknown_micros"], total["held_micros"]) == (known, 375_000, 0)
    assert billed(sandbox.bill()) == known + 250_000, "the payment did take place"

    shell.write("bill.csv", f"amount,key,currency,memo\n0.20,{lost['key']},GBP,paid\n9.99,other-app:1,gbp,not ours\n")
    dry = shell("money", "reconcile", "bill.csv", "--dry-run", "--json").json
    assert [(found["outcome"], found["before_micros"], found["after_micros"]) for found in dry["calls"]] == [
        ("reconciled", 375_000, 250_000),
        ("missing", 0, 0),
    ]
    assert len(unknown_calls(shell)) == 1
    for again, outcome in (("", "reconciled"), ("", "same")):
        done = shell("money", "reconcile", "bill.csv", *again.split(), "--json")
        assert done.status == 0
        assert [found["outcome"] for found in done.json["calls"]] == [outcome, "missing"]
    total = money(shell)["total"]
    assert (total["settled_micros"], total["unknown_micros"]) == (billed(sandbox.bill()), 0)
    listed = {row["window"]: row["spent_micros"] for row in shell("budget", "list", "--json").json["budgets"]}
    assert listed["total"] == billed(sandbox.bill())
    assert unknown_calls(shell) == []
    (entry,) = shell("journal", "--kind", "call.reconciled", "--json").json["entries"]
    assert entry["subject"] == lost["id"]
    assert {name: entry["data"][name] for name in ("before", "money", "state", "note")} == {
        "before": 375_000,
        "money": 250_000,
        "state": "unknown",
        "note": "bill.csv:2",
    }
    assert entry["data"]["by"]


def test_a_run_that_goes_on_after_the_reconciliation_is_charged_once(shell: Shell, sandbox: Sandbox) -> None:
    die(shell)
    (lost,) = unknown_calls(shell)
    assert shell("money", "reconcile", lost["id"], "0.20 GBP", "--note", "in the dashboard").status == 0
    trade(shell, 0)  # the next worker repeats the step, and the provider answers from memory
    assert shell.tasks() == {"done": 1}
    assert money(shell)["total"]["spent_micros"] == billed(sandbox.bill()) == 250_000


def test_a_settled_call_is_not_changed_without_correct(shell: Shell) -> None:
    trade(shell, 1)
    call = next(
        entry["subject"]
        for entry in shell("journal", "--kind", "call.settled", "--json").json["entries"]
        if entry["data"]["service"] == "stripe"
    )
    before = money(shell)["total"]["spent_micros"]
    refused = shell("money", "reconcile", call, "0.24 GBP")
    assert refused.status == 2
    assert "0.25 USD" in refused.err
    assert "--correct" in refused.err
    shell.write("bill.csv", f"id,amount,currency\n{call},0.24,GBP\n")
    assert shell("money", "reconcile", "bill.csv", "--json").json["counts"]["differs"] == 1
    assert money(shell)["total"]["spent_micros"] == before
    assert shell("money", "reconcile", "bill.csv", "--correct", "--json").json["counts"]["corrected"] == 1
    assert money(shell)["total"]["spent_micros"] == before + 50_000


def test_an_open_call_is_listed_apart_and_left_alone(shell: Shell) -> None:
    trade(shell, 0)
    holder = "import shop, time\nwith shop.lw.call('stripe', money='1 USD') as c:\n    print(c.id, flush=True); time.sleep(600)"
    process = shell.python_started("-c", holder)
    assert process.stdout is not None
    call = process.stdout.readline().strip()
    said = shell("money", "reconcile", call, "0.20 GBP")
    assert (said.status, "open" in said.err) == (1, True)
    process.kill()
    process.communicate()
    found = shell("money", "reconcile", "--list", "--json").json
    assert (found["calls"], [each["id"] for each in found["open"]]) == ([], [call])
    assert money(shell)["total"]["held_micros"] == 1_000_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "columns"),
        ("key;amount;currency\nk;1;GBP\n", "columns"),
        ("key,amount\nk,1\n", "columns"),
        ("key,amount,currency\nk,1\n", ":2: a line without"),
        ("key,amount,currency\nk,1.0000001,GBP\n", ":2: '1.0000001 GBP' is not an amount"),
        ("key,amount,currency\nk,-1,GBP\n", ":2: -1 is less than nothing"),
        ("key,amount,currency\nk,1,JPY\n", ":2: no exchange rate"),
        ("key,amount,currency\nk,1,GBP\n\nk,1,GBP\n", ":4: k is named again, after line 2"),
        ('key,amount,currency\n"k,1,GBP\n', "cannot be read"),
    ],
)
def test_a_bill_with_one_wrong_line_changes_nothing(killed: Shell, text: str, says: str) -> None:
    shell = killed
    (lost,) = unknown_calls(shell)
    good = text.replace("\nk,", f"\n{lost['key']},0.2,GBP\nk,", 1) if says.startswith(":2") else text
    shell.write("bill.csv", good)
    said = shell("money", "reconcile", "bill.csv")
    assert said.status in (1, 2)
    assert says.replace(":2", ":3") in said.err if good != text else says in said.err
    assert len(unknown_calls(shell)) == 1


def test_a_bill_of_a_spreadsheet_is_read_and_may_be_piped(shell: Shell) -> None:
    die(shell)
    (lost,) = unknown_calls(shell)
    sheet = f'\ufeffCurrency, Amount ,KEY\r\ngbp, 0.2 ,"{lost["key"]}"\r\n'
    said = shell("money", "reconcile", "-", "--json", given=sheet.lstrip("\ufeff"))
    assert said.json["counts"]["reconciled"] == 1, said.out
    (shell.folder / "bill.csv").write_bytes(sheet.encode())
    assert shell("money", "reconcile", "bill.csv", "--json").json["counts"]["same"] == 1


def test_not_sent_gives_back_everything(shell: Shell) -> None:
    die(shell)
    (lost,) = unknown_calls(shell)
    said = shell("money", "reconcile", lost["key"], "--not-sent", "--json")
    assert said.json["calls"][0]["said_micros"] is None
    assert money(shell)["total"] == money(shell)["total"] | {"spent_micros": 0, "calls": 0}


EARN = """\
import longwatch
from longwatch import Run

lw = longwatch.open()

def sell(run: Run) -> None:
    run.earned("5 USD", "in a step")
    run.earned("6 USD", "in a step")

@lw.task("sale", retries=2, backoff="1ms")
def sale(run: Run) -> None:
    run.step("sell", sell, run)
    run.earned("10 USD", "outside of steps")
    run.earned("1 USD" if run.attempt < 3 else "2 USD")
    if run.attempt < 3:
        raise ValueError("again")

lw.submit(sale.bind())
lw.work(until_idle=True)
"""


def test_what_a_retry_says_again_is_earned_once(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("sale.py", EARN)
    assert shell.python("sale.py").status == 0
    assert shell.tasks() == {"done": 1}
    (row,) = money(shell, "--by", "kind")["rows"]
    assert (row["kind"], row["earned_micros"], row["calls"]) == ("sale", 23_000_000, 0)
