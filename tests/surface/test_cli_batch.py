"""`batch plan` and `batch submit`: real processes on a fleet whose handlers have worked once."""

import json
from pathlib import Path

import pytest
from shell import Shell, shop

CONFIG = """\
[fleet]
name = "shop"
currency = "GBP"
money = "40 GBP/month"
[service.stripe]
rate = "25/s"
[service.generic]
[budget.growth]
money = "30 GBP/month"
"""
DECLARED = """
@lw.task(needs={"stripe": {"money": "0.20 GBP"}})
def charge(run: Run, customer: str) -> None:
    pass
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = shop(tmp_path)
    made.write("longwatch.toml", CONFIG)
    made.write("shop.py", (tmp_path / "shop.py").read_text("utf-8") + DECLARED)
    assert made("work", "shop", "--until-idle").status == 0
    return made


def test_a_batch_sets_aside_what_its_tasks_need_or_is_not_submitted(shell: Shell) -> None:
    lines = [json.dumps({"kind": "charge", "args": {"customer": f"c{number}"}}) for number in range(50)]
    given = "\n".join(lines)
    needs = ("--needs", "stripe.requests=1", "--needs", "stripe.money=0.50 GBP")
    made = shell("batch", "submit", "one", "-", *needs, "--json", given=given).json
    (kept,) = made["set_aside"]
    assert (kept["money_micros"], kept["left_micros"], kept["calls"]) == (25_000_000, 25_000_000, 50)
    refused = shell("batch", "submit", "two", "-", *needs, "--json", given=given)
    assert (refused.status, refused.json["error"]["code"]) == (1, "budget_exceeded")
    assert "set aside for batches 25.00 GBP, cap 40.00 GBP" in refused.json["error"]["message"]
    assert shell.tasks() == {"ready": 50}
    later = shell("batch", "submit", "two", "-", *needs, "--schedule", "--json", given=given).json
    assert later["counts"] == {"scheduled": 50}
    (fleet,) = [row for row in shell("budget", "list", "--json").json["budgets"] if row["purse"] == "fleet"]
    assert (fleet["set_aside_micros"], fleet["held_micros"]) == (25_000_000, 0)
    assert later["set_aside"][0]["from_at"] == fleet["resets_at"]
    shell("batch", "cancel", "one")
    shown = shell("batch", "show", "one")
    assert "25.00 GBP" in shown.out
    assert shell("budget", "list", "--json").json["budgets"][0]["set_aside_micros"] == 0
    assert shell("batch", "submit", "three", "-", "--schedule", given=given).status == 2


def test_a_file_is_planned_by_what_its_handlers_declared_and_then_submitted_once(shell: Shell) -> None:
    lines = [json.dumps({"kind": "charge", "args": {"customer": f"c{number}"}}) for number in range(3)]
    shell.write("tasks.jsonl", "\n".join(lines) + "\n\n")
    plan = shell("batch", "plan", "tasks.jsonl", "--json")
    assert plan.status == 0, plan.err
    assert (plan.json["feasible"], plan.json["tasks"], plan.json["cost_micros"]) == (True, 3, 600_000)
    assert plan.json["change"] is None
    assert shell.tasks() == {}
    first = shell("batch", "submit", "november", "tasks.jsonl", "--json").json
    again = shell("batch", "submit", "november", "-", "--json", given="\n".join(lines)).json
    assert (first["fresh"], first["counts"]) == (3, {"ready": 3})
    assert (again["id"], again["fresh"]) == (first["id"], 0)
    shell.write("tasks.jsonl", lines[0])
    other = shell("batch", "submit", "november", "tasks.jsonl", "--json")
    assert (other.status, other.json["error"]["code"]) == (1, "key_conflict")


def test_a_plan_says_that_the_rate_that_binds_was_learned(shell: Shell) -> None:
    taught = """\
import shop
with shop.lw.call("generic") as call:
    call.answered(200, {"ratelimit-limit": "6", "ratelimit-policy": "6;w=60"})
"""
    words = ["batch", "plan", "--kind", "charge", "--count", "90"]
    configured = shell(*words, "--json").json
    assert (configured["origin"], configured["binds"]) == ("configured", "[service.stripe] rate requests = 25/s")
    assert shell.python("-c", taught).status == 0
    words += ["--needs", "generic.requests=1"]
    found = shell(*words, "--json").json
    assert (found["origin"], found["binds"]) == ("learned", "[service.generic] rate requests = 6/min (learned)")
    assert [(each["limit"], each["origin"]) for each in found["limits"]] == [
        ("[service.generic] rate requests", "learned")
    ]
    assert "6/min (learned)" in shell(*words).out


def test_what_does_not_fit_ends_with_1_and_says_what_to_change(shell: Shell) -> None:
    words = ["batch", "plan", "--kind", "greet", "--count", "300", "--needs", "stripe.money=0.20 GBP"]
    said = shell(*words)
    assert said.status == 1
    assert "raise [fleet] money to 60.00 GBP/month, or split over 2 months" in said.out
    found = shell(*words, "--json").json
    assert (found["feasible"], found["binds"]) == (False, "[fleet] money = 40.00 GBP/month")
    (cap,) = [limit for limit in found["limits"] if limit["dimension"] == "money"]
    assert (cap["needs_micros"], cap["left_micros"], cap["wanted_micros"]) == (60_000_000, 40_000_000, 60_000_000)
    assert shell(*words[:5], "200", *words[6:]).status == 0, "the last penny fits"


@pytest.mark.parametrize(
    ("words", "status", "hint"),
    [
        (["--kind", "greet"], 2, "tasks.jsonl"),
        (["none.jsonl"], 2, "UTF-8"),
        (["--kind", "gret", "--count", "2"], 1, "--needs"),
        (["--kind", "greet", "--count", "2", "--needs", "stripe.request=1"], 2, "requests"),
        (["--kind", "greet", "--count", "2", "--needs", "stripe=1"], 2, "stripe.requests=1"),
        (["--kind", "greet", "--count", "2", "--needs", "sripe.requests=1"], 2, "stripe"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(shell: Shell, words: list[str], status: int, hint: str) -> None:
    said = shell("batch", "plan", *words, "--json")
    assert said.status == status
    assert hint in said.json["error"]["hint"]


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": 3}', '{"kind": "greet", "arguments": {}}'])
def test_a_line_that_is_no_task_is_refused_by_its_number(shell: Shell, line: str) -> None:
    said = shell("batch", "submit", "x", "-", "--json", given=f'{{"kind": "greet", "args": {{"name": "a"}}}}\n{line}\n')
    assert said.status == 2
    assert "line 2" in said.json["error"]["message"]
    assert shell.tasks() == {}
