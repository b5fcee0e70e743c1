"""`anchorhold verify certificate`: judge one certificate of an Internet Computer subnet, offline.

Exit status: 0 it holds; 1 usage, or bytes that are no certificate; 2 signature, delegation, canister ranges,
data tree or `--at` refused; 4 it is sound and does not show what was asked of it.
"""

from __future__ import annotations

import argparse

from anchorhold.command import Verbs

_DESCRIPTION = """
Judge one certificate, offline: its signature under the root key (mainnet's unless --root-key), the
delegation to the subnet, that the subnet speaks for the canister, and what it shows. FILE is the
certificate's CBOR, or a read_state reply, call reply or canister signature around it; - is standard
input.

A path is text between slashes. certified_data, module_hash, controllers and metadata/NAME are the
canister's own; others begin at the root: time, request_status/ID/reply, subnet/ID/public_key,
canister/ID/... A label that is not text is written 0x and hex.

Without --path everything shown of the canister and of requests is printed, and a certificate that
opens the canister's part and shows nothing of it is refused.
"""

_EPILOG = """
exit status: 0 it holds; 1 usage, or bytes that are no certificate; 2 signature, delegation,
canister ranges, data tree or --at refused; 4 it is sound and does not show what was asked of it.
"""


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "certificate", help="judge a certificate of the Internet Computer", description=_DESCRIPTION
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", help="the certificate; - is standard input")
    about = parser.add_mutually_exclusive_group()
    about.add_argument("--canister", metavar="ID", help="the canister it must speak for (else none is read)")
    about.add_argument("--subnet", metavar="ID", help="the subnet it must come from; no canister is read")
    parser.add_argument("--root-key", metavar="HEX", help="a root key, 96 bytes or DER (default: mainnet's)")
    parser.add_argument("--path", metavar="PATH", help="the value it must show")
    parser.add_argument(
        "--at", metavar="NS", type=int, help="refuse a certified time more than 5 minutes from this, in ns since 1970"
    )
    parser.add_argument("--data-tree", metavar="FILE", help="a hash tree whose digest must be certified_data")
    parser.add_argument("--data-path", metavar="PATH", help="the value the data tree must show")
    parser.add_argument("--json", action="store_true", help="print JSON, refusals included")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from anchorhold.verbs.verify import certificate_report

    return certificate_report.give(arguments)
