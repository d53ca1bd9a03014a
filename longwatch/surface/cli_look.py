"""The commands that look: status, journal. Each is one read, or for -f one read after the other."""

from collections.abc import Iterator

import click
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from longwatch.admission.listing import CapState, RateState
from longwatch.errors import ConfigError
from longwatch.policy.duration import format_ms, parse_text_ms
from longwatch.policy.learning import Learned
from longwatch.policy.limits import Limits, Rate
from longwatch.policy.money import Money
from longwatch.policy.rate import format_rate, format_window
from longwatch.policy.task import STATES
from longwatch.policy.window import describe
from longwatch.runtime.parts import Parts
from longwatch.store.journal import Entry
from longwatch.surface.cli_base import Command, pass_session
from longwatch.surface.kept_back import gate_lines, gate_rows, shut_gates
from longwatch.surface.output import ago, bar, heading, table
from longwatch.surface.session import Session
from longwatch.surface.wire import Json, at, encode, entry_json, lease_json, worker_json

POLL_MS = 300
PAGE = 500
MOST = 10_000  # entries of one answer
SHOWN = 5  # rows of each list in the status


# -- status --------------------------------------------------------------------------------------------------------------


@click.command(cls=Command, section="look")
@pass_session
def status(session: Session) -> None:
    """How the fleet stands, and what needs a person."""
    parts, look = session.parts, session.look
    vitals, counts = look.vitals(), look.counts()
    workers = [(worker, not parts.is_dead(worker)) for worker in parts.workers.all()]
    leases, stand = parts.leases.live(), parts.calls.limiter.peek()
    running, unknown = look.running(limit=SHOWN), look.tasks(limit=SHOWN, state="unknown")
    failures = parts.journal.latest(limit=SHOWN, kind="task.failed")
    waiting = look.ready(limit=SHOWN)
    now_ms, gates = vitals.steady_ms, shut_gates(session)
    data = {
        "fleet": vitals.name,
        "at": at(now_ms),
        "tasks": {state: counts.get(state, 0) for state in STATES},
        "workers": [worker_json(worker, alive=alive) for worker, alive in workers],
        "leases": [lease_json(lease) for lease in leases],
        "limits": rate_rows(stand.rates),
        "budgets": cap_rows(stand.caps, session.limits.currency),
        "gates": gate_rows(gates),
        "running": [
            {"run": run.id, "task": run.task, "kind": run.kind, "agent": run.agent, "started_at": at(run.started_ms)}
            for run in running
        ],
        "ready": [{"kind": row.kind, "tasks": row.tasks, "since_at": at(row.since_ms)} for row in waiting],
        "unknown": [{"id": task.id, "kind": task.kind, "error": task.error} for task in unknown],
        "errors": [entry_json(entry) for entry in failures],
        "archive": archive_json(parts),
    }
    alive = sum(alive for _, alive in workers)
    words: list[RenderableType] = [Text(_headline(vitals.name, counts, alive, len(workers)), style="bold")]
    if unknown:
        words += [
            Text(f"\n{counts.get('unknown', 0)} unknown: a person has to find out how they ended", style="bold red"),
            table(("id", "kind", "why"), [(t.id, t.kind, first_line(t.error)) for t in unknown], empty=""),
            Text("longwatch task resolve ID done|failed|cancelled", style="dim"),
        ]
    if counts.get("ready") and not alive:
        words.append(Text("\nTasks are ready and no worker is alive: longwatch work MODULE", style="yellow"))
    if running:
        rows = [(run.task, run.kind, run.agent, ago(run.started_ms, now_ms)) for run in running]
        words += [heading("running longest"), table(("task", "kind", "agent", "started"), rows, empty="")]
    if leases:
        rows_of = [(", ".join(lease.names), lease.agent, ago(lease.until_ms, now_ms)) for lease in leases[:SHOWN]]
        words += [heading(f"leases ({len(leases)})"), table(("on", "agent", "ends"), rows_of, empty="")]
    if stand.caps:
        words += [heading("caps"), cap_table(stand.caps, session.limits)]
    if stand.rates:
        words += [heading("rates"), rate_table(stand.rates, now_ms)]
    words += gate_lines(gates, now_ms)
    if stand.clocks_parted:
        words.append(Text("\nthe clocks have parted: no budget opens a new window; longwatch doctor", style="bold red"))
    if parts.archives is not None and parts.archives.pressed():
        words.append(
            Text(
                "\nthe disk is nearly full: what is older than an hour is archived; longwatch doctor", style="bold red"
            )
        )
    if parts.archives is not None and (failing := parts.archives.archivists.failing()) is not None:
        said = f"\nnothing is archived, and rows stay in the state: {failing.why}; longwatch doctor"
        words.append(Text(said, style="bold red"))
    if failures:
        shown = [(ago(e.at_ms, vitals.calendar_ms), e.subject, first_line(e.data.get("error"))) for e in failures]
        words += [heading("last failures"), table(("when", "task", "error"), shown, empty="")]
    session.out.answer(data, *words)


def archive_json(parts: Parts) -> Json | None:
    """When the last round ended, and whether there is room."""
    if parts.archives is None:
        return None
    standing, failing = parts.archives.archivists.standing(), parts.archives.archivists.failing()
    return {
        "last_at": at(standing.closed_ms or None),
        "every_ms": parts.archives.rules.every_ms,
        "free_bytes": parts.archives.free(),
        "pressed": parts.archives.pressed(),
        "error": None if failing is None else failing.why,
    }


def _headline(name: str, counts: dict[str, int], alive: int, workers: int) -> str:
    tasks = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state)) or "no tasks yet"
    dead = f" ({workers - alive} dead, longwatch doctor tells)" if workers > alive else ""
    return f"{name}: {tasks}; {alive} worker{'' if alive == 1 else 's'} alive{dead}"


def first_line(text: object) -> str:
    return (str(text).splitlines() or [""])[0] if text else ""


# -- caps and rates --------------------------------------------------------------------------------------------------------


def cap_rows(caps: list[CapState], currency: str) -> list[Json]:
    """Every cap, as JSON. Money in micro-units with its currency; calls and tokens as counts."""
    rows: list[Json] = []
    for cap in caps:
        unit = "_micros" if cap.dimension == "money" else ""
        amounts = {"cap": cap.cap, "spent": cap.spent, "held": cap.held, "set_aside": cap.aside}
        rows.append(
            {
                "purse": cap.purse,
                "dimension": cap.dimension,
                "window": cap.window,
                **{f"{name}{unit}": amount for name, amount in amounts.items()},
                **({"currency": currency} if unit else {}),
                "open_calls": cap.calls,
                "resets_at": at(cap.resets_at),
                "set": None
                if cap.override is None
                else {"until_at": at(cap.override.until_ms), "configured_micros": cap.configured},
            }
        )
    return rows


def rate_rows(rates: list[RateState]) -> list[Json]:
    return [
        {
            "service": rate.service,
            "model": _model(rate),
            "dimension": rate.dimension,
            "rate": _rate(rate),
            "burst": rate.burst,
            "free": rate.free,
            "next_at": at(rate.next_ms),
            "origin": "configured" if rate.learned is None else "learned",
            "learned": None if rate.learned is None else lesson_json(rate.learned),
        }
        for rate in rates
    ]


def lesson_json(learned: Learned) -> Json:
    """What has taught a rate. source: published by the provider, or found by what it refused."""
    return {
        "source": learned.source,
        "dimension": learned.dimension,
        "since_at": at(learned.since_ms),
        "seen_at": at(learned.seen_ms),
        "evidence": learned.evidence,
    }


def _model(rate: RateState) -> str | None:
    """The pattern of models that the rate is of; None: of the whole service."""
    if rate.learned is not None:
        return rate.model or None
    inner = rate.meter.removeprefix(f"{rate.service}/").removesuffix(rate.dimension).removesuffix("/")
    return inner or None


def _rate(rate: RateState) -> str:
    return format_rate(Rate(rate.amount, rate.per_ms, rate.burst))


def cap_table(caps: list[CapState], limits: Limits) -> RenderableType:
    if not caps:
        return Text('No caps. A cap on money: [fleet] money = "20 GBP/month" in longwatch.toml.')
    width = max(len(cap.purse) for cap in caps)
    return Lines(*(_cap_line(cap, limits, width) for cap in caps))


def _cap_line(cap: CapState, limits: Limits, width: int) -> Text:
    spent, held, aside, most = (
        _amount(value, cap, limits.currency) for value in (cap.spent, cap.held, cap.aside, cap.cap)
    )
    part = (cap.spent + cap.held + cap.aside) / cap.cap if cap.cap else 1.0
    more = f", held {held} by {cap.calls} calls" if cap.calls else ""
    more += f", set aside {aside}" if cap.aside else ""
    ends = "" if cap.resets_at is None else f", until {describe(cap.resets_at, limits.timezone)}"
    line = f" spent {spent}{more} of {most}{format_window(cap.window)}{ends}"
    return Text.assemble(f"{cap.purse:{width}} ", bar(part), line + _by_hand(cap, limits))


def _by_hand(cap: CapState, limits: Limits) -> str:
    """What the config says of a cap that was set in its place, and until when."""
    if cap.override is None:
        return ""
    instead = "no cap" if cap.configured is None else str(Money(cap.configured, limits.currency))
    until_ms = cap.override.until_ms
    ends = "until it is cleared" if until_ms is None else f"until {describe(until_ms, limits.timezone)}"
    return f" (set {ends}; configured: {instead})"


def _amount(value: int, cap: CapState, currency: str) -> str:
    return str(Money(value, currency)) if cap.dimension == "money" else f"{value} {cap.dimension}"


def rate_table(rates: list[RateState], now_ms: int) -> RenderableType:
    rows = [
        (
            rate.service,
            _model(rate) or "",
            rate.dimension if rate.learned is None else rate.learned.dimension,
            _rate(rate),
            "configured" if rate.learned is None else f"{rate.learned.source} {ago(rate.learned.since_ms, now_ms)}",
            rate.burst,
            "now" if rate.next_ms <= now_ms else f"in {format_ms(rate.next_ms - now_ms)}",
        )
        for rate in rates
    ]
    empty = 'No rates. For example [service.stripe] rate = "25/s" in longwatch.toml.'
    return table(("service", "model", "of", "rate", "origin", ">burst", "next"), rows, empty=empty)


# -- journal -------------------------------------------------------------------------------------------------------------


@click.command(cls=Command, section="look")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes; Ctrl-C ends it.")
@click.option("--kind", metavar="KIND", help='Only this kind, or all that begin so: "task." "lease.taken".')
@click.option("--task", metavar="ID", help="Only what is about this task, run, lease or call.")
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@click.option("--since", metavar="LENGTH", help="Only the last while: 1h, 2d.")
@click.option("--limit", metavar="N", type=click.IntRange(1, MOST), default=50, show_default=True, help="How many.")
@pass_session
def journal(
    session: Session, follow: bool, kind: str | None, task: str | None, agent: str | None, since: str | None, limit: int
) -> None:
    """The record of every move, oldest first."""
    parts = session.parts
    since_ms = None if since is None else parts.world.wall_ms() - _length(since, "--since")
    filters: dict[str, str | int | None] = {"kind": kind, "subject": task, "agent": agent, "since_ms": since_ms}
    if not follow:
        entries = parts.journal.latest(limit=limit, **filters)
        words = [entry_words(entry) for entry in entries] or [Text(_nothing(parts))]
        session.out.answer({"entries": [entry_json(entry) for entry in entries], "next": None}, *words)
        return
    for entry in _followed(session, limit, filters):
        session.out.item(entry_json(entry), entry_words(entry))


def _nothing(parts: Parts) -> str:
    older = parts.archives is not None and parts.archives.exists()
    return "Nothing in the journal by these filters" + (
        "; longwatch archive find looks in what has left it." if older else "."
    )


def _followed(session: Session, limit: int, filters: dict[str, str | int | None]) -> Iterator[Entry]:
    """The latest entries, then what comes; one page in memory at a time. Ends when it is interrupted."""
    parts = session.parts
    newest = parts.journal.latest(limit=1)
    after = newest[-1].seq if newest else 0
    parts.journal.after(after, limit=1)  # waits for who has numbered an entry before that one and not committed it yet
    for entry in parts.journal.latest(limit=limit, **filters):
        if entry.seq <= after:
            yield entry
    while True:
        page = parts.journal.after(after, limit=PAGE, **filters)
        yield from page
        after = page[-1].seq if page else after
        if len(page) < PAGE:
            parts.sleeper.sleep_until(parts.steady_ms() + POLL_MS)


def entry_words(entry: Entry) -> Text:
    data = encode(entry.data) if entry.data else ""
    who = f" {entry.agent}" if entry.agent else ""
    return Text(f"{at(entry.at_ms)} {entry.kind:16} {entry.subject}{who} {data}".rstrip())


def _length(text: str, option: str) -> int:
    try:
        return parse_text_ms(text)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error.message}", hint=error.hint) from error
