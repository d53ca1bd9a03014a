"""python -m longwatch."""

from longwatch.surface.cli import main

if __name__ == "__main__":
    main()
