"""The whole demo: the folder, the columns one after the other, the verdict, the report and the picture."""

import contextlib
import functools
import json
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from types import FrameType

from longwatch.demo import material, picture, stage
from longwatch.demo.audit import Outcome, judge
from longwatch.demo.checks import commands, shown
from longwatch.demo.column import Column, inherited
from longwatch.demo.columns import HomeMade, Longwatch
from longwatch.demo.engines import Engines, engines
from longwatch.demo.options import AGENTS, Options, opened
from longwatch.demo.report import as_data, as_words
from longwatch.demo.screen import Screen, screen
from longwatch.demo.services import LIVE
from longwatch.policy.money import Money
from longwatch.sandbox import Sandbox, started
from longwatch.surface.output import console_on

OK, BROKEN, INTERRUPTED = 0, 3, 130
HOME_MADE_SHARE = 0.3  # of the tasks: enough to see what becomes of them

Before = Callable[[Column], None]
"""For tests: called with a column when its work is over, before it is judged."""


def conduct(options: Options, *, before: Before | None = None) -> int:
    """Exit status: 0 all promises kept, 3 one was broken, 130 interrupted. Errors: ConfigError."""
    options.check()
    began = time.monotonic()
    with opened(options.folder) as folder, _terminated_as_interrupted():
        view = screen(sys.stderr)
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(view.close)
                fleet = stack.enter_context(engines(options, folder))
                columns = _columns(options, folder, fleet, stack)
                for column in columns:
                    _play(column, options, view, before)
                view.close()
                outcomes: dict[str, Outcome] = {column.name: judge(column, live=options.live) for column in columns}
                checks: dict[str, dict[str, str]] = {
                    c.name: commands(c, outcomes[c.name], url=_url(c, options)) for c in columns
                }
                _draw(columns, outcomes, folder, options)
                _report(outcomes, checks, options, seconds=time.monotonic() - began)
                _say_where(folder, fleet, options)
                _wait_for_enter(options)
        except KeyboardInterrupt:
            sys.stderr.write(f"\nInterrupted. Nothing is left running; what there is lies in {shown(folder)}.\n")
            return INTERRUPTED
    return BROKEN if outcomes["longwatch"].broken else OK


def _columns(options: Options, folder: Path, fleet: Engines, stack: contextlib.ExitStack) -> list[Column]:
    modules = material.choose(options.tasks)
    columns: list[Column] = []
    if options.home_made:
        some = material.spread(modules, max(1, round(len(modules) * HOME_MADE_SHARE)))
        columns.append(_column(HomeMade, folder / "home-made", some, options, stack))
    ours = functools.partial(Longwatch, engines=fleet)
    columns.append(_column(ours, folder / "longwatch", modules, options, stack))
    return columns


def _column(
    kind: Callable[..., Column],
    place: Path,
    modules: list[str],
    options: Options,
    stack: contextlib.ExitStack,
) -> Column:
    """Its folder, its stand-ins and the agents' shares of the modules."""
    place.mkdir()
    agents = AGENTS[: options.agents]
    live_micros = None if options.money is None else Money.parse(options.money).micros
    column = kind(
        folder=place,
        modules={agent: modules[start :: len(agents)] for start, agent in enumerate(agents)},
        processes=options.processes,
        caps=stage.purses(len(modules), live_micros),
        sandbox=_sandbox(stack, place),
        seed=options.seed,
    )
    stack.callback(column.close)
    column.prepare(live=options.live)
    return column


def _sandbox(stack: contextlib.ExitStack, place: Path) -> Sandbox:
    return stack.enter_context(started(stage.sandbox_settings(), log=place / "services.log"))


def _play(column: Column, options: Options, view: Screen, before: Before | None) -> None:
    where = shown(column.folder)
    view.say(
        f"\n{column.title}: {len(column.every)} modules of the standard library, {options.processes} workers, {where}"
    )
    column.run(_environ(column.sandbox, options), view.update)
    if before is not None:
        before(column)
    column.conclude()


def _environ(sandbox: Sandbox, options: Options) -> Mapping[str, str]:
    """The stand-ins for all services; with `live` Claude is where this process's environment says."""
    mine = inherited()
    if not options.live:
        return {**mine, **sandbox.env()}
    claude = {name: value for name, value in mine.items() if name.startswith("ANTHROPIC_")}
    stand_ins = {name: value for name, value in sandbox.env().items() if not name.startswith("ANTHROPIC_")}
    return {**mine, **stand_ins, **claude, LIVE: "1"}


def _url(column: Column, options: Options) -> str | None:
    return column.sandbox.url if options.hold else None


def _draw(columns: list[Column], outcomes: Mapping[str, Outcome], folder: Path, options: Options) -> None:
    drawn = picture.draw([(column, outcomes[column.name]) for column in columns])
    for path in {folder / "demo.svg", *([options.svg] if options.svg else [])}:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(drawn, "utf-8")


def _report(
    outcomes: Mapping[str, Outcome], checks: Mapping[str, Mapping[str, str]], options: Options, *, seconds: float
) -> None:
    if options.json:
        sys.stdout.write(json.dumps(as_data(outcomes, checks, seconds=seconds)) + "\n")
        return
    console = console_on(sys.stdout)
    for line in as_words(outcomes, checks["longwatch"]):
        console.print(line, soft_wrap=True)


def _say_where(folder: Path, fleet: Engines, options: Options) -> None:
    picture_path = options.svg or folder / "demo.svg"
    if fleet.state is not None and (fleet.lasting or options.hold):
        config = shown(folder / "longwatch" / "longwatch.toml")
        sys.stderr.write(f"\nThe state is at {fleet.title}.\nLook at it: longwatch --config {config} status\n")
    sys.stderr.write(f"\nEverything lies in {shown(folder)}; the picture is {shown(picture_path)}.\n")


def _wait_for_enter(options: Options) -> None:
    if options.hold and not options.json and sys.stdin.isatty():
        sys.stderr.write("The stand-in services are still up. Press Enter to end them.\n")
        with contextlib.suppress(EOFError):
            input()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Generator[None]:
    """SIGTERM ends the demo as Ctrl-C does: nothing is left running."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
