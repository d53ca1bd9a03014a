"""The commands that begin: init, demo, work, doctor."""

import json
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from longwatch import config as configuration
from longwatch.demo import Options
from longwatch.demo import run as run_demo
from longwatch.errors import ConfigError, LongwatchError
from longwatch.policy.rate import parse_money_cap
from longwatch.runtime import doctor as examination
from longwatch.runtime.doctor import Finding
from longwatch.surface.cli_base import Command, pass_session
from longwatch.surface.engines import is_remote, shown
from longwatch.surface.output import table
from longwatch.surface.session import Session
from longwatch.surface.wire import OK, REFUSED

TOML = """\
#:schema .longwatch/longwatch.schema.json
# One fleet: limits, budgets and agents. `longwatch config check` reads this file, `longwatch config show` explains it.

[fleet]
# name = "shop"                          # left out: the name of this folder
# root = "."                             # every path, edit and lease is relative to this
# state = ".longwatch/longwatch.db"
currency = "{currency}"
timezone = "UTC"                         # in which days, weeks and months begin: "Europe/London"
money = "{money}"                  # cap of the whole fleet: nothing is spent beyond it

# [service.stripe]                       # an API that is called from here; named ones only, once any is named
# key = {{ env = "STRIPE_API_KEY" }}       # where its key is, never the key itself
# rate = "25/s"                          # over all processes together
# burst = 5
# concurrency = 20
# quota = "5000/month"
# price = "0.20 {currency}"                     # of a call that does not say what it costs

# [budget.growth]                        # who pays: agents and calls name it
# money = "10 {currency}/month"
# calls = "1000/day"
# warn = [0.5, 0.8, 1.0]

# [agent.seo]                            # a named doer
# budget = "growth"
# money = "5 {currency}/day"
"""


@click.command(cls=Command, section="start")
@click.option("--money", default="20 USD/month", show_default=True, metavar="CAP", help="Cap of the whole fleet.")
@pass_session
def init(session: Session, money: str) -> None:
    """Make a commented longwatch.toml here, and a place for the state."""
    currency = _currency(money)
    text = TOML.format(currency=currency, money=money)
    here = Path.cwd()
    made: list[str] = []
    kept: list[str] = []
    try:
        (here / ".longwatch").mkdir(mode=0o700, exist_ok=True)
        schema = json.dumps(configuration.schema(), indent=2) + "\n"
        for name, content in (
            ("longwatch.toml", text),
            (".longwatch/.gitignore", "*\n"),
            (".longwatch/longwatch.schema.json", schema),
        ):
            (made if _create(here / name, content) else kept).append(name)
    except OSError as error:
        raise LongwatchError(
            f"{error.filename or here} cannot be written: {error.strerror}", hint="Check the folder, its disk and mode."
        ) from error
    words = [f"made {name}" for name in made] + [f"kept {name}, which was there" for name in kept]
    session.out.answer({"made": made, "kept": kept}, "\n".join(words))
    session.out.note("Next: longwatch demo shows what it does; longwatch doctor checks this place.")


def _currency(money: str) -> str:
    words = money.split("/")[0].removesuffix(" total").split()
    currency = words[-1] if len(words) > 1 else "USD"
    try:
        parse_money_cap(money, currency=currency, exchange={})
    except ConfigError as error:
        raise ConfigError(f"--money: {error.message}", hint=error.hint) from error
    return currency


def _create(path: Path, content: str) -> bool:
    """Write the file unless there is one; whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


# -- doctor --------------------------------------------------------------------------------------------------------------


@click.command(cls=Command, section="start")
@click.pass_context
@pass_session
def doctor(session: Session, context: click.Context) -> None:
    """Find what is wrong with this fleet, and say what to do."""
    findings = _findings(session)
    wrong = [finding for finding in findings if finding.level == "wrong"]
    data = {
        "ok": not wrong,
        "checks": [
            {"check": f.check, "level": f.level, "message": f.message, "hint": f.hint or None} for f in findings
        ],
    }
    rows = [(finding.level, finding.check, _said(finding)) for finding in findings]
    verdict = f"\n{len(wrong)} to put right" if wrong else "\nnothing is wrong"
    styled = Text(verdict, style="bold red" if wrong else "green")
    session.out.answer(data, table(("", "check", "finding"), rows, empty=""), styled)
    context.exit(REFUSED if wrong else OK)


def _said(finding: Finding) -> str:
    return f"{finding.message}\n{finding.hint}" if finding.hint else finding.message


def _findings(session: Session) -> list[Finding]:
    try:
        settings = session.settings
    except ConfigError as error:
        return [Finding("config", "wrong", error.message, error.hint)]
    state = shown(settings.state) if is_remote(settings.state) else Path(settings.state)
    try:
        return examination.examine(session.parts, state, settings.limits)
    except ConfigError:
        raise  # there is no fleet here: nothing to examine
    except LongwatchError as error:
        here = examination.examine_place(state) if isinstance(state, Path) else ()
        return [Finding("state", "wrong", error.message, error.hint), *here]


# -- demo ----------------------------------------------------------------------------------------------------------------


@click.command(cls=Command, section="start")
@click.option("--only", is_flag=True, help="Without the home-made program beside it.")
@click.option("--seed", type=int, default=Options.seed, metavar="N", help="Of the faults.", show_default=True)
@click.option(
    "--processes", type=int, default=Options.processes, metavar="N", help="Worker processes.", show_default=True
)
@click.option("--agents", type=int, default=Options.agents, metavar="N", help="Agents, 1 to 4.", show_default=True)
@click.option("--tasks", type=int, default=Options.tasks, metavar="N", help="Tasks, 1 to 300.", show_default=True)
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH", help="Where the picture goes too."
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), metavar="PATH", help="Instead of ./demo-out."
)
@click.option(
    "--state",
    default=Options.state,
    metavar="ENGINE",
    show_default=True,
    help="sqlite, postgresql (a private server) or postgresql://...",
)
@click.option(
    "--admission",
    default=Options.admission,
    metavar="ENGINE",
    show_default=True,
    help="state (its own engine), redis (a private server) or redis://...",
)
@click.option("--hold", is_flag=True, help="Keep the stand-in services up until Enter is pressed.")
@click.option("--live", is_flag=True, help="Summaries by the real Claude, with the key in ANTHROPIC_API_KEY.")
@click.option("--money", metavar="AMOUNT", help='With --live, the most it may cost: "0.50 USD".')
@click.pass_context
@pass_session
def demo(session: Session, context: click.Context, /, **options: Any) -> None:
    """See it work, while everything that can go wrong does."""
    context.exit(run_demo(Options(json=session.out.json, **options)))
