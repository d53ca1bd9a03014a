"""The command line. Its commands live in cli_*.py, by noun; here they are put together."""

import sys

import click

from longwatch.surface import (
    cli_archive,
    cli_batch,
    cli_budget,
    cli_look,
    cli_memory,
    cli_memory_files,
    cli_money,
    cli_plumbing,
    cli_services,
    cli_setup,
    cli_show,
    cli_snapshots,
    cli_start,
    cli_things,
    cli_work,
)
from longwatch.surface.cli_base import Root, run

COMMANDS: tuple[click.Command, ...] = (
    cli_start.init,
    cli_start.demo,
    cli_work.work,
    cli_start.doctor,
    cli_look.status,
    cli_look.journal,
    cli_money.money,
    cli_show.show,
    cli_things.task,
    cli_batch.batch,
    cli_things.lease,
    cli_services.limit,
    cli_budget.budget,
    cli_services.service,
    cli_archive.archive,
    cli_memory.memory,
    cli_setup.config,
    cli_setup.state,
    cli_setup.completion,
    cli_plumbing.sandbox,
    cli_plumbing.simulate,
)


@click.group(cls=Root, invoke_without_command=True, context_settings={"max_content_width": 110})
@click.pass_context
def root(context: click.Context) -> None:
    """Longwatch: the state layer for fleets of autonomous agents."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit()


for command in COMMANDS:
    root.add_command(command)
for command in (cli_memory_files.files, cli_memory_files.file, cli_snapshots.show, cli_snapshots.list_snapshots):
    cli_memory.memory.add_command(command)


def main() -> None:
    """The entry point of `longwatch`."""
    sys.exit(run(root, sys.argv[1:]))
