"""The demo: four agents and fifteen worker processes finish a batch on real input while everything goes wrong.

    longwatch demo                      both programs, about a minute and a half
    longwatch demo --only --tasks 24    Longwatch alone, less of it

Each of 200 modules of this Python's standard library is summarised by Claude, paid for at Stripe, reported on at GitHub and
entered in a catalogue of several files that must agree. The services are stand-ins on this machine that enforce their
documented limits (longwatch/sandbox). Meanwhile workers are killed inside edits and calls, one hangs past its lease, and the
services go down. The same is done by a home-made program first (homemade.py), and both are judged from outside (audit.py).

conductor.py   the whole            column.py     one program at work        director.py   makes the faults
booking.py     the work             stage.py      limits, budgets, faults    picture.py    the picture
"""

from longwatch.demo.options import Options

__all__ = ["Options", "run"]


def run(options: Options) -> int:
    """Play the demo. Exit status: 0 all promises kept, 3 one was broken, 130 interrupted. Errors: ConfigError."""
    from longwatch.demo.conductor import conduct  # the workers import this package too, and need none of that

    return conduct(options)
