"""The picture: one axis of time, a row for each worker, the home-made program above and Longwatch below.

Drawn by hand as SVG, without fonts or scripts of its own, so that it looks the same wherever a README is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from longwatch.demo.audit import Outcome
from longwatch.demo.column import Column
from longwatch.demo.trace import Seen

WIDTH = 900
LEFT, RIGHT = 84, 738  # of the axis of time
ROW, GAP = 9, 2
BAND = 13  # of the files
SPEND = 44
FONT = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"

INK, FAINT, GRID, BASE = "#1f2328", "#656d76", "#d0d7de", "#eef1f4"
RED, AMBER, GREEN, SOUND = "#cf222e", "#bf8700", "#1a7f37", "#c6f0cf"
OUTAGE, FROZEN = "#fbe8bf", "#f0b429"
BUSY = {"claude": "#5b8def", "stripe": "#9a6fd8", "github": "#8c959f", "editing": "#2da44e"}
LEGEND = (
    (BUSY["claude"], "asking Claude"),
    (BUSY["stripe"], "paying"),
    (BUSY["github"], "GitHub"),
    (BUSY["editing"], "editing files"),
    (FROZEN, "frozen"),
    (OUTAGE, "service down"),
)


@dataclass
class Canvas:
    """Elements from back to front, on a scale of `longest_s` seconds."""

    longest_s: float
    parts: list[str] = field(default_factory=list[str])

    def x(self, at_s: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max(at_s, 0.0), self.longest_s) / self.longest_s, 1)

    def box(self, left: float, top: float, width: float, height: float, fill: str) -> None:
        size = f'width="{max(width, 0.6):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{fill}"/>')

    def boxes(self, found: Iterable[tuple[float, float, float, float]], fill: str) -> None:
        """Many of one colour as one path: left, top, width, height."""
        drawn = "".join(f"M{x:.1f} {y:.1f}h{max(w, 0.6):.1f}v{h:.1f}h-{max(w, 0.6):.1f}z" for x, y, w, h in found)
        if drawn:
            self.parts.append(f'<path d="{drawn}" fill="{fill}"/>')

    def line(self, points: Sequence[tuple[float, float]], stroke: str, *, width: float = 1, dash: str = "") -> None:
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{drawn}" fill="none" stroke="{stroke}" stroke-width="{width}"{dashed}/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 11,
        fill: str = FAINT,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}'
        self.parts.append(f"<text {place}>{escape(words)}</text>")

    def cross(self, x: float, y: float) -> None:
        """Where a worker was killed."""
        arms = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
        self.parts.append(f'<path d="{arms}" stroke="#ffffff" stroke-width="4.5"/>')
        self.parts.append(f'<path d="{arms}" stroke="{INK}" stroke-width="2"/>')

    def diamond(self, x: float, y: float) -> None:
        """Where something was paid a second time."""
        shape = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
        self.parts.append(f'<path d="{shape}" fill="{RED}" stroke="#ffffff" stroke-width="1"/>')


def draw(columns: Sequence[tuple[Column, Outcome]]) -> str:
    """The whole picture as SVG."""
    canvas = Canvas(max(5.0, *(column.trace.ended_s for column, _ in columns)))
    y = 26.0
    canvas.text(20, y, _title(columns), size=15, fill=INK, bold=True)
    y += 14
    for column, outcome in columns:
        y = _panel(canvas, column, outcome, y)
    y = _axis(canvas, y)
    y = _legend(canvas, y)
    height = round(y + 8)
    frame = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="{GRID}"/>'
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    told = f"<title>{escape(_title(columns))}</title>"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">{told}'
    return "\n".join([head, frame, *canvas.parts, "</svg>"]) + "\n"


def _title(columns: Sequence[tuple[Column, Outcome]]) -> str:
    column, _ = columns[-1]
    return (
        f"{column.processes} workers of {len(column.modules)} agents at the same work, "
        "while workers are killed and frozen and services go down"
    )


# -- one panel -----------------------------------------------------------------------------------------------------------


def _panel(canvas: Canvas, column: Column, outcome: Outcome, top: float) -> float:
    rows = max(column.processes, 1 + max(column.trace.rows.values(), default=0))
    y = top + 22
    canvas.text(20, y, f"{outcome.title[:1].upper()}{outcome.title[1:]}", size=14, fill=INK, bold=True)
    canvas.text(LEFT + 36, y, f"{outcome.done} of {outcome.submitted} tasks in {column.trace.ended_s:.0f} s", size=11)
    y += 10
    bottom = y + rows * (ROW + GAP)
    files, spend = bottom + 8, bottom + 30
    canvas.text(LEFT - 8, y + 9, f"{column.processes} workers", anchor="end")
    _rows(canvas, column, y, spend + SPEND)
    _strikes(canvas, column, outcome, y, bottom)
    canvas.text(LEFT - 8, files + 10, "files", anchor="end")
    _files(canvas, column, outcome, files)
    _spending(canvas, column, outcome, spend)
    _numbers(canvas, outcome, y)
    return spend + SPEND + 10


def _outages(canvas: Canvas, column: Column, top: float, bottom: float) -> None:
    found = column.trace.of("outage")
    for event in found:
        left, right = canvas.x(event.at_s), canvas.x(event.until_s)
        canvas.parts.append(
            f'<rect x="{left}" y="{top - 3:.1f}" width="{right - left:.1f}" height="{bottom - top + 3:.1f}" '
            f'fill="{FROZEN}" fill-opacity="0.22"/>'
        )


def _rows(canvas: Canvas, column: Column, top: float, bottom: float) -> None:
    """Each worker's row: alive, and what it was busy with."""
    trace, ended_s = column.trace, column.trace.ended_s
    alive = [
        (pid, min(seen.at_s for seen in trace.seen if seen.pid == pid)) for pid in trace.rows if _seen(column, pid)
    ]
    spans = [(pid, came_s, trace.gone.get(pid, ended_s)) for pid, came_s in alive]
    canvas.boxes([_bar(canvas, column, top, *span) for span in spans], BASE)
    _outages(canvas, column, top, bottom)
    busy: dict[str, list[tuple[float, float, float, float]]] = {place: [] for place in BUSY}
    for pid, _, left_s in spans:
        marks = _seen(column, pid)
        for mark, after in zip(marks, [*(seen.at_s for seen in marks[1:]), left_s], strict=True):
            if mark.place in BUSY:
                busy[mark.place].append(_bar(canvas, column, top, pid, mark.at_s, after))
    for place, bars in busy.items():
        canvas.boxes(bars, BUSY[place])
    frozen = [_bar(canvas, column, top, event.pid, event.at_s, event.until_s) for event in trace.of("frozen")]
    canvas.boxes(frozen, FROZEN)


def _seen(column: Column, pid: int) -> list[Seen]:
    return [seen for seen in column.trace.seen if seen.pid == pid]


def _bar(
    canvas: Canvas, column: Column, top: float, pid: int, from_s: float, to_s: float
) -> tuple[float, float, float, float]:
    left = canvas.x(from_s)
    return left, _row(column, top, pid), canvas.x(to_s) - left, ROW


def _row(column: Column, top: float, pid: int) -> float:
    return top + column.trace.rows.get(pid, 0) * (ROW + GAP)


def _strikes(canvas: Canvas, column: Column, outcome: Outcome, top: float, bottom: float) -> None:
    """What went wrong, on top of the rows: deaths as lines through all of them, refusals and double payments in red."""
    for event in column.trace.of("killed", "died", "frozen"):
        x = canvas.x(event.at_s)
        canvas.line([(x, top - 3), (x, bottom)], AMBER if event.kind == "frozen" else INK, width=0.8, dash="2 2")
    refused = [
        seen for seen in column.trace.seen if seen.status == 429 or (seen.status == 403 and "github" in seen.place)
    ]
    ticks = [(canvas.x(seen.at_s) - 1, _row(column, top, seen.pid) - 1, 2.4, ROW + 2) for seen in refused]
    canvas.boxes(ticks, RED)
    for event in column.trace.of("killed", "died"):
        canvas.cross(canvas.x(event.at_s), _row(column, top, event.pid) + ROW / 2)
    for seen in _paid_again(column, outcome):
        canvas.diamond(canvas.x(seen.at_s), _row(column, top, seen.pid) + ROW / 2)


def _paid_again(column: Column, outcome: Outcome) -> list[Seen]:
    paid = [intent["description"] for intent in column.effects["payment_intents"]]
    again = [module for module in outcome.twice if paid.count(module) > 1]
    answers = {
        seen.module: seen for seen in column.trace.seen if seen.place == "stripe-answered" and seen.status == 200
    }
    return [answers[module] for module in again if module in answers]


def _files(canvas: Canvas, column: Column, outcome: Outcome, top: float) -> None:
    """Whether the files agreed whenever somebody read them."""
    readings = column.trace.of("torn", "sound")
    ends = [*(event.at_s for event in readings[1:]), column.trace.ended_s]
    spans: dict[str, list[tuple[float, float, float, float]]] = {"sound": [], "torn": []}
    for event, end_s in zip(readings, ends, strict=True):
        left = canvas.x(event.at_s)
        spans[event.kind].append((left, top, canvas.x(end_s) - left, BAND))
    canvas.boxes(spans["sound"], SOUND)
    canvas.boxes(spans["torn"], RED)
    if not spans["torn"]:
        canvas.text(LEFT + 6, top + 10, "they agree whenever somebody reads them", size=10, fill=GREEN)
    elif outcome.flaws:
        canvas.text(spans["torn"][0][0] + 6, top + 10, "they no longer agree", size=10, fill="#ffffff")


def _spending(canvas: Canvas, column: Column, outcome: Outcome, top: float) -> None:
    """Second opinions as billed, against their cap, each in its own scale: the cap is at the same height in both."""
    purse = outcome.purses["reviews"]
    full, bottom = top + SPEND * 0.36, top + SPEND

    def height(micros: int) -> float:
        return max(top, bottom - (bottom - full) * micros / purse.cap)

    canvas.text(LEFT - 8, full + 4, f"${purse.cap / 1e6:.2f} cap", anchor="end")
    canvas.text(LEFT - 8, bottom - 2, "spent", anchor="end")
    canvas.line([(LEFT, bottom), (RIGHT, bottom)], GRID)
    points = [(canvas.x(at_s), height(micros)) for at_s, micros in column.trace.spent]
    over = purse.billed > purse.cap
    if points:
        area = [(points[0][0], bottom), *points, (points[-1][0], bottom)]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in area)
        canvas.parts.append(f'<polygon points="{drawn}" fill="{RED if over else BUSY["claude"]}" fill-opacity="0.15"/>')
        canvas.line(points, RED if over else BUSY["claude"], width=1.6)
    canvas.line([(LEFT, full), (RIGHT, full)], INK, dash="4 3")


def _numbers(canvas: Canvas, outcome: Outcome, top: float) -> None:
    purse = outcome.purses["reviews"]
    told = (
        (str(outcome.refused), outcome.refused == 0, "requests refused", "for their rate (429)"),
        (
            f"{round(100 * outcome.flawed / max(outcome.readings, 1))}%",
            not outcome.flawed and not outcome.flaws,
            "of readings found",
            "the files wrong",
        ),
        (f"{round(100 * purse.billed / purse.cap)}%", purse.billed <= purse.cap, "of the budget", "was spent"),
    )
    for place, (number, good, *captions) in enumerate(told):
        y = top + 24 + place * 76
        canvas.text(RIGHT + 22, y, number, size=30, fill=GREEN if good else RED, bold=True)
        for line, caption in enumerate(captions):
            canvas.text(RIGHT + 22, y + 16 + 13 * line, caption)


# -- the foot ------------------------------------------------------------------------------------------------------------


def _axis(canvas: Canvas, top: float) -> float:
    step = 5 if canvas.longest_s <= 60 else 10
    canvas.line([(LEFT, top), (RIGHT, top)], GRID)
    for second in range(0, int(canvas.longest_s) + 1, step):
        x = canvas.x(second)
        canvas.line([(x, top), (x, top + 4)], FAINT)
        canvas.text(x, top + 15, f"{second} s", size=10, anchor="middle")
    return top + 24


def _legend(canvas: Canvas, top: float) -> float:
    x, y = float(20), top + 12
    for fill, words in LEGEND:
        canvas.box(x, y - 8, 12, 9, fill)
        canvas.text(x + 16, y, words)
        x += 30 + 5.9 * len(words)
    canvas.cross(x + 4, y - 4)
    canvas.text(x + 14, y, "killed")
    x += 58
    canvas.box(x, y - 9, 2.4, 11, RED)
    canvas.text(x + 8, y, "refused (429)")
    x += 92
    canvas.diamond(x + 4, y - 4)
    canvas.text(x + 14, y, "paid twice")
    x += 78
    canvas.box(x, y - 8, 12, 9, RED)
    canvas.text(x + 16, y, "files wrong")
    return y + 6
