"""A process whose output goes to files: argv: folder, bytes of a file, lines, seconds that a child of its own lives on."""

import subprocess
import sys
from pathlib import Path

from longwatch.runtime.output import Output


def main(folder: str, size: str, lines: str, lives: str) -> None:
    output = Output(Path(folder), "process_1", "seo/blog", int(size))
    output.begin()
    for n in range(int(lines)):
        sys.stdout.write(f"line {n}\n")
        sys.stdout.flush()
        output.turn()
    sys.stderr.write("half a line")
    sys.stderr.flush()
    if float(lives):
        code = f"import time; print('from a child', flush=True); time.sleep({lives}); print('the end', flush=True)"
        subprocess.Popen([sys.executable, "-c", code]).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
