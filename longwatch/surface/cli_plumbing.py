"""The plumbing: stand-ins for real APIs, and the simulation."""

import click

from longwatch.errors import nearest
from longwatch.policy.duration import format_ms
from longwatch.runtime.world import Machine
from longwatch.surface.cli_base import BadUse, Command, pass_session
from longwatch.surface.output import facts
from longwatch.surface.progress import progress
from longwatch.surface.session import Session
from longwatch.surface.wire import BROKEN, OK


@click.command(cls=Command, section="plumbing")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one.")
@click.option(
    "--settings", default="{}", metavar="JSON", help='{"stripe": {"requests": {"amount": 50, "per_ms": 1000}}}'
)
def sandbox(host: str, port: int, settings: str) -> None:
    """Stand-ins for Anthropic, OpenAI, Stripe and GitHub.

    They have the quotas of the real ones. One line of JSON tells where they are; Ctrl-C ends them.
    """
    from longwatch.sandbox.server import serve  # brings a web server, which no other command needs
    from longwatch.sandbox.settings import SettingsError, parse

    try:
        serve(host, port, parse(settings))
    except SettingsError as error:
        raise BadUse(
            str(error), hint="longwatch/sandbox/settings.py lists the settings; a port of 0 takes a free one."
        ) from error


@click.command(cls=Command, section="plumbing")
@click.option("--days", type=click.IntRange(1, 3660), default=27, show_default=True, metavar="N", help="How long.")
@click.option(
    "--agents", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N", help="How many agents."
)
@click.option("--seed", type=int, default=1, show_default=True, metavar="N", help="One seed gives one history.")
@click.option(
    "--faults",
    default="swarm",
    show_default=True,
    metavar="KINDS",
    help="swarm (half of the kinds, by seed), all, none, or kinds with commas between.",
)
@click.pass_context
@pass_session
def simulate(session: Session, context: click.Context, days: int, agents: int, seed: int, faults: str) -> None:
    """A fleet of the real code on virtual time, with faults by seed.

    Exit status 3 when a promise was broken; the same seed shows it again.
    """
    from longwatch.testing import simulation  # as large as the rest together, and no other command needs it

    day, world = 0, Machine()

    def tell(today: int, _: object) -> None:
        nonlocal day
        day = today

    began_ms = world.steady_ms()
    with progress(lambda: f"day {day} of {days}, seed {seed}"):
        result = simulation.simulate(days, agents, seed, _faults(faults), progress=tell)
    took = format_ms(world.steady_ms() - began_ms)
    verdict = (
        f"broken: {result.broken['promise']}: {result.broken['message']}" if result.broken else "every promise held"
    )
    pairs = [
        ("simulated", f"{agents} agents for {days} days, seed {seed}, in {took}"),
        ("faults", f"{sum(result.faults.values())} of {len(result.kinds)} kinds"),
        ("tasks", ", ".join(f"{count} {state}" for state, count in result.tasks.items())),
        ("calls", result.calls),
        ("edits", result.edits),
        ("checks", result.checks),
        ("verdict", verdict),
    ]
    session.out.answer(result.to_dict(), facts(pairs))
    context.exit(BROKEN if result.broken else OK)


def _faults(text: str) -> str | list[str]:
    from longwatch.testing.faults import KINDS

    if text in ("swarm", "all", "none"):
        return text
    kinds = [kind.strip() for kind in text.split(",")]
    for kind in kinds:
        if kind not in KINDS:
            raise BadUse(
                f"--faults: there is no kind {kind!r}{nearest(kind, KINDS)}",
                hint=f"swarm, all, none, or some of: {', '.join(KINDS)}.",
            )
    return kinds
