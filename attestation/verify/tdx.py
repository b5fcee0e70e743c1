"""Is a TDX quote genuine? Signatures, chains, bindings and revocation, judged twice.

Every proof is checked here, in an order that says what failed, and then Intel's rules are applied once more
by an independent implementation (dcap-qvl). Both have to agree, on the verdict and on the TCB status:
neither alone can let a quote through. Where dcap-qvl stops for a reason that is policy and not proof (a
debug bit, a patch level nobody lists), its reason is kept, and the policy has to deal with it.

What this does NOT establish: that the trust domain is one anybody wants. Attributes, measurements, RTMRs,
REPORTDATA and the TCB status are facts here and decisions in `attestation.policy.tdx`.

`VerifiedTdx` is made in this module and nowhere else. No clock, no network: time and collateral are
arguments. The root is Intel's production root by key digest; `verify_tdx_with_root_ca` trusts one the caller
hands over instead, and what it returns says so for good. docs/spec/evidence-tdx.md E66 to E75.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import BindingRefused, ChainRefused, CollateralMissing, FormatRefused, NotGenuine, Revoked
from attestation.evidence.sgx_extension import SGX_EXTENSION_OID, PckIdentity
from attestation.evidence.tdx_collateral import QeIdentity, SignedText, TcbStatus, TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify.ec_chain import (
    ec_key,
    parse_certificate,
    parse_crl,
    parse_pem_chain,
    spki_digest,
    unrevoked,
    verify_chain,
    verify_crl,
    verify_raw_signature,
)
from attestation.verify.tdx_tcb import assess
from attestation.verify.verified import SEAL, TrustAnchor
from attestation.verify.verified_tdx import SecondOpinion, VerifiedTdx
from foundation.refusal import shown

INTEL_ROOT_SPKI = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
# E66: Intel's pre-production root signs quotes of development machines: refused even when handed over as a root.
INTEL_PRE_PRODUCTION_ROOT_SPKI = bytes.fromhex("abcbd1f4da017d68ac75b49fcd7d12fddcd949d3cb5d9afa78f2cf44d489630b")
_INTEL = TrustAnchor("Intel SGX Root CA", INTEL_ROOT_SPKI, simulated=False)


def verify_tdx(quote: TdxQuote, collateral: TdxCollateral | None, *, at: datetime) -> VerifiedTdx:
    """Verify `quote` under Intel's production root, as of `at`. A refusal names the stage.

    Establishes that a TDX module on an Intel platform made the report. Does not establish what runs there.
    """
    return _verify(quote, collateral, at, _INTEL, root_der=None)


def verify_tdx_with_root_ca(
    quote: TdxQuote, collateral: TdxCollateral | None, *, at: datetime, root_der: bytes
) -> VerifiedTdx:
    """As `verify_tdx`, under a root the caller vouches for: a simulated platform. The result says so."""
    root = parse_certificate("tdx.root_ca", root_der)
    spki = spki_digest(root)
    if spki == INTEL_PRE_PRODUCTION_ROOT_SPKI:
        raise ChainRefused("tdx.root_ca", expected="any root but Intel's pre-production root", got=spki.hex())
    anchor = TrustAnchor("a root supplied by the caller", spki, simulated=True)
    return _verify(quote, collateral, at, anchor, root_der=root_der)


def _verify(
    quote: TdxQuote, collateral: TdxCollateral | None, at: datetime, anchor: TrustAnchor, *, root_der: bytes | None
) -> VerifiedTdx:
    chain = parse_pem_chain("tdx.pck_chain", quote.pck_chain_pem, count=3)
    verify_chain("tdx.pck_chain", chain, root_spki=anchor.spki_sha256, at=at)
    _verify_quote_signatures(quote, chain[0])
    pck = _pck_identity(chain[0])
    if collateral is None:
        raise CollateralMissing("tdx.collateral", expected="TCB info, QE identity and revocation lists", got="none")
    root_crl = _verify_revocation(collateral, chain, at)
    _verify_documents(collateral, pck, anchor.spki_sha256, root_crl, at=at)
    _verify_qe_identity(quote, collateral.qe_identity)
    tcb = assess(quote.report, quote.qe_report, pck, collateral.tcb_info, qe=collateral.qe_identity)
    if tcb.status is TcbStatus.REVOKED:
        # E73: keys of a revoked level may be in anybody's hands, so the signature proves nothing any more.
        raise Revoked("tdx.tcb_revoked", expected="a TCB level that is not revoked", got=tcb.status.value)
    opinion = _second_opinion(quote, collateral, at, root_der)
    _require_agreement(opinion, tcb.status, quote, anchor)
    info, identity = collateral.tcb_info, collateral.qe_identity
    return VerifiedTdx(
        root=anchor,
        report=quote.report,
        quote_version=quote.header.version,
        pck=pck,
        tcb=tcb,
        evaluation_number=min(info.evaluation_number, identity.evaluation_number),
        collateral_until=min(info.next_update, identity.next_update),
        verified_at=at,
        second_opinion=opinion,
        # Over what was signed: the signature itself is malleable, so nothing is remembered by the whole
        # quote.
        signed_digest=hashlib.sha256(quote.signed).digest(),
        event_log=None,
        seal=SEAL,
    )


def _verify_quote_signatures(quote: TdxQuote, leaf: x509.Certificate) -> None:
    """E68: PCK key -> QE report -> attestation key -> TD report: each signed or hashed by the one before."""
    pck_key = ec_key("tdx.pck", leaf, ec.SECP256R1)
    verify_raw_signature(
        "tdx.qe_report_signature", pck_key, quote.qe_report_signature, quote.qe_report.raw, algorithm=hashes.SHA256()
    )
    binding = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest().ljust(64, b"\0")
    if not hmac.compare_digest(quote.qe_report.report_data, binding):
        raise BindingRefused(
            "tdx.attestation_key",
            expected="the key the QE report names",
            got=f"a key bound as {binding[:32].hex()}, named as {shown(quote.qe_report.report_data)}",
        )
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError:
        raise FormatRefused(
            "tdx.attestation_key", expected="a point on P-256", got=quote.attestation_key.hex()
        ) from None
    verify_raw_signature("tdx.quote_signature", key, quote.signature, quote.signed, algorithm=hashes.SHA256())


def _pck_identity(leaf: x509.Certificate) -> PckIdentity:
    for extension in leaf.extensions:
        if extension.oid.dotted_string == SGX_EXTENSION_OID and isinstance(extension.value, x509.UnrecognizedExtension):
            return PckIdentity.parse(extension.value.value)
    raise ChainRefused("tdx.pck_chain.leaf", expected=f"a PCK certificate with {SGX_EXTENSION_OID}", got="none")


def _verify_revocation(
    collateral: TdxCollateral, chain: tuple[x509.Certificate, ...], at: datetime
) -> x509.CertificateRevocationList:
    """E69: nothing of the quote's chain is revoked; returns the root's list, for whoever else it certified."""
    leaf, authority, root = chain
    root_crl = parse_crl("tdx.root_crl", collateral.root_crl)
    verify_crl("tdx.root_crl", root_crl, root, at)
    unrevoked("tdx.pck_ca_revoked", authority, root_crl)
    pck_crl = parse_crl("tdx.pck_crl", collateral.pck_crl)
    verify_crl("tdx.pck_crl", pck_crl, authority, at)
    unrevoked("tdx.pck_revoked", leaf, pck_crl)
    return root_crl


def _signing_chain(name: str, signed: SignedText) -> tuple[x509.Certificate, ...]:
    if not signed.issuer_chain_pem.strip():
        raise CollateralMissing(f"tdx.{name}_chain", expected="the chain of who signed it", got="none")
    return parse_pem_chain(f"tdx.{name}_chain", signed.issuer_chain_pem.encode("ascii", "replace"), count=2)


def _verify_documents(
    collateral: TdxCollateral,
    pck: PckIdentity,
    root_spki: bytes,
    root_crl: x509.CertificateRevocationList,
    *,
    at: datetime,
) -> None:
    """E70: TCB info and QE identity: signed under the same root, current at `at`, and about this platform."""
    info, identity = collateral.tcb_info, collateral.qe_identity
    for name, signed, issued, until in (
        ("tcb_info", collateral.tcb_info_signed, info.issued, info.next_update),
        ("qe_identity", collateral.qe_identity_signed, identity.issued, identity.next_update),
    ):
        chain = _signing_chain(name, signed)
        verify_chain(f"tdx.{name}_chain", chain, root_spki=root_spki, at=at, late=CollateralMissing)
        unrevoked(f"tdx.{name}_chain.revoked", chain[0], root_crl)
        key = ec_key(f"tdx.{name}_chain", chain[0], ec.SECP256R1)
        verify_raw_signature(
            f"tdx.{name}_signature", key, signed.signature, signed.text.encode(), algorithm=hashes.SHA256()
        )
        if not issued <= at <= until:
            raise CollateralMissing(
                f"tdx.{name}_validity",
                expected=f"issued for {at.isoformat()}",
                got=f"{issued.isoformat()} to {until.isoformat()}",
            )
    # E70: tables of another platform say nothing about this one: it is as if there were none.
    if (info.fmspc, info.pce_id) != (pck.fmspc, pck.pce_id):
        raise CollateralMissing(
            "tdx.tcb_info_platform",
            expected=f"FMSPC {pck.fmspc.hex()}, PCE {pck.pce_id.hex()}",
            got=f"FMSPC {info.fmspc.hex()}, PCE {info.pce_id.hex()}",
        )


def _verify_qe_identity(quote: TdxQuote, identity: QeIdentity) -> None:
    """E71: the enclave that signed the quote is Intel's TDX quoting enclave."""
    qe = quote.qe_report
    attributes = bytes(a & m for a, m in zip(qe.attributes, identity.attributes_mask, strict=True))
    for field, expected, got in (
        ("mr_signer", identity.mr_signer.hex(), qe.mr_signer.hex()),
        ("isv_prod_id", identity.isv_prod_id, qe.isv_prod_id),
        ("misc_select", identity.misc_select, qe.misc_select & identity.misc_select_mask),
        ("attributes", identity.attributes.hex(), attributes.hex()),
    ):
        if expected != got:
            raise BindingRefused(f"tdx.qe_{field}", expected=expected, got=got)


# E74: what dcap-qvl refuses although every signature holds, and the fact of the report that has to be behind it.
_ATTRIBUTE_REASONS = (
    "Debug mode is enabled",
    "TD profiling is enabled",
    "SERVTD_EXT is enabled",
    "SEPT_VE_DISABLE is not enabled",
    "TD migration is enabled",
    "Reserved bits in TD attributes are set",
)
_CLEAN_ATTRIBUTES = 1 << 28
_AUTH_DATA_BYTES = 32
_LEVEL_REASONS = ("No matching TCB level found", "TDX module TCB level")


def _second_opinion(quote: TdxQuote, collateral: TdxCollateral, at: datetime, root_der: bytes | None) -> SecondOpinion:
    theirs = dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain_pem,
        root_ca_crl=collateral.root_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_signed.issuer_chain_pem,
        tcb_info=collateral.tcb_info_signed.text,
        tcb_info_signature=collateral.tcb_info_signed.signature,
        qe_identity_issuer_chain=collateral.qe_identity_signed.issuer_chain_pem,
        qe_identity=collateral.qe_identity_signed.text,
        qe_identity_signature=collateral.qe_identity_signed.signature,
    )
    now = int(at.timestamp())
    try:
        if root_der is None:
            verdict = dcap_qvl.verify(quote.raw, theirs, now)
        else:
            verdict = dcap_qvl.verify_with_root_ca(quote.raw, theirs, root_der, now)
    except (ValueError, OverflowError) as error:
        return SecondOpinion("", str(error).removeprefix("Verification failed: ").strip())
    return SecondOpinion(verdict.status, "")


def _require_agreement(opinion: SecondOpinion, status: TcbStatus, quote: TdxQuote, anchor: TrustAnchor) -> None:
    if opinion.declined:
        why, report = opinion.declined, quote.report
        explained = (
            # A simulated world may be stranger than dcap-qvl puts up with: the policy has to say (E84).
            anchor.simulated
            or (why.startswith(_ATTRIBUTE_REASONS) and report.td_attributes != _CLEAN_ATTRIBUTES)
            or (why.startswith("Invalid MR service TD") and any(report.mr_service_td or b""))
            or (why.startswith("Invalid QE auth data length") and len(quote.qe_auth_data) != _AUTH_DATA_BYTES)
            or (why.startswith(_LEVEL_REASONS) and status is TcbStatus.UNLISTED)
        )
    else:
        # A relaunch is advised where the platform was patched after the trust domain started: for it, out
        # of date.
        relaunch = opinion.status.startswith("TDRelaunchAdvised")
        explained = opinion.status == status.value or (relaunch and status.value.startswith("OutOfDate"))
    if not explained:
        raise NotGenuine(
            "tdx.second_opinion",
            expected=f"dcap-qvl to say {status.value} too",
            got=ascii(opinion.declined or opinion.status)[:300],
        )
