"""python -m longwatch, and the command `longwatch`."""

import gc


def main() -> None:
    """Import and run the command line. Imports leave no garbage: to look for some would be a fifth of the way to an answer."""
    gc.disable()
    from longwatch.surface.cli import main as command

    gc.freeze()
    gc.enable()
    command()


if __name__ == "__main__":
    main()
