"""`anchorhold verify evidence`: is this bundle genuine, does it bind its claims, and is it acceptable?

The bundle carries its own certificates, lists and collateral; nothing is fetched and no other file is needed.
Without `--nonce` nobody can tell how old it is, and a policy that wants to know refuses it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from anchorhold.command import Verbs
from anchorhold.input_files import EVIDENCE, ROOT_CERTIFICATE, hex_option
from anchorhold.verbs.verify.verdict import Criteria, Found, add_judging_options, judged

if TYPE_CHECKING:
    from attestation.verify.verified_bundle import VerifiedBundle


def add(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "evidence",
        help="judge an evidence bundle of either kind",
        description="Judge an evidence bundle, offline. Exit status: 0 accepted, 1 usage or malformed, "
        "2 not genuine or not bound to its claims, 3 collateral missing or expired, 4 refused by policy.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle")
    parser.add_argument("--nonce", metavar="HEX", help="the nonce that was asked for: shows it is fresh")
    parser.add_argument(
        "--simulated-root",
        metavar="FILE",
        help="also believe this simulated root certificate; a policy still has to name its key",
    )
    add_judging_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return judged("bundle", arguments, _judge)


def _judge(arguments: argparse.Namespace, by: Criteria) -> Found:
    from attestation.evidence.evidence_bundle import EvidenceBundle
    from attestation.policy.bundle_appraisal import appraise_bundle
    from attestation.verify.evidence_bundle import verify_bundle
    from attestation.verify.evidence_chains import bundle_chains

    nonce = None if arguments.nonce is None else hex_option(arguments.nonce, "--nonce")
    root = None if arguments.simulated_root is None else _certificate(arguments.simulated_root)
    bundle = EVIDENCE.parsed(arguments.bundle, EvidenceBundle.parse)
    verified = verify_bundle(bundle, at=by.at, nonce=nonce, simulated_root=root)
    appraisal = appraise_bundle(verified, by.references, by.policy, nonce=nonce) if by.policy else None
    return Found(_facts(verified), appraisal, bundle_chains(bundle, verified))


def _certificate(name: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from attestation.evidence.certificates import read_certificate

    return ROOT_CERTIFICATE.parsed(name, read_certificate).public_bytes(Encoding.DER)


def _facts(verified: VerifiedBundle) -> dict[str, object]:
    """What the bundle binds, then what its evidence says; a second device's facts carry its number."""
    from attestation.verify.facts import snp_facts
    from attestation.verify.gpu_facts import gpu_facts
    from attestation.verify.tdx_facts import tdx_facts
    from attestation.verify.verified import VerifiedSnp

    statement = verified.statement
    facts: dict[str, object] = {
        "tee": statement.kind.value,
        "purpose": statement.purpose.name.lower(),
        "nonce": statement.nonce.hex(),
        "keyset": statement.keyset.hex(),
        "measured_config": statement.measured_config.hex(),
        **{f"key.{key.use.name.lower()}": f"{key.algorithm.name} {key.raw.hex()}" for key in verified.keyset.keys},
    }
    if isinstance(verified.evidence, VerifiedSnp):
        facts |= snp_facts(verified.evidence)
    else:
        facts |= tdx_facts(verified.evidence)
    for number, device in enumerate(verified.devices):
        facts |= {f"gpu{number}.{name}": value for name, value in gpu_facts(device).items()}
    return facts
