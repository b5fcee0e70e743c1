"""`python -m bench.evidence`: what judging evidence costs, and how much is arithmetic nobody can avoid.

The whole is timed from bytes to a verified report, certificates as files: once as a relying party sees it that
knows the intermediates from earlier reports, once as a first time, when every certificate is read anew. The
arithmetic is the same four signatures alone. Evidence is that of a simulated machine, so no vectors are
needed; `--vectors DIR` times published evidence instead.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.evidence import certificates
from attestation.evidence.certificates import read_certificate
from attestation.evidence.snp_report import SnpReport
from attestation.evidence.vek import Vek
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.verify.chain import HASH, PADDING, key_digest
from attestation.verify.pins import AMD_ROOTS, SnpRoots, with_simulated
from attestation.verify.snp import SnpCollateral, SnpEvidence, verify_snp
from devnet.pki import Validity
from devnet.sim_snp import ReportFields, SimulatedSnp
from measurements.reference import ReferenceValues

ROUNDS = 15
CALLS = 20


def best_ms(call: Callable[[], object], *, rounds: int = ROUNDS, calls: int = CALLS) -> float:
    """The best of `rounds`, each the mean of `calls`: processor time, so that a busy machine tells little of itself."""
    call()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            call()
        found.append((time.process_time() - start) / calls * 1000)
    return min(found)


def snp(report: bytes, vek: bytes, chain: list[bytes], roots: SnpRoots) -> dict[str, float]:
    """Milliseconds for SNP evidence from bytes to a verified report, and where they go."""
    at = read_certificate(vek).not_valid_before_utc + timedelta(days=30)
    policy = document.builtin("strict")

    def verify() -> object:
        return verify_snp(SnpEvidence.parse(report, vek), SnpCollateral.parse(chain), at=at, roots=roots)

    verified = verify_snp(SnpEvidence.parse(report, vek), SnpCollateral.parse(chain), at=at, roots=roots)
    rsa_ms, ecdsa = _arithmetic(report, vek, chain)
    whole = best_ms(verify)

    def first_verify() -> object:
        certificates.forget()
        return verify()

    return {
        "whole": whole,
        "whole, first time": best_ms(first_verify),
        "rsa": 3 * rsa_ms,
        "ecdsa": ecdsa,
        "arithmetic share": (3 * rsa_ms + ecdsa) / whole,
        "parse report": best_ms(lambda: SnpReport.parse(report)),
        "parse certificate": best_ms(lambda: Vek.of(read_certificate(vek))),
        "appraise": best_ms(lambda: appraise(verified, ReferenceValues.none(), policy)),
    }


def _arithmetic(report: bytes, vek: bytes, chain: list[bytes]) -> tuple[float, float]:
    """One RSA-4096 and one P-384 verification, in milliseconds."""
    certificate = read_certificate(vek)
    parsed = SnpReport.parse(report)
    r, s = (int.from_bytes(part, "little") for part in parsed.signature)
    signature, signed = encode_dss_signature(r, s), parsed.signed
    body, over = certificate.tbs_certificate_bytes, certificate.signature
    issuer, signer = read_certificate(chain[0]).public_key(), certificate.public_key()
    if not (isinstance(issuer, rsa.RSAPublicKey) and isinstance(signer, ec.EllipticCurvePublicKey)):
        raise TypeError("not the keys of SNP evidence")
    return (
        best_ms(lambda: issuer.verify(over, body, PADDING, HASH)),
        best_ms(lambda: signer.verify(signature, signed, ec.ECDSA(hashes.SHA384()))),
    )


def published(vectors: Path) -> tuple[bytes, bytes, list[bytes], SnpRoots]:
    """A published Genoa report, its certificate and AMD's two above it."""
    folder, amd = vectors / "snp" / "genoa-v5-vcek-64356573", vectors / "endorsements" / "amd" / "Genoa"
    chain = [(amd / f"{name}.der").read_bytes() for name in ("ask", "ark")]
    return (folder / "report.bin").read_bytes(), (folder / "vek.der").read_bytes(), chain, AMD_ROOTS


def made() -> tuple[bytes, bytes, list[bytes], SnpRoots]:
    """Evidence of a simulated machine, under a root of its own."""
    validity = Validity(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    machine = SimulatedSnp.create(bytes(32), validity)
    report = machine.report(bytes(64), ReportFields(measurement=bytes(48)))
    root = read_certificate(machine.ark.der).public_key()
    if not isinstance(root, rsa.RSAPublicKey):
        raise TypeError("not a root of SNP evidence")
    roots = with_simulated([("simulated", machine.product, key_digest(root))])
    return report, machine.vcek.der, [machine.ask.der, machine.ark.der], roots


def table(title: str, figures: dict[str, float]) -> str:
    rows = [f"  {name:<20} {value:9.3f}{'' if name.endswith('share') else ' ms'}" for name, value in figures.items()]
    return "\n".join([title, *rows])


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence", description=__doc__)
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="published evidence to time instead of our own")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    figures = {"snp": snp(*(published(arguments.vectors) if arguments.vectors else made()))}
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(table(f"{name} evidence, bytes to verdict", found) for name, found in figures.items()))
    return figures


if __name__ == "__main__":
    main()
