"""`anchorhold verify KIND`: judge one piece of evidence, offline. Each kind has a module here."""

from __future__ import annotations

import importlib

from anchorhold.command import Parser, Verbs

KINDS: tuple[str, ...] = ("certificate", "evidence", "gpu", "snp", "tdx")


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "verify",
        help="judge a certificate or attestation evidence, offline",
        description="This judges one piece of evidence, offline. Time and roots are arguments, and nothing is fetched.",
    )
    kinds = parser.add_subparsers(metavar="KIND", dest="kind", required=True, parser_class=Parser)
    for name in KINDS:
        importlib.import_module(f"anchorhold.verbs.verify.{name}").add(kinds)
