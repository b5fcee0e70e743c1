"""`anchorhold verify snp`: is this AMD SEV-SNP report genuine, and is it acceptable?

Nothing is fetched. The certificate of the signing key comes with the report; the intermediate and the root
come with `--chain` or from a folder, and are trusted only if they end in a pinned key.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anchorhold.command import Verbs
from anchorhold.input_files import CHAIN, CRL, SNP_REPORT, VEK, UsageRefused, hex_option
from anchorhold.verbs.verify.verdict import Criteria, Found, add_judging_options, judged
from measurements.reference import ReferenceValues

if TYPE_CHECKING:
    from attestation.verify.pins import SnpRoots

CERTIFICATE_SUFFIXES: Final = frozenset({".der", ".pem", ".crt", ".cer"})
FOLDER_FILES_MAX: Final = 1024

# Options that add one reference value, and the claim each is for.
REFERENCE_OPTIONS: Final = {
    "measurement": "snp.measurement",
    "report_data": "snp.report_data",
    "host_data": "snp.host_data",
    "chip_id": "snp.chip_id",
}


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "snp",
        help="judge an AMD SEV-SNP report",
        description="Judge an AMD SEV-SNP report, offline. Exit status: 0 accepted, 1 usage or malformed, "
        "2 not genuine, 3 collateral missing or expired, 4 refused by policy.",
    )
    parser.add_argument("--report", required=True, metavar="FILE", help="the report, 1184 bytes")
    parser.add_argument("--vek", required=True, metavar="FILE", help="its VCEK or VLEK certificate")
    parser.add_argument(
        "--chain",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="certificates that lead to AMD's root: ASK or ASVK, and ARK",
    )
    parser.add_argument("--certs", metavar="DIR", help="a folder of certificates to look for the chain in")
    parser.add_argument("--crl", nargs="+", action="extend", default=[], metavar="FILE", help="revocation lists")
    parser.add_argument(
        "--simulated-root",
        action="append",
        default=[],
        metavar="NAME:PRODUCT:HEX",
        help="also look for this simulated root, by the SHA-256 of its public key; a policy still has to name it",
    )
    for name, claim in REFERENCE_OPTIONS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            action="append",
            default=[],
            metavar="HEX",
            help=f"a reference value for {claim}",
        )
    add_judging_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return judged("snp", arguments, _judge)


def _judge(arguments: argparse.Namespace, by: Criteria) -> Found:
    from attestation.evidence.snp_report import SnpReport
    from attestation.verify.evidence_chains import snp_chains
    from attestation.verify.facts import snp_facts
    from attestation.verify.snp import SnpCollateral, SnpEvidence, verify_snp

    stated = ReferenceValues.of(_stated_references(arguments))
    SNP_REPORT.parsed(arguments.report, SnpReport.parse)  # so that what is refused below is the certificate's
    report = SNP_REPORT.read(arguments.report)
    evidence = VEK.parsed(arguments.vek, lambda vek: SnpEvidence.parse(report, vek))
    collateral = SnpCollateral.parse(map(CHAIN.read, arguments.chain), map(CRL.read, arguments.crl))
    if arguments.certs is not None:
        collateral = collateral.with_certificates(_folder(Path(arguments.certs)))
    verified = verify_snp(evidence, collateral, at=by.at, roots=_roots(arguments.simulated_root))
    return Found(snp_facts(verified), by.appraisal(verified, stated), snp_chains(evidence, collateral, verified))


def _stated_references(arguments: argparse.Namespace) -> dict[str, list[bytes]]:
    return {
        claim: [hex_option(text, f"--{name.replace('_', '-')}") for text in getattr(arguments, name)]
        for name, claim in REFERENCE_OPTIONS.items()
    }


def _roots(named: list[str]) -> SnpRoots:
    from attestation.evidence.snp_report import Product
    from attestation.verify.pins import with_simulated

    roots = []
    for text in named:
        name, _, rest = text.partition(":")
        product, _, digest = rest.partition(":")
        if product not in {member.value for member in Product} or len(digest) != 64:
            raise UsageRefused("usage.simulated-root", expected="NAME:PRODUCT:64 hex digits", got=repr(text[:90]))
        roots.append((name, Product(product), hex_option(digest, "--simulated-root")))
    return with_simulated(roots)


def _folder(folder: Path) -> Iterator[bytes]:
    if not folder.is_dir():
        raise UsageRefused("usage.certs", expected="a folder", got=folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in CERTIFICATE_SUFFIXES)
    if len(files) > FOLDER_FILES_MAX:
        raise UsageRefused("usage.certs", expected=f"<= {FOLDER_FILES_MAX} certificate files", got=len(files))
    return map(CHAIN.read, files)
