"""`anchorhold`: find the verb, run it, turn a refusal into one line and an exit status.

Exit status, for every verb: 0 done, 1 usage or malformed input, 2 signature or chain refused, 3 collateral
missing, 4 refused by policy or by lookup, 5 log or receipt. A verb documents which of these it uses, and says with
`status_of` which refusal ends in which; no verb prints a refusal or catches an `OSError` itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import NoReturn, Protocol

from anchorhold.input_files import line_of, refused_file
from foundation.document import SPACED_HEX, hexadecimal
from foundation.refusal import Refused

VERBS: tuple[str, ...] = (
    "ask",
    "audit",
    "broker",
    "compare",
    "demo",
    "devnet",
    "engine",
    "host",
    "image",
    "measure",
    "model",
    "open",
    "owner",
    "pack",
    "policy",
    "release",
    "verify",
)


# Verbs of the devnet: known by name here, and loaded from where they belong.
ELSEWHERE: Mapping[str, str] = {"demo": "devnet.verbs.demo", "devnet": "devnet.verbs.devnet"}


class Verbs(Protocol):
    """What a verb module is handed: the place to add its parser."""

    def add_parser(self, name: str, *, help: str, description: str) -> Parser: ...  # noqa: A002


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors exit with 1: 2 means a bad signature here."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: usage: {message} (see {self.prog} --help)\n")


def hex_argument(*sizes: int) -> Callable[[str], bytes]:
    """The type of an argument that is so many bytes in hexadecimal, of any number where no size is named."""

    def refuse(_code: str, *, expected: str, got: object) -> argparse.ArgumentTypeError:
        return argparse.ArgumentTypeError(f"expected {expected}, got {got}")

    return lambda text: hexadecimal(text, "", refuse, *sizes, form=SPACED_HEX)


def build_parser() -> Parser:
    parser = Parser(
        prog="anchorhold",
        description="Anchorhold checks what a sealed inference cell claims, gives it keys, and speaks with it. Every"
        " verb explains itself with --help.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"anchorhold {version('anchorhold')}",
        help="print the version of this program and exit",
    )
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True, parser_class=Parser)
    for name in VERBS:
        importlib.import_module(ELSEWHERE.get(name, f"anchorhold.verbs.{name}")).add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        return 0
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        return carry_out(build_parser().parse_args(argv))
    except SystemExit as leaving:  # argparse: help was shown, or the usage was wrong
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        return 130


def carry_out(arguments: argparse.Namespace) -> int:
    """Run the verb; what is refused is one line, and the exit status that the verb gives it."""
    try:
        status: int = arguments.run(arguments)
    except BrokenPipeError:
        raise
    except (Refused, OSError) as reason:
        refusal = reason if isinstance(reason, Refused) else refused_file(reason)
        complain(refusal)
        status = exit_status(arguments, refusal)
    return status


def complain(refusal: Refused) -> None:
    """What a person reads of a refusal: one line."""
    print(f"anchorhold: {line_of(refusal)}", file=sys.stderr)


def exit_status(arguments: argparse.Namespace, refusal: Refused) -> int:
    """The status of a refusal: 1, unless the verb's parser was given a `status_of` that says otherwise."""
    status_of: Callable[[Refused], int] = getattr(arguments, "status_of", lambda _: 1)
    return status_of(refusal)


if __name__ == "__main__":
    sys.exit(main())
