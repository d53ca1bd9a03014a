"""The plumbing: stand-ins for real APIs."""

import click

from longwatch.surface.cli_base import BadUse, Command


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
