"""`python -m tests.attack [--prove | --table] [NAME...]`: every attack, or those whose names begin so; a line each."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from foundation import logs
from tests.attack.registry import every
from tests.attack.running import run_all
from tests.attack.table import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make attack", description="Every attack on the product as it runs.")
    parser.add_argument("--prove", action="store_true", help="each without its defence: it has to come out broken")
    parser.add_argument("--table", action="store_true", help="the table of docs/threat-model.md; nothing is tried")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only those whose name begins so")
    arguments = parser.parse_args()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        logs.set_up(nowhere)  # what runs in this process logs nothing between the lines
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    known = every()
    if arguments.table:
        print(table(known.values()))
        return 0
    chosen = [each for name, each in known.items() if not arguments.names or name.startswith(tuple(arguments.names))]
    return run_all(chosen, undefended=arguments.prove, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
