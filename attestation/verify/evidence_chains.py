"""Which certificate chains a piece of verified evidence rests on, with the lists that came along.

For `attestation.verify.openssl_opinion` to ask about. Each function takes the parsed evidence and the root that it was
verified under; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryptography import x509

from attestation.evidence.auxblob import TableEntry
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.gpu_rim import GpuRim
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify.chain import lead_to_root
from attestation.verify.ec_chain import parse_certificate, parse_crl, parse_pem_chain
from attestation.verify.gpu_rim import NVIDIA_RIM_ROOT_SPKI
from attestation.verify.openssl_opinion import AskedChain
from attestation.verify.pins import SnpRoot
from attestation.verify.snp import SnpCollateral, SnpEvidence
from attestation.verify.verified import TrustAnchor, VerifiedSnp
from attestation.verify.verified_bundle import VerifiedBundle


def snp_chains(evidence: SnpEvidence, collateral: SnpCollateral, verified: VerifiedSnp) -> Iterator[AskedChain]:
    """The chain of the key that signed the report."""
    root = verified.root
    chain = lead_to_root(evidence.vek, collateral.certificates, {root.spki_sha256: SnpRoot(verified.product, root)})
    yield AskedChain(verified.key.name, chain.certificates, [root.spki_sha256], collateral.lists)


def tdx_chains(quote: TdxQuote, collateral: TdxCollateral | None, root: TrustAnchor) -> Iterator[AskedChain]:
    """The chains of the platform's key and, with collateral, of whoever signed its two documents."""
    chains = [("PCK", quote.pck_chain_pem, 3)]
    lists: tuple[x509.CertificateRevocationList, ...] = ()
    if collateral is not None:
        info, identity = collateral.tcb_info_signed, collateral.qe_identity_signed
        chains.append(("TCB info", info.issuer_chain_pem.encode(), 2))
        chains.append(("QE identity", identity.issuer_chain_pem.encode(), 2))
        lists = (parse_crl("tdx.root_crl", collateral.root_crl), parse_crl("tdx.pck_crl", collateral.pck_crl))
    for name, pem, count in chains:
        yield AskedChain(name, parse_pem_chain("tdx.chain", pem, count=count), [root.spki_sha256], lists)


def gpu_chains(name: str, chain_pem: bytes, rims: Iterable[GpuRim], root: TrustAnchor) -> Iterator[AskedChain]:
    """The chains of the device and of whoever signed each manifest."""
    yield AskedChain(name, parse_pem_chain("gpu.chain", chain_pem, count=5), [root.spki_sha256])
    for rim in rims:
        certificates = tuple(parse_certificate("gpu.rim.chain", der) for der in rim.certificates)
        yield AskedChain(f"{name} manifest {rim.version}", certificates, [NVIDIA_RIM_ROOT_SPKI])


def bundle_chains(bundle: EvidenceBundle, verified: VerifiedBundle) -> Iterator[AskedChain]:
    """The chains of a bundle's report and of its devices."""
    if isinstance(verified.evidence, VerifiedSnp):
        table = bundle.certificates
        vek = table.get(TableEntry.VCEK) or table[TableEntry.VLEK]
        issuers = [table[entry] for entry in (TableEntry.ASK, TableEntry.ARK) if entry in table]
        evidence = SnpEvidence.parse(bundle.report, vek)
        yield from snp_chains(evidence, SnpCollateral.parse(issuers, bundle.crls), verified.evidence)
    else:
        quote, collateral = TdxQuote.parse(bundle.report), TdxCollateral.parse(bundle.collateral)
        yield from tdx_chains(quote, collateral, verified.evidence.root)
    for number, (device, facts) in enumerate(zip(bundle.devices, verified.devices, strict=True)):
        yield from gpu_chains(f"GPU {number}", device.chain, map(GpuRim.parse, device.manifests), facts.root)
