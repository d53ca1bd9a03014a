"""python -m longwatch.sandbox --port N --settings JSON: serve until Ctrl-C. Exit 2 for settings that are wrong."""

import argparse
import sys

from longwatch.sandbox.server import serve
from longwatch.sandbox.settings import SettingsError, parse


def main() -> int:
    options = _options()
    try:
        serve(options.host, options.port, parse(options.settings), guard=0 if options.until_eof else None)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m longwatch.sandbox", description="Stand-ins for real APIs.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="see longwatch/sandbox/settings.py")
    parser.add_argument("--until-eof", action="store_true", help="also stop at the end of standard input")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
