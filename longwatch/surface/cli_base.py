"""What every command is made of: its common options, its place in the help, and how it ends.

--config, --state and --json stand before or after the command. A command answers once, through `session.out`; whatever
goes wrong becomes one message and one exit status here, and no traceback reaches anybody.
"""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from longwatch.errors import LongwatchError, nearest
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.surface.engines import is_remote
from longwatch.surface.opened import secrets_of
from longwatch.surface.output import Output, ReaderGone, console_on
from longwatch.surface.session import Session
from longwatch.surface.wire import INTERRUPTED, OK, REFUSED, USAGE, encode, error_json, statuses

F = TypeVar("F", bound=Callable[..., Any])
pass_session = click.make_pass_decorator(Session, ensure=True)

# The sections of `--help all`, in this order; the first two alone are what `--help` shows.
SECTIONS = {
    "start": "begin, and work",
    "look": "what is going on",
    "things": "tasks and what they use",
    "set up": "configuration and backups",
    "plumbing": "stand-ins and proofs",
}
DAILY = ("start", "look")


class Interrupted(Exception):
    """Ctrl-C ended the command."""


class BadUse(click.UsageError):
    """Wrong use, with what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    if parameter.name == "common_json":
        session.out.json = session.out.json or bool(value)
    elif value is not None:
        setattr(session, str(parameter.name).removeprefix("common_"), value)


def common() -> list[click.Parameter]:
    """The options that every command takes, before and after its name."""
    kept: dict[str, Any] = {"expose_value": False, "callback": _remember, "is_eager": True}
    return [
        click.Option(["--config", "common_config"], metavar="PATH", help="The longwatch.toml to use.", **kept),
        click.Option(
            ["--state", "common_state"], metavar="PATH", help="The state to use, whatever the config says.", **kept
        ),
        click.Option(["--json", "common_json"], is_flag=True, help="Answer with one JSON object.", **kept),
    ]


def common_beside(own: Sequence[click.Parameter]) -> list[click.Parameter]:
    """Without those that the command has a meaning of its own for (`task list --state done`)."""
    taken = {name for parameter in own for name in parameter.opts}
    return [option for option in common() if not taken.intersection(option.opts)]


class Command(click.Command):
    """A command with the common options. section: where the help lists it."""

    def __init__(self, *args: Any, section: str = "things", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.params = [*self.params, *common_beside(self.params)]


class Group(click.Group):
    """A noun; its verbs are `Command`s."""

    command_class = Command

    def __init__(self, *args: Any, section: str = "things", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"no_args_is_help": False})
        self.section = section
        self.params = [*self.params, *common_beside(self.params)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            raise BadUse(
                f"{ctx.command_path} has no command {args[0]!r}{nearest(args[0], known)}",
                hint=f"There are: {', '.join(known)}.",
            )
        return super().resolve_command(ctx, args)


class Root(Group):
    """`longwatch` itself: --help shows the daily commands, --help all everything, --help COMMAND one of them."""

    group_class = Group

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error  # the library would write an empty line

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return click.Option(
            ["--help", "-h"],
            is_flag=False,
            flag_value="daily",
            expose_value=False,
            is_eager=True,
            metavar="[all|COMMAND]",
            help="This page; with `all`, every command.",
            callback=self._help,
        )

    def _help(self, ctx: click.Context, _parameter: click.Parameter, wanted: str | None) -> None:
        if wanted is None or ctx.resilient_parsing:
            return
        command = self.get_command(ctx, wanted)
        if command is not None:
            text = command.get_help(click.Context(command, info_name=wanted, parent=ctx))
        elif wanted in ("daily", "all"):
            ctx.meta["longwatch.sections"] = DAILY if wanted == "daily" else tuple(SECTIONS)
            text = self.get_help(ctx)
        else:
            raise BadUse(f"there is no command {wanted!r}{nearest(wanted, [*self.commands, 'all'])}")
        ctx.ensure_object(Session).out.answer({"help": text}, text)
        ctx.exit()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = ctx.meta.get("longwatch.sections", DAILY)
        for section in shown:
            rows = [
                (" ".join(words), command.get_short_help_str(limit=90))
                for words, command in leaves(self)
                if words[0] in self.commands and section_of(self.commands[words[0]]) == section
            ]
            if rows:
                with formatter.section(f"{section} ({SECTIONS[section]})"):
                    formatter.write_dl(rows)
        if shown == DAILY:
            formatter.write_paragraph()
            formatter.write_text("longwatch --help all shows every command.")


def section_of(command: click.Command) -> str:
    return command.section if isinstance(command, Command | Group) else "things"


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command of the tree that does something, with the words that name it, in the order declared."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                found.append(((*words, name), command))
            found += leaves(command, (*words, name))
        else:
            found.append(((*words, name), command))
    return found


# -- how a command ends --------------------------------------------------------------------------------------------------


def run(root: click.Group, arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; its exit status."""
    session = Session(Output(json=_wants_json(arguments)))
    try:
        status = root.main(list(arguments), prog_name="longwatch", standalone_mode=False, obj=session)
        session.close()
        sys.stdout.flush()
        return status if isinstance(status, int) else OK
    except (ReaderGone, BrokenPipeError):
        _end_like_a_filter()
    except (Interrupted, KeyboardInterrupt, click.Abort):
        return _interrupted(session.out)
    except click.ClickException as error:
        return _misused(session.out, error)
    except LongwatchError as error:
        return _refused(session.out, error)
    except BaseException as error:  # noqa: BLE001 - our own bugs: one line for people, the rest in a file
        return _broken(session, error)
    finally:
        _close_quietly(session)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Before the arguments are understood: wrong ones shall be answered in JSON too."""
    head = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in head


def _close_quietly(session: Session) -> None:
    """What the command had to say about the state has been said."""
    with contextlib.suppress(LongwatchError):
        session.close()


def _end_like_a_filter() -> NoReturn:
    """Whoever read our output left: end by SIGPIPE, as other commands in a pipe do."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)


def _interrupted(out: Output) -> int:
    if out.json and not out.streamed:
        _answer(out, {"error": _error("interrupted", "interrupted", "What was committed stands; run it again.")})
    elif sys.stderr.isatty():
        sys.stderr.write("\n")  # behind the ^C of the terminal
    return INTERRUPTED


def _misused(out: Output, error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = error.hint if isinstance(error, BadUse) else ""
    hint = hint or f"{context.command_path if context else 'longwatch'} --help tells how to use it."
    _answer(out, {"error": _error("usage", error.format_message(), hint)})
    return USAGE


def _refused(out: Output, error: LongwatchError) -> int:
    _answer(out, error_json(error))
    return statuses(error).exit


def _broken(session: Session, error: BaseException) -> int:
    if os.environ.get("LONGWATCH_DEBUG"):
        traceback.print_exception(error)
    what = f"this is a bug of Longwatch: {type(error).__name__}: {error}".splitlines()[0]
    place = _report(session, error)
    hint = f"The report is in {place}." if place else "No report could be written; LONGWATCH_DEBUG=1 shows all of it."
    _answer(session.out, {"error": _error("internal", what, f"{hint} Nothing half done was committed.")})
    return REFUSED


def _report(session: Session, error: BaseException) -> Path | None:
    """Write what happened where a person finds it, without secrets; None when nothing can be written."""
    machine = Machine()
    text = "".join(traceback.format_exception(error)) + f"\ncommand: {sys.argv[1:]}\npython: {sys.version}\n"
    clean = Redactor(machine.new_id("key").encode(), secrets_of(os.environ)).clean(text)
    for folder in _report_folders(session):
        place = folder / f"{machine.new_id('report')}.txt"
        try:
            place.touch(mode=0o600)
            place.write_text(clean, "utf-8")
        except OSError:
            continue
        return place
    return None


def _report_folders(session: Session) -> list[Path]:
    """Beside the state when there is one, else where the system keeps what is temporary."""
    with contextlib.suppress(LongwatchError, OSError):
        if not is_remote(session.settings.state):
            return [Path(session.settings.state).parent, Path(tempfile.gettempdir())]
    return [Path(tempfile.gettempdir())]


def _error(code: str, message: str, hint: str) -> dict[str, object]:
    return {"code": code, "message": message, "hint": hint, "retry_after_ms": None}


def _answer(out: Output, answer: dict[str, Any]) -> None:
    """An error, as JSON on standard output or in words on standard error."""
    try:
        if out.json:
            sys.stdout.write(encode(answer) + "\n")
            sys.stdout.flush()
            return
        message, hint = str(answer["error"]["message"]), str(answer["error"]["hint"])
        console = console_on(sys.stderr)
        console.print(f"longwatch: {message}", style="bold red" if sys.stderr.isatty() else None, soft_wrap=True)
        if hint:
            console.print("\n".join(f"  {line}" for line in hint.splitlines()), soft_wrap=True)
    except BrokenPipeError:
        _end_like_a_filter()
