"""No SQL that does not run, none that nobody uses, and no state in it that the table of moves does not know."""

# pyright: reportUnknownMemberType=false
import re
from pathlib import Path

import apsw.ext
from engines import in_memory

import longwatch
from longwatch.db import statements
from longwatch.db.sqlite import SqliteDatabase
from longwatch.policy import call, memory, task
from longwatch.store.memory_schema import prepare_memory
from longwatch.testing.play import HandClock

PACKAGE = Path(longwatch.__file__).parent
STATEMENTS = statements.load("sqlite")
OF_THE_STATE = tuple(
    f"memory.{name}"
    for name in (
        "journal",
        "journal_end",
        "epoch",
        "redact_journal",
        "redact_task",
        "redact_steps",
        "redact_runs",
        "redact_told",
    )
)  # what memory asks the state
STATES: dict[str, set[str]] = {
    "task": set(task.STATES),
    "call": set(call.STATES),
    "step": {"started", "stored"},
    "record": set(memory.STATES),
    "version": {"kept", "dropped", "redacted"},
}
STATES["record"] = set(memory.STATES)


def code() -> str:
    return "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))


def test_every_statement_prepares_on_the_migrated_state_and_names_its_columns() -> None:
    database, own_tables = in_memory(HandClock()), SqliteDatabase(":memory:", HandClock())
    prepare_memory(own_tables)
    for name, text in STATEMENTS.items():
        own = name.startswith(("memory.", "memory_files.", "memory_batches.", "left.")) and name not in OF_THE_STATE
        info = apsw.ext.query_info((own_tables if own else database).connection, text)
        assert all(column[0].isidentifier() for column in info.description), (name, info.description)
    database.close()
    own_tables.close()


def test_every_statement_is_used() -> None:
    text = code()
    assert [name for name in sorted(STATEMENTS) if f'"{name}"' not in text] == []


def test_every_statement_used_exists() -> None:
    used = set(re.findall(r'\.(?:one|all|count)\(\s*"([a-z_.]+)"', code()))
    assert len(used) > 50
    assert sorted(name for name in used - STATEMENTS.keys() if name.strip(".")) == []


def test_migrations_and_statements_name_only_states_of_the_tables() -> None:
    every = {state for states in STATES.values() for state in states}
    for text in [*STATEMENTS.values(), *(migration[2] for migration in statements.migrations())]:
        for listed in re.findall(r"state (?:=|<>|in|not in) (\([^)]*'[^)]*\)|'[a-z]+')", text):
            assert set(re.findall(r"'([a-z]+)'", listed)) <= every, listed


def test_the_leased_states_of_the_indexes_are_those_of_the_table() -> None:
    leased = "', '".join(sorted(task.LEASED))
    text = statements.migrations()[0][2]
    assert text.count(f"where state in ('{leased}')") == 1
