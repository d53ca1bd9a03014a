"""Caps of single tasks on the command line: given, shown, refused by, and raised."""

import getpass
from pathlib import Path

import pytest
from shell import Shell

SPEND = """\
import longwatch
from longwatch import Run

lw = longwatch.open()

def pay(run: Run) -> int:
    with run.call("stripe", money="0.40 USD") as call:
        call.settle(money="0.40 USD")
    return 1

@lw.task(calls=5)
def spend(run: Run, steps: int) -> int:
    return sum(run.step(f"pay-{step}", pay, run) for step in range(steps))
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "longwatch.toml").write_text('[fleet]\nstate = "shop.db"\nexchange = { GBP = "1.25 USD" }\n', "utf-8")
    (tmp_path / "shop.py").write_text(SPEND, "utf-8")
    shell = Shell(tmp_path)
    assert shell("work", "shop", "--until-idle").status == 0
    return shell


def test_a_task_is_submitted_with_caps_stops_at_them_and_goes_on_when_they_are_raised(shell: Shell) -> None:
    said = shell("task", "submit", "spend", "steps=3", "--money", "0.80 GBP", "--json").json
    task = said["id"]
    money = {"dimension": "money", "cap_micros": 1_000_000, "spent_micros": 0, "held_micros": 0, "currency": "USD"}
    calls = {"dimension": "calls", "cap": 5, "spent": 0, "held": 0}
    assert said["caps"] == [calls | {"open_calls": 0}, money | {"open_calls": 0}]
    shell("work", "shop", "--until-idle")
    shown = shell("show", task)
    assert "spent 2 calls of 5 calls, spent 0.80 USD of 1.00 USD" in shown.out
    assert f"{task} cannot hold 0.40 USD more" in shown.out
    refused = shell("task", "show", task, "--json").json
    assert (refused["state"], refused["caps"][1]["spent_micros"]) == ("failed", 800_000)

    raised = shell("budget", "set", task, "2 USD", "--calls", "9", "--json").json
    assert (raised["task"], [cap.get("cap", cap.get("cap_micros")) for cap in raised["caps"]]) == (task, [9, 2_000_000])
    assert shell("task", "retry", task).status == 0
    shell("work", "shop", "--until-idle")
    assert shell("show", task, "--json").json["result"] == 3
    assert shell("budget", "set", f"task:{task}", "3 USD").out.strip() == f"{task}: 2.00 USD -> 3.00 USD"
    moved = shell("journal", "--kind", "task.capped", "--json").json["entries"]
    assert [(each["data"]["caps"]["amount"], each["data"]["by"]) for each in moved] == [
        (2_000_000, getpass.getuser()),
        (9, getpass.getuser()),
        (3_000_000, getpass.getuser()),
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["budget", "set", "TASK", "2 USD", "--until", "2100-12-01"], "moved for good"),
        (["budget", "set", "TASK", "--clear"], "moved for good"),
        (["budget", "set", "TASK"], "one cap on money"),
        (["budget", "set", "TASK", "1 USD", "2 USD"], "one cap on money"),
        (["budget", "set", "TASK", "--tokens", "5"], "without a cap on tokens"),
        (["budget", "set", "TASK", "2 EUR"], "EUR"),
        (["budget", "set", "TASK", "2 USD/month"], "not an amount"),
        (["budget", "set", "task_none", "2 USD"], "there is no task"),
        (["budget", "set", "growth", "2 USD/month", "--calls", "5"], "of a task's own caps"),
        (["task", "submit", "spend", "steps=3", "--money", "much"], "not an amount"),
        (["task", "submit", "spend", "steps=3", "--calls", "-1"], "-1"),
    ],
)
def test_what_cannot_be_meant_is_refused(shell: Shell, words: list[str], says: str) -> None:
    task = shell("task", "submit", "spend", "steps=3", "--money", "1 USD", "--json").json["id"]
    said = shell(*[task if word == "TASK" else word for word in words])
    assert said.status in (1, 2)
    assert says in said.err


def test_an_agents_run_may_not_raise_its_own_cap(shell: Shell) -> None:
    task = shell("task", "submit", "spend", "steps=3", "--money", "1 USD", "--json").json["id"]
    inside = Shell(shell.folder, {"LONGWATCH_RUN": "run_1"})
    assert inside("budget", "set", task, "9 USD").status == 1
