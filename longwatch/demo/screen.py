"""The demo while it runs, on standard error: moving on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from longwatch.demo.column import Column
from longwatch.demo.words import sentence
from longwatch.surface.output import bar, console_on
from longwatch.surface.progress import shown

PLAIN_EVERY_S = 5.0
RATE_OVER_S = 3.0


class Screen(Protocol):
    """Told how a column stands, a few times a second."""

    def say(self, text: str) -> None: ...
    def update(self, column: Column) -> None: ...
    def close(self) -> None: ...


def screen(stream: Any) -> Screen:
    return Moving(stream) if shown() else Plain(stream)


class Plain:
    """Lines only."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._told, self._next, self._listed = stream, Told(), 0.0, ""

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def update(self, column: Column) -> None:
        for line in self._told.news(column):
            self.say(line)
        if self._listed != column.name and len(column.trace.alive()) == column.processes:
            self._listed = column.name
            self.say(f"{clock()} {killable(column)}")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_S
            self.say(f"{clock()} {column.title}: {status(column)}")

    def close(self) -> None:
        pass


class Moving:
    """A table that is drawn anew, with the events above it."""

    def __init__(self, stream: Any) -> None:
        self._told, self._rates = Told(), Rates()
        self._live = Live(Text(""), console=console_on(stream), refresh_per_second=4, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False)

    def update(self, column: Column) -> None:
        for line in self._told.news(column):
            self.say(line)
        self._live.update(self._drawn(column))

    def close(self) -> None:
        self._live.stop()

    def _drawn(self, column: Column) -> RenderableType:
        per_s = self._rates.per_s(column)
        made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for agent, share in column.modules.items():
            done = len(column.trace.modules_booked() & set(share))
            made.add_row(agent, progress(done / len(share)), f"{done} of {len(share)}")
        spent, cap = column.trace.spent[-1][1] if column.trace.spent else 0, column.caps.reviews
        made.add_row("second opinions", bar(spent / cap), f"{spent / 1e6:.3f} of {cap / 1e6:.2f} USD")
        speeds = "  ".join(f"{service} {speed:.0f}/s" for service, speed in per_s.items())
        head = Text(f"{column.title}: {status(column)}", style="bold")
        return Group(head, made, Text(speeds, style="dim"), Text(killable(column), style="dim"))


def progress(part: float, *, width: int = 20) -> Text:
    """How much is done, from 0 to 1."""
    full = round(part * width)
    return Text.assemble(("█" * full, "green"), ("░" * (width - full), "dim"))


class Told:
    """Which events have been told of."""

    def __init__(self) -> None:
        self._column, self._count = "", 0

    def news(self, column: Column) -> Sequence[str]:
        if column.name != self._column:
            self._column, self._count = column.name, 0
        events = list(column.trace.events)
        fresh, self._count = events[self._count :], len(events)
        return [f"{clock()} {words}" for event in fresh if (words := sentence(event))]


class Rates:
    """Requests a second by service, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, dict[str, int]]] = []

    def per_s(self, column: Column) -> dict[str, float]:
        now = time.monotonic()
        counts = {service: found["requests"] for service, found in column.counts.items() if service != "openai"}
        self._seen = [(at, old) for at, old in self._seen if now - at <= RATE_OVER_S] + [(now, counts)]
        at, old = self._seen[0]
        return {service: max(0, count - old.get(service, 0)) / max(now - at, 1.0) for service, count in counts.items()}


def status(column: Column) -> str:
    refused = sum(service["statuses"].get("429", 0) for service in column.counts.values())
    booked, of = len(column.trace.modules_booked()), len(column.every)
    return f"{booked} of {of} tasks, {len(column.trace.alive())} workers, {refused} times 429"


def killable(column: Column) -> str:
    """An invitation."""
    return f"workers {' '.join(map(str, column.trace.alive()))}: kill -9 any of these"


def clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
