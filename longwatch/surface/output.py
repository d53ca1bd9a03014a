"""Where a command speaks: its answer on standard output, once; words beside it on standard error.

With --json the answer is exactly one JSON object; a stream is one object per line. Colour and progress go to a terminal
only, and never with NO_COLOR.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from longwatch.surface.wire import encode

WIDE = 220  # columns when the output is no terminal: nothing is cut off for a pipe

STATE_STYLES = {
    "done": "green",
    "failed": "red",
    "unknown": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "claimed": "cyan",
}


class ReaderGone(Exception):
    """Whoever read our output has closed it: end as any filter does, without a word."""


class Output:
    """json: the answer is for programs. streamed: it was given in parts, and so may end anywhere."""

    def __init__(self, *, json: bool = False) -> None:
        self.json, self.streamed = json, False

    def answer(self, data: Mapping[str, Any], *words: RenderableType) -> None:
        """The command's one answer: `data` for programs, or `words` for people."""
        if self.json:
            self._write(encode(data) + "\n")
        else:
            self.words(*words)

    def item(self, data: Mapping[str, Any], *words: RenderableType) -> None:
        """One of a stream, seen at once."""
        self.streamed = True
        self.answer(data, *words)
        self._flush()

    def text(self, text: str) -> None:
        """For other programs, exactly this."""
        self._write(text)

    def words(self, *words: RenderableType) -> None:
        """For people, on standard output."""
        console = console_on(sys.stdout)
        with console.capture() as captured:
            for each in words:
                console.print(each, soft_wrap=isinstance(each, str | Text))
        self._write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def note(self, text: str) -> None:
        """A word beside the answer, for a person at a terminal only."""
        if sys.stderr.isatty():
            console_on(sys.stderr).print(text, style="dim", soft_wrap=True)

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except BrokenPipeError as error:
            raise ReaderGone from error

    def _flush(self) -> None:
        try:
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error


def console_on(stream: TextIO) -> Console:
    """A console without markup, so that nobody's data is taken for it, and without colour where there shall be none."""
    terminal = stream.isatty()
    plain = not terminal or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return Console(
        file=stream,
        markup=False,
        emoji=False,
        highlight=False,
        color_system=None if plain else "auto",
        force_terminal=None if terminal else False,
        width=None if terminal else WIDE,
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> RenderableType:
    """Rows under headings; `empty` is said when there is none. A heading that begins with > is of numbers."""
    filled = [[_cell(value) for value in row] for row in rows]
    if not filled:
        return Text(empty)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", overflow="fold")
    for row in filled:
        made.add_row(*row)
    return made


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=STATE_STYLES.get(text, ""))


def facts(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Name and value, one a line; empty values are left out."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            made.add_row(Text(name), _cell(value))
    return made


def heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def bar(part: float, *, width: int = 20) -> Text:
    """How much of a cap is used, as a bar: part from 0 to 1, more is shown full and red."""
    full = min(width, max(0, round(part * width)))
    style = "red" if part >= 1 else "yellow" if part >= 0.8 else "green"
    return Text("█" * full + "░" * (width - full), style=style)


def ago(at_ms: int, now_ms: int) -> str:
    """How long ago, or until when, in the largest unit that says enough: "12s ago", "in 3h"."""
    gap_ms = abs(now_ms - at_ms)
    unit, length = next(
        (name, length)
        for name, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))
        if gap_ms >= 2 * length or length == 1_000
    )
    text = f"{gap_ms // length}{unit}"
    return f"{text} ago" if at_ms <= now_ms else f"in {text}"
