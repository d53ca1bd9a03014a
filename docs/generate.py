"""Writes the pages that are made from the code: `python -m docs.generate`. A test fails while one of them is stale.

Errors come from their docstrings and the table of statuses, the configuration from its table of keys, the command line
from the tree of commands, the journal from the code that writes it, the states from the tables of moves.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click

from docs.diagrams import mermaid, table
from docs.journal_kinds import MEANINGS, kinds
from longwatch.config.forms import render
from longwatch.config.keys import Field, Key, Table, Tables, fields_of, rivals_of
from longwatch.config.settings import FileSettings
from longwatch.errors import GiveUp, LongwatchError, RetryLater
from longwatch.policy import call, task
from longwatch.surface import cli
from longwatch.surface.cli_base import SECTIONS, Root, leaves, section_of
from longwatch.surface.wire import ERRORS

DOCS = Path(__file__).parent
MADE = "<!-- made by `python -m docs.generate`: change the code, not this page -->\n"


def write() -> list[str]:
    """Write what has changed; the names of those pages, relative to docs."""
    changed = stale()
    for name in changed:
        (DOCS / name).write_text(PAGES[name](), "utf-8")
    return changed


def stale() -> list[str]:
    """The pages that are not what the code says."""
    return [name for name, make in PAGES.items() if not _is(DOCS / name, make())]


def _is(page: Path, text: str) -> bool:
    return page.exists() and page.read_text("utf-8") == text


# -- errors --------------------------------------------------------------------------------------------------------------

ERRORS_HEAD = """
# Errors

Every error is a `longwatch.LongwatchError` with a stable `.code`, a `.hint` that says what to do next, `.retry_after`
in seconds or None, and `.to_dict()`. Facts are fields, never only words. A subclass is caught by the names of its parents
too. On the command line an error is one message on standard error, or `{"error": {...}}` on standard output with `--json`,
and an exit status. `ServicePaused` and `ResourceDirty` belong to parts that this version does not have: nothing raises them
yet.

| error | code | exit | HTTP |
|---|---|---|---|
"""
HANDLERS_HEAD = """
# What a handler raises

These are no errors of Longwatch: a handler raises them to say what shall follow.

"""


def errors_page() -> str:
    rows = (
        f"| [{kind.__name__}](#{kind.__name__.lower()}) | `{kind.code}` | {status.exit} | {status.http} |\n"
        for kind, status in ERRORS.items()
    )
    told = (f"## {kind.__name__}\n\n{inspect.getdoc(kind)}\n" for kind in (GiveUp, RetryLater))
    errors = "\n".join(_error(kind) for kind in ERRORS)
    return MADE + ERRORS_HEAD + "".join(rows) + "\n" + errors + HANDLERS_HEAD + "\n".join(told)


def _error(kind: type[LongwatchError]) -> str:
    parents = [f"`{above.__name__}`" for above in kind.__bases__ if above is not Exception]
    is_a = f"Is a {' and a '.join(parents)}.\n\n" if parents else ""
    return f"## {kind.__name__}\n\n{is_a}{inspect.getdoc(kind)}\n"


# -- configuration -------------------------------------------------------------------------------------------------------

CONFIGURATION_HEAD = """
# Configuration

`longwatch.toml`, the nearest one upwards from the current folder; or a dict of the same form for
`longwatch.open(config=...)`. Durations are written `"90s"` `"10m"` `"2h"` `"1d"` `"1w"`, money `"0.20 GBP"`, rates `"25/s"`,
caps `"50 GBP/month"` or `"5 GBP total"`, sizes `"1500 MiB"`. An unknown key, section, currency or window is refused with file,
line and the nearest name. As soon as a service is named, an unknown service is refused; likewise for budgets.

An argument goes before the environment (`LONGWATCH_CONFIG`, `LONGWATCH_STATE`, `LONGWATCH_AGENT`, `LONGWATCH_BUDGET`), that
before the file, that before the default. Limits and caps are kept with the state, and a changed file waits until a program
opens the fleet alone. `longwatch config show` tells where each value that counts is from: a line of the file, an argument,
the environment, the default, or the state. `longwatch config check` says what is wrong, `longwatch config schema` prints
the JSON schema for editors.

A secret is named, never written: `{ env = "NAME" }`, `{ file = "PATH" }` (mode 0600) or `{ command = [...] }`.

This version acts on `[fleet]` (but for `admission` and addresses in `state`), on the limits of `[service]`, on the caps and
warnings of `[budget]` and `[agent]`, on `[memory]`, on `[archive]`, and on an agent's `budget` and `charter`. The rest is
checked and kept for parts that come later.

"""


def configuration_page() -> str:
    return (MADE + CONFIGURATION_HEAD + "".join(_section(FileSettings, ()))).rstrip("\n") + "\n"


def _section(settings: type, path: tuple[str, ...]) -> Iterator[str]:
    """The section's own keys as a table, then the sections below it."""
    fields = list(fields_of(settings).values())
    keys = [each.entry for each in fields if isinstance(each.entry, Key)]
    if keys:
        yield "| key | default | meaning |\n|---|---|---|\n"
        yield from (_key(key) for key in keys)
        yield "\n"
    for one, other in rivals_of(settings):
        yield f"A section has `{one}` or `{other}`, not both.\n\n"
    for each in fields:
        if isinstance(each.entry, Table | Tables):
            yield from _below(each, path)


def _below(each: Field, path: tuple[str, ...]) -> Iterator[str]:
    entry = each.entry
    place = (*path, entry.name, *(("NAME",) if isinstance(entry, Tables) else ()))
    if all(isinstance(below.entry, Table | Tables) for below in fields_of(each.kind).values()):
        yield from _section(each.kind, place)
        return
    yield f"## [{'.'.join(place)}]\n\n{_sentence(entry.doc)}\n\n"
    if place[0] == "defaults":
        yield "The same keys as [agent.NAME].\n\n"
        return
    yield from _section(each.kind, place)


def _key(key: Key) -> str:
    default = render(key.default)
    return f"| `{key.name}` | {f'`{default}`' if default else ''} | {_cell(key.doc)} |\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _cell(text: str) -> str:
    """On one line of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# -- command line ----------------------------------------------------------------------------------------------------------

COMMAND_LINE_HEAD = """
# Command line

`--config PATH`, `--state PATH` and `--json` may stand before and after a command. With `--json` standard output holds exactly
one JSON object, on failure too; what follows (`-f`) is one object per line. Instants are `*_at` (RFC 3339, UTC), lengths
`*_ms`, amounts `*_micros` with `currency`. Words for people go to standard error, and colour only to a terminal.

Exit status: 0 ok, 1 refused or failed, 2 wrong use or configuration, 3 a promise was broken, 130 interrupted. An unexpected
error is one line and a report file; `LONGWATCH_DEBUG=1` shows its traceback.

"""


def root() -> click.Group:
    """`longwatch` itself."""
    return next(each for each in vars(cli).values() if isinstance(each, Root))


def command_line_page() -> str:
    return (MADE + COMMAND_LINE_HEAD + "".join(_commands())).rstrip("\n") + "\n"


def _commands() -> Iterator[str]:
    tree = root()
    for section, what in SECTIONS.items():
        found = [(words, each) for words, each in leaves(tree) if section_of(tree.commands[words[0]]) == section]
        if found:
            yield f"## {section}: {what}\n\n"
            yield from (_command(words, each) for words, each in found)


def _command(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("longwatch", *words)))
    rows = "".join(_option(each, context) for each in command.params)
    options = f"| option | meaning |\n|---|---|\n{rows}\n" if rows else ""
    usage = [context.info_name or "", *(each.make_metavar(context) for each in _arguments(command))]
    return f"### {usage[0]}\n\n`{' '.join(usage)}`\n\n{inspect.cleandoc(command.help or '')}\n\n{options}"


def _arguments(command: click.Command) -> list[click.Parameter]:
    return [each for each in command.params if isinstance(each, click.Argument)]


def _option(parameter: click.Parameter, context: click.Context) -> str:
    """A row, or nothing for an argument and for what every command takes."""
    is_common = not parameter.expose_value
    if not isinstance(parameter, click.Option) or is_common:
        return ""
    record = parameter.get_help_record(context)
    return "" if record is None else f"| `{_cell(record[0])}` | {_cell(record[1])} |\n"


# -- journal and states ----------------------------------------------------------------------------------------------------

JOURNAL_HEAD = """
# Journal

Every move is written in the transaction that makes it, and redacted before it is written. A record has `seq`, `at` (by the
calendar), `kind`, `subject` (the id it is of), `agent` and `task` where there is one, and `data`. A task or call that moves
has `move`: the name of the move in the [table of states](../internals/states.md).

`longwatch journal` shows it, `longwatch journal -f` follows it, `longwatch show ID` tells the story of one thing.

| kind | what happened | data |
|---|---|---|
"""


def journal_page() -> str:
    found = kinds()
    if nameless := sorted(set(found) - set(MEANINGS)):
        raise SystemExit(f"say in docs/journal_kinds.py what these records mean: {', '.join(nameless)}")
    rows = (
        f"| `{name}` | {MEANINGS[name]} | {', '.join(f'`{fact}`' for fact in sorted(kind.facts))} |\n"
        for name, kind in found.items()
    )
    return MADE + JOURNAL_HEAD + "".join(rows)


TASK_END = """
`unknown` is an outcome, and the one that a person has to replace (`resolve_*`). `failed` and `cancelled` are left only by a
person's `retry`, or when what had taken the task down is retried (`revive`).
"""
LEASE_AND_EDIT = """
## Lease and edit

They have no states to list. A lease is a row that is there or not: taken and renewed, then released, run out
(`lease.expired`), taken over once it had run out (`lease.overtaken`), or ended because its owner is confirmed dead. A commit
of files is a row that is applied or not: whoever finds one that is not puts it in place
([decision 10](decisions/0010-order-of-an-edits-commit.md)).
"""


def states_page() -> str:
    return (
        f"{MADE}\n# States\n\nDrawn from the tables of moves, which the guards and the tests are made from too.\n\n"
        f"## Task\n\n{_theory(task)}\n\n"
        f"{mermaid(task.MOVES, begins=('waiting', 'scheduled', 'ready'), ends=('done',))}\n{table(task.MOVES)}"
        f"{TASK_END}\n## Call\n\n{_theory(call)}\n\n"
        f"{mermaid(call.MOVES, begins=('open',), ends=('settled', 'released', 'unknown'))}\n{table(call.MOVES)}"
        f"{LEASE_AND_EDIT}"
    )


def _theory(module: ModuleType) -> str:
    """The module's docstring without its first paragraph."""
    return (inspect.getdoc(module) or "").partition("\n\n")[2]


PAGES: dict[str, Callable[[], str]] = {
    "reference/errors.md": errors_page,
    "reference/configuration.md": configuration_page,
    "reference/command-line.md": command_line_page,
    "reference/journal.md": journal_page,
    "internals/states.md": states_page,
}

if __name__ == "__main__":
    sys.stdout.write("".join(f"docs/{name}\n" for name in write()))
