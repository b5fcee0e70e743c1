"""`anchorhold devnet up`: a local Internet Computer with the whole product on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from anchorhold.command import Parser, Verbs

IC_PORT = 4943


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "devnet",
        help="start a local Internet Computer with all of the product on it",
        description="The devnet stands in for the Internet Computer on this machine, over its own roots. There is no "
        "consensus: one process plays the subnet (devnet/README.md).",
    )
    jobs = parser.add_subparsers(metavar="JOB", dest="job", required=True, parser_class=Parser)
    up = jobs.add_parser(
        "up",
        help="start it, and run until a signal",
        description="This starts a replica with its HTTP interface, the gateway, governance, a broker, and cells "
        "with their hosts. Progress goes to standard error. When everything answers, one line of JSON "
        "goes to standard output. Runs until SIGINT or SIGTERM; its state stays in the folder, and a "
        "later `up` goes on from it. Exit status: 0 after a signal, 1 something did not start or ended "
        "by itself.",
    )
    up.add_argument(
        "--folder", type=Path, default=Path("build/devnet"), help="the folder of its state (default: build/devnet)"
    )
    up.add_argument(
        "--model",
        default="little",
        metavar="little|DIR",
        help="the model of the cells: little, or a folder (default: little)",
    )
    up.add_argument(
        "--engine", choices=("fixed", "scripted"), default="fixed", help="the engine that answers (default: fixed)"
    )
    up.add_argument("--cells", type=int, default=1, metavar="N", help="how many cells answer (default: 1)")
    up.add_argument(
        "--ic-port",
        type=int,
        default=IC_PORT,
        metavar="P",
        help=f"the port of the HTTP interface, 0 for one that is free (default: {IC_PORT})",
    )
    up.set_defaults(run=_up)


def _up(arguments: argparse.Namespace) -> int:
    from devnet.demo.engines import Choice
    from devnet.up.plan import Plan
    from devnet.up.starting import run

    model = arguments.model if arguments.model == "little" else str(Path(arguments.model).resolve())
    return run(Plan(arguments.folder.resolve(), model, Choice(arguments.engine), arguments.cells, arguments.ic_port))
