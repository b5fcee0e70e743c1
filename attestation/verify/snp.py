"""Is it genuine? SNP evidence and its collateral in, `VerifiedSnp` out; or one refusal naming the stage.

The order is fixed. What could make evidence false is looked at before what could only make it undecided,
so that a forgery is never excused as missing paperwork:

    chain -> signature over the report -> bindings -> revocation -> validity in time -> freshness of lists

Nothing is fetched: certificates and lists are arguments, and so is the time. What it does not establish:
that the values are wanted (`attestation.policy`), nor that the report is new (its `report_data` tells).
Rules: docs/spec/evidence.md E20 to E52.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation.errors import BindingRefused, ChainRefused, CollateralMissing, FormatRefused, SignatureRefused
from attestation.evidence.certificates import read_certificate, read_certificates, read_crl
from attestation.evidence.cursor import first_set
from attestation.evidence.snp_report import Cpuid, KeyKind, Product, SnpReport, Tcb
from attestation.evidence.vek import HWID_BYTES, Vek
from attestation.verify.chain import Chain, common_name, lead_to_root, refuse_outside_validity
from attestation.verify.crl import freshness, lists_for, refuse_revoked
from attestation.verify.ec_chain import key_name
from attestation.verify.pins import AMD_ROOTS, SnpRoots
from attestation.verify.verified import SEAL, VerifiedSnp
from foundation.digests import tagged_sha256

ECDSA_P384_SHA384: Final = 1
P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
BODY_TAG: Final = "anchorhold/snp-body/v1"

# E47: (CPUID family, first model, last model) of each product.
MODELS: Final = (
    (0x19, 0x00, 0x0F, Product.MILAN),
    (0x19, 0x10, 0x1F, Product.GENOA),
    (0x19, 0xA0, 0xAF, Product.GENOA),  # Bergamo and Siena: Genoa's root and layout
    (0x1A, 0x00, 0x1F, Product.TURIN),
)


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """A report and the certificate that came with it: parsed, not believed."""

    report: SnpReport
    vek: x509.Certificate

    @classmethod
    def parse(cls, report: bytes, vek: bytes) -> Self:
        """Raises `FormatRefused` alone."""
        return cls(SnpReport.parse(report), read_certificate(vek))


@dataclass(frozen=True, slots=True)
class SnpCollateral:
    """Certificates and revocation lists from anywhere: nothing here is believed for where it came from."""

    certificates: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...]

    @classmethod
    def parse(cls, certificates: Iterable[bytes], lists: Iterable[bytes] = ()) -> Self:
        """Each item a DER or PEM file. Raises `FormatRefused` alone."""
        found = tuple(certificate for raw in certificates for certificate in read_certificates(raw))
        return cls(found, tuple(read_crl(raw) for raw in lists))

    def with_certificates(self, files: Iterable[bytes]) -> Self:
        """Also the certificates of a folder; a file in it that holds none is passed over."""
        found = list(self.certificates)
        for raw in files:
            try:
                found += (c for c in read_certificates(raw) if c not in found)
            except FormatRefused:
                continue
        return replace(self, certificates=tuple(found))


def verify_snp(
    evidence: SnpEvidence, collateral: SnpCollateral, *, at: datetime, roots: SnpRoots = AMD_ROOTS
) -> VerifiedSnp:
    """Raises `NotGenuine` where the evidence is false, `CollateralMissing` where nobody can tell at `at`."""
    at = at.astimezone(UTC)
    report = evidence.report
    chain = _chain(evidence, collateral, roots)
    _check_signature(report, evidence.vek)
    vek = Vek.of(evidence.vek)
    reported = _check_bindings(report, vek, chain)
    lists = lists_for(chain, collateral.lists)
    refuse_revoked(chain, lists)
    valid_until = refuse_outside_validity(chain.certificates, at)
    revocation, revocation_until = freshness(lists, at)
    product = chain.root.product
    return VerifiedSnp(
        root=chain.root.anchor,
        product=product,
        key=vek.kind,
        csp_id=vek.csp_id,
        version=report.version,
        guest_svn=report.guest_svn,
        policy=report.policy,
        family_id=report.family_id,
        image_id=report.image_id,
        vmpl=report.vmpl,
        current_tcb=Tcb.parse(report.current_tcb, product),
        reported_tcb=reported,
        committed_tcb=Tcb.parse(report.committed_tcb, product),
        launch_tcb=Tcb.parse(report.launch_tcb, product),
        platform=report.platform,
        author_key_enabled=report.author_key_enabled,
        report_data=report.report_data,
        measurement=report.measurement,
        host_data=report.host_data,
        id_key_digest=report.id_key_digest,
        author_key_digest=report.author_key_digest,
        report_id=report.report_id,
        report_id_ma=report.report_id_ma,
        cpuid=report.cpuid,
        chip_id=_chip_id(report, product),
        hwid=vek.hwid,
        current_firmware=report.current_firmware,
        committed_firmware=report.committed_firmware,
        launch_mitigations=report.launch_mitigations,
        current_mitigations=report.current_mitigations,
        revocation=revocation,
        revocation_until=revocation_until,
        verified_at=at,
        valid_until=valid_until,
        body_digest=tagged_sha256(BODY_TAG, report.signed),
        seal=SEAL,
    )


def _chain(evidence: SnpEvidence, collateral: SnpCollateral, roots: SnpRoots) -> Chain:
    try:
        return lead_to_root(evidence.vek, collateral.certificates, roots)
    except CollateralMissing:
        # E28: a missing certificate is only reported for evidence that nothing at hand condemns.
        _check_signature(evidence.report, evidence.vek)
        raise


def _check_signature(report: SnpReport, vek: x509.Certificate) -> None:
    if report.signature_algorithm != ECDSA_P384_SHA384:
        raise SignatureRefused(
            "snp.signature.algorithm", expected="1 (ECDSA P-384, SHA-384)", got=report.signature_algorithm
        )
    if report.chip_key_masked or report.key_kind is KeyKind.NONE:
        raise SignatureRefused(
            "snp.signature.absent",
            expected="a signed report",
            got=f"key kind {report.key_kind.name}, {'masked' if report.chip_key_masked else 'not masked'}",
        )
    r, s = (_component(raw) for raw in report.signature)
    try:
        _report_key(vek).verify(encode_dss_signature(r, s), report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise SignatureRefused(
            "snp.signature", expected=f"signed by the key of {common_name(vek)}", got="a signature that does not verify"
        ) from None


def _component(raw: bytes) -> int:
    # E41: 48 bytes little-endian in a field of 72, the rest zero, and from 1 to n-1. Both S and n-S verify:
    # the signature is malleable, so nothing is ever keyed on it (E43).
    value = int.from_bytes(raw, "little")
    if not 0 < value < P384_ORDER:
        raise SignatureRefused("snp.signature.range", expected="R and S from 1 to n-1", got=hex(value))
    return value


def _report_key(vek: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key = vek.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ChainRefused("vek.key", expected="a key on P-384", got=key_name(key))
    return key


def _check_bindings(report: SnpReport, vek: Vek, chain: Chain) -> Tcb:
    """What the certificate says of its key against what the report says of itself; the reported TCB."""
    product = chain.root.product
    if report.key_kind is not vek.kind:
        raise BindingRefused("snp.binding.key-kind", expected=report.key_kind.name, got=vek.kind.name)
    # E26: the ASK issues VCEKs, the ASVK issues VLEKs.
    issuer = f"SEV-VLEK-{product.value}" if vek.kind is KeyKind.VLEK else f"SEV-{product.value}"
    if common_name(chain.intermediate) != issuer:
        raise BindingRefused("snp.binding.issuer", expected=issuer, got=common_name(chain.intermediate))
    if vek.product is not product:
        raise BindingRefused("snp.binding.product", expected=product.value, got=vek.product.value)
    if report.cpuid is not None and product_of(report.cpuid) is not product:
        raise BindingRefused("snp.binding.cpuid", expected=f"a {product.value}", got=report.cpuid)
    reported = Tcb.parse(report.reported_tcb, product)
    if reported != vek.tcb:
        raise BindingRefused("snp.binding.tcb", expected=f"reported TCB [{vek.tcb}]", got=f"[{reported}]")
    chip_id = _chip_id(report, product)
    if vek.hwid is not None and chip_id is not None and chip_id != vek.hwid:
        raise BindingRefused("snp.binding.chip", expected=vek.hwid.hex(), got=chip_id.hex())
    return reported


def product_of(cpuid: Cpuid) -> Product | None:
    """The product a processor belongs to; None for one that SNP roots here do not cover."""
    for family, first, last, product in MODELS:
        if cpuid.family == family and first <= cpuid.model <= last:
            return product
    return None


def _chip_id(report: SnpReport, product: Product) -> bytes | None:
    # E48, E49: all zero means the host hid the chip; on Turin the id is eight bytes and the rest is zero.
    size = HWID_BYTES[product]
    if any(report.chip_id[size:]):
        raise BindingRefused(
            "snp.binding.chip",
            expected=f"{size} bytes, the rest zero",
            got=f"a chip id with {first_set(report.chip_id[size:], size)}",
        )
    return report.chip_id[:size] if any(report.chip_id) else None
