"""What the command line says of itself, and that every command keeps the rules that programs rely on."""

import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from shell import Shell, shop

import longwatch
from longwatch import errors
from longwatch.surface import cli_base, wire
from longwatch.surface.cli import root
from longwatch.surface.cli_base import leaves, run, section_of

COMMANDS = {" ".join(words): command for words, command in leaves(root)}

# Of every command: words that succeed in a fleet with one task, one batch, one lease; and words that fail.
WORDS: dict[str, tuple[list[str] | None, list[str]]] = {
    "init": ([], ["--money", "plenty"]),
    "demo": (None, ["--money", "1 USD"]),
    "work": (["shop", "--until-idle"], ["nowhere"]),
    "doctor": ([], ["--frobnicate"]),
    "status": ([], ["now"]),
    "journal": (["--limit", "3"], ["--since", "yesterday"]),
    "money": ([], ["--since", "3"]),
    "money reconcile": (["--list"], ["call_none", "1 USD"]),
    "show": (["TASK"], ["task_none"]),
    "archive now": ([], ["--older", "yesterday"]),
    "archive list": ([], ["now"]),
    "archive find": (["ada"], ["--kind", "letter"]),
    "archive show": (None, ["task_none"]),
    "archive verify": ([], ["all"]),
    "archive restore": (None, ["task_none", "--yes"]),
    "archive drop": (["--older", "26w", "--yes"], ["nothing", "--yes"]),
    "archive pin": (None, ["nothing"]),
    "archive export": (None, ["parquet"]),
    "task submit": (["greet", "name=ada"], ["gret", "name=ada"]),
    "task list": (["--state", "done"], ["--state", "finished"]),
    "task show": (["TASK"], ["task_none"]),
    "task retry": (["TASK"], ["task_none"]),
    "task cancel": (["TASK"], ["task_none"]),
    "task resolve": (["UNKNOWN", "done"], ["TASK", "done"]),
    "batch plan": (["--kind", "greet", "--count", "2"], ["none.jsonl"]),
    "batch submit": (["december-24", "tasks.jsonl"], ["december-24", "none.jsonl"]),
    "batch list": ([], ["--limit", "0"]),
    "batch show": (["november"], ["december"]),
    "batch cancel": (["november"], ["december"]),
    "lease list": ([], ["now"]),
    "lease release": (["LEASE"], ["lease_none"]),
    "limit list": ([], ["now"]),
    "budget list": ([], ["now"]),
    "budget set": (None, ["grwoth", "1 USD/month"]),  # that fleet has no budget; tests/surface/test_cli_budget.py
    "service list": ([], ["now"]),
    "service pause": (["stripe"], ["strype"]),
    "service resume": (["stripe"], ["strype"]),
    "memory charter": (["seo"], ["seo", "text", "--file", "none.md"]),
    "memory record": (["fact", "the bank closes at five"], ["fcat", "the bank closes at five"]),
    "memory close": (["RECORD", "sent"], ["rec_none"]),
    "memory pin": (["RECORD"], ["rec_none"]),
    "memory brief": (["main"], ["main", "--tokens", "none"]),
    "memory compact": (["--everything"], ["now"]),
    "memory snapshots": (["--level", "1"], ["--level", "none"]),
    "memory verify": ([], ["now"]),
    "memory recall": (["report"], ["report", "--kind", "fcat"]),
    "memory import": (["tasks.jsonl"], ["none.jsonl"]),
    "memory export": (["memory.jsonl"], ["shop.py"]),
    "memory redact": (["RECORD", "--dry-run"], ["RECORD"]),
    "memory list": (["--kind", "fact"], ["--kind", "facts"]),
    "memory show": (["RECORD"], ["r99"]),
    "memory files": ([], ["/etc"]),
    "memory file show": (["/memories/notes.md"], ["/memories/none.md"]),
    "memory file versions": (["/memories/notes.md"], ["/memories/none.md"]),
    "memory file restore": (["/memories/notes.md", "1"], ["/memories/notes.md", "99"]),
    "config show": ([], ["now"]),
    "config check": ([], ["now"]),
    "config schema": ([], ["now"]),
    "state backup": (["copy.db"], ["shop.py"]),
    "state restore": (["good.db", "--dry-run"], ["none.db"]),
    "state migrate": ([], ["now"]),
    "state copy": (["good.db", "moved.db"], ["none.db", "new.db"]),
    "completion": (["bash"], ["tcsh"]),
    "sandbox": (None, ["--settings", "{"]),
    "simulate": (None, ["--faults", "locusts"]),
}


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fleet that has something of everything, and the ids in it."""
    folder = tmp_path_factory.mktemp("fleet")
    shell = shop(folder)
    prepare = (
        "import shop, sys\n"
        "lw = shop.lw\n"
        "lw.submit_batch('november', [('greet', {'name': 'acme'})])\n"
        "task, unknown = lw.submit(shop.greet.bind('ada')), lw.submit(shop.mail.bind())\n"
        "lw.work(until_idle=True)\n"
        "lease = lw.lease('name:deploy', ttl='1h')\n"
        "lease.__enter__()\n"
        "held = lw.opened.parts.leases.live()[0].id\n"
        "record = lw.memory().record('commitment', 'report on Friday')\n"
        "lw.memory().files.answer({'command': 'create', 'path': '/memories/notes.md', 'file_text': 'Prices are net.'})\n"
        "print(task.id, unknown.id, held, record.id)\n"
        "sys.stdout.flush()\n"
        "__import__('os')._exit(0)\n"  # the lease stays, as one of a killed process does
    )
    task, unknown, held, record = shell.python("-c", prepare).out.split()
    assert shell("state", "backup", "good.db").status == 0
    shell.write("tasks.jsonl", '{"kind": "greet", "args": {"name": "ada"}}')
    return {"folder": str(folder), "TASK": task, "UNKNOWN": unknown, "LEASE": held, "RECORD": record}


@pytest.fixture
def fleet(ids: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """In that folder, with the environment as the test found it."""
    monkeypatch.chdir(ids["folder"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(os.environ)
    yield ids
    sys.modules.pop("shop", None)
    os.environ.clear()
    os.environ.update(before)


def answer(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, Any]:
    status = run(root, arguments)
    return status, json.loads(capsys.readouterr().out)


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    status = run(root, arguments)
    return status, capsys.readouterr().out


def test_every_command_has_its_words_in_this_test() -> None:
    assert set(COMMANDS) <= set(WORDS)


def test_help_shows_the_daily_commands_only(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, ["--help"])
    assert status == 0
    for words, _ in leaves(root):
        shown = section_of(root.commands[words[0]]) in cli_base.DAILY
        assert (f"\n  {' '.join(words)} " in text) == shown, words
    assert "--help all" in text


def test_help_all_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, ["--help", "all"])
    assert status == 0
    assert [words for words in COMMANDS if f"\n  {words} " not in text] == []


def test_no_arguments_are_a_question_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, [])[1] == said(capsys, ["--help"])[1]


def test_help_of_a_command_by_either_way_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, ["--help", "status"])[1].strip() == said(capsys, ["status", "--help"])[1].strip()


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_says_in_one_line_what_it_does(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    summary = COMMANDS[words].get_short_help_str(limit=72)
    assert summary, f"{words} has no summary"
    assert not summary.endswith("..."), f"{words}: too long for a line: {summary}"
    status, text = said(capsys, [*words.split(), "--help"])
    assert status == 0
    assert f"longwatch {words}" in text
    assert "--json" in text
    assert "--config" in text
    assert "--state" in text


@pytest.mark.parametrize("words", [words for words in COMMANDS if WORDS.get(words, (None,))[0] is not None])
def test_with_json_a_command_that_succeeds_prints_one_object(
    words: str, fleet: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [fleet.get(word, word) for word in WORDS[words][0] or []]
    status, found = answer(capsys, [*words.split(), *given, "--json"])
    assert status == 0, found
    assert isinstance(found, dict)
    assert "error" not in found or words in (
        "task show",
        "show",
        "task retry",
        "task cancel",
        "task submit",
        "task resolve",
    )


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("before", [True, False], ids=["--json first", "--json last"])
def test_with_json_a_command_that_fails_prints_one_error(
    words: str, before: bool, fleet: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*words.split(), *(fleet.get(word, word) for word in WORDS[words][1])]
    status, found = answer(capsys, ["--json", *given] if before else [*given, "--json"])
    assert status in (wire.REFUSED, wire.USAGE)
    assert set(found) == {"error"}
    assert set(found["error"]) == {"code", "message", "hint", "retry_after_ms"}
    assert found["error"]["message"]
    assert found["error"]["hint"], "an error says what to do"


def test_a_command_that_does_not_exist_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = answer(capsys, ["--json", "task", "sumbit"])
    assert status == wire.USAGE
    assert "did you mean submit?" in found["error"]["message"]


def test_the_state_of_the_command_line_is_used_before_and_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ids: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"{ids['folder']}/.longwatch/longwatch.db"
    assert answer(capsys, ["--state", place, "--json", "status"])[1]["fleet"] == "shop"
    assert answer(capsys, ["status", "--state", place, "--json"])[1]["fleet"] == "shop"
    assert answer(capsys, ["--json", "--config", f"{ids['folder']}/longwatch.toml", "status"])[1]["fleet"] == "shop"


def test_init_keeps_what_is_there(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("init", "--money", "5 GBP/day").status == 0
    assert shell("config", "check").status == 0
    assert (tmp_path / ".longwatch" / ".gitignore").read_text() == "*\n"
    assert json.loads((tmp_path / ".longwatch" / "longwatch.schema.json").read_text())["title"] == "longwatch.toml"
    mine = shell.write("longwatch.toml", '[fleet]\nname = "mine"\n')
    assert "kept longwatch.toml" in shell("init").out
    assert mine.read_text() == '[fleet]\nname = "mine"\n'


# -- the table of errors ---------------------------------------------------------------------------------------------------


def every_error(kind: type[errors.LongwatchError] = errors.LongwatchError) -> set[type[errors.LongwatchError]]:
    return {kind}.union(*(every_error(below) for below in kind.__subclasses__()))


def test_every_error_has_its_statuses() -> None:
    for module in pkgutil.walk_packages(longwatch.__path__, "longwatch."):
        if module.name.split(".")[1] not in ("testing", "demo") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    # An error without a code of its own (it only carries a detail upwards) has those of the class above it.
    own = {kind for kind in every_error() if kind.__module__.startswith("longwatch") and "code" in vars(kind)}
    assert own == set(wire.ERRORS)


def test_the_codes_of_errors_are_distinct() -> None:
    codes = [kind.code for kind in wire.ERRORS]
    assert len(set(codes)) == len(codes)


def test_statuses_are_those_of_the_contract() -> None:
    assert wire.statuses(errors.ConfigError("")).exit == wire.USAGE
    assert {status.exit for kind, status in wire.ERRORS.items() if kind is not errors.ConfigError} == {wire.REFUSED}
    assert wire.statuses(errors.UnknownPrice("")).http == 402
    assert wire.statuses(errors.NotFound("")).http == 404


def test_an_instant_is_rfc_3339_in_utc() -> None:
    assert wire.at(1_795_500_000_123) == "2026-11-24T06:00:00.123Z"
    assert wire.at(None) is None


def test_a_help_option_is_on_every_command() -> None:
    for words, command in leaves(root):
        context = click.Context(command, info_name=words[-1])
        assert command.get_help_option(context) is not None
