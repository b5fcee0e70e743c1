"""The simulated TEE: real formats to the byte, the same twice, and believed by nobody who was not told to."""

from __future__ import annotations

import ast
import base64
from dataclasses import replace
from pathlib import Path

import dcap_qvl
import pytest
from cryptography import x509

from attestation.errors import ChainRefused, NotGenuine
from attestation.evidence.auxblob import CertificateTable, TableEntry
from attestation.evidence.event_log import parse_event_log
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.kinds import TeeKind
from attestation.evidence.snp_report import Product
from attestation.evidence.tdx_collateral import TcbStatus, TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.policy.bundle_appraisal import appraise_bundle
from attestation.policy.document import builtin, builtin_names, parse
from attestation.report_data import Purpose, Statement, identity_report_data
from attestation.tee.configfs import ConfigfsTee
from attestation.tee.errors import TeeRefused
from attestation.tee.produce import identity
from attestation.tee.tee import Tee
from attestation.verify.ec_chain import spki_digest
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.pins import AMD_ROOTS, with_simulated
from attestation.verify.snp import SnpCollateral, SnpEvidence, verify_snp
from attestation.verify.tdx import verify_tdx, verify_tdx_with_root_ca
from devnet.sim_snp import ReportFields, SimulatedSnp
from devnet.sim_tdx import QuoteFields, SimulatedTdx
from devnet.tee import collateral_json, identity_bundle, policy_document, reference_values, release_bundle
from measurements.reference import ReferenceValues
from tests.fakes import fuse
from tests.fakes.configfs_tsm import DirectFiles, FakeTsm
from tests.little_tee import (
    AT,
    CONFIG,
    KEYSET,
    MEASURED,
    MEASUREMENT,
    NONCE,
    SEED,
    VALIDITY,
    snp_platform,
    snp_tee,
    tdx_platform,
    tdx_tee,
)

ROOT = Path(__file__).resolve().parents[3]
REPORT_DATA = bytes(range(64))
PRODUCTS = (Product.GENOA, Product.TURIN)


def snp_evidence(platform: SimulatedSnp, report: bytes) -> tuple[SnpEvidence, SnpCollateral]:
    return SnpEvidence.parse(report, platform.vcek.der), SnpCollateral.parse(
        [platform.ask.der, platform.ark.der], [platform.crl]
    )


# --- real formats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("version", [2, 3, 5])
def test_a_report_is_judged_by_the_verifier_of_hardware(product: Product, version: int):
    platform = snp_platform(product)
    fields = ReportFields(MEASUREMENT, version=version, host_data=b"h" * 32, guest_svn=3, vmpl=1)
    evidence, collateral = snp_evidence(platform, platform.report(REPORT_DATA, fields))
    roots = with_simulated([("devnet", product, spki_digest(platform.ark.certificate))])
    verified = verify_snp(evidence, collateral, at=AT, roots=roots)
    assert verified.root.simulated
    assert (verified.product, verified.version, verified.measurement) == (product, version, MEASUREMENT)
    assert (verified.report_data, verified.host_data) == (REPORT_DATA, b"h" * 32)
    assert (verified.guest_svn, verified.vmpl) == (3, 1)
    assert len(verified.chip_id or b"") == (8 if product is Product.TURIN else 64)
    assert verified.reported_tcb == verified.launch_tcb
    assert (verified.reported_tcb.fmc is not None) is (product is Product.TURIN)


def test_a_quote_is_judged_by_both_verifiers_of_hardware():
    platform = tdx_platform()
    quote = platform.quote(REPORT_DATA, QuoteFields(MEASUREMENT))
    collateral = TdxCollateral.parse(collateral_json(platform))
    verified = verify_tdx_with_root_ca(TdxQuote.parse(quote), collateral, at=AT, root_der=platform.root.der)
    assert verified.tcb.status is TcbStatus.UP_TO_DATE
    assert verified.report.mr_td == MEASUREMENT
    theirs = dcap_qvl.verify_with_root_ca(
        quote, dcap_qvl.QuoteCollateralV3(**platform.collateral), platform.root.der, int(AT.timestamp())
    )
    assert theirs.status == "UpToDate"


@pytest.mark.parametrize(
    "status", [TcbStatus.OUT_OF_DATE, TcbStatus.SW_HARDENING_NEEDED, TcbStatus.CONFIGURATION_NEEDED]
)
def test_a_platform_may_be_simulated_as_badly_patched(status: TcbStatus):
    platform = replace(tdx_platform(), tcb_status=status.value)
    quote = TdxQuote.parse(platform.quote(REPORT_DATA, QuoteFields(MEASUREMENT)))
    collateral = TdxCollateral.parse(collateral_json(platform))
    assert verify_tdx_with_root_ca(quote, collateral, at=AT, root_der=platform.root.der).tcb.status is status


def test_the_log_of_a_simulated_start_leads_to_its_registers():
    tee = tdx_tee()
    log = parse_event_log(tee.log)
    assert log.replay() == tee.fields.rtmrs
    assert [event.data for event in log.events] == [each.data for each in MEASURED]
    assert all(any(register) == (number in (1, 2)) for number, register in enumerate(tee.fields.rtmrs))


def test_the_table_beside_a_report():
    table = CertificateTable.parse(snp_tee().quote(REPORT_DATA).auxblob)
    assert set(table.values) == {TableEntry.ARK, TableEntry.ASK, TableEntry.VCEK, TableEntry.CRL}
    assert table.get(TableEntry.VCEK) == snp_platform().vcek.der


# --- the same twice -----------------------------------------------------------------------------------------


def test_a_report_follows_from_the_seed():  # evidence-production.md E127
    """The report does; the RSA certificates above it do not, and so two devnets never share a root."""
    again = SimulatedSnp.create(SEED, VALIDITY)
    fields = ReportFields(MEASUREMENT)
    assert again.report(REPORT_DATA, fields) == snp_platform().report(REPORT_DATA, fields)
    assert again.vcek.key.private_numbers() == snp_platform().vcek.key.private_numbers()
    assert spki_digest(again.ark.certificate) != spki_digest(snp_platform().ark.certificate)


def test_a_quote_and_its_collateral_follow_from_the_seed():  # evidence-production.md E127
    again = SimulatedTdx.create(SEED, VALIDITY)
    fields = QuoteFields(MEASUREMENT)
    assert again.quote(REPORT_DATA, fields) == tdx_platform().quote(REPORT_DATA, fields)
    assert again.collateral == tdx_platform().collateral
    other = SimulatedTdx.create(b"another seed", VALIDITY)
    assert other.root.der != again.root.der
    assert other.quote(REPORT_DATA, fields) != again.quote(REPORT_DATA, fields)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_the_data_is_64_bytes(size: int):
    for tee in (snp_tee(), tdx_tee()):
        with pytest.raises(TeeRefused):
            tee.quote(bytes(size))


def test_a_field_of_a_wrong_size_is_our_own_mistake():
    with pytest.raises(ValueError, match="48 bytes"):
        snp_platform().report(REPORT_DATA, ReportFields(b"short"))
    with pytest.raises(ValueError, match="48 bytes"):
        tdx_platform().quote(REPORT_DATA, QuoteFields(b"short"))


# --- believed by nobody -------------------------------------------------------------------------------------


def test_every_name_says_simulated():  # evidence-production.md E126
    authorities = (
        snp_platform().ark,
        snp_platform().ask,
        snp_platform().vcek,
        tdx_platform().root,
        tdx_platform().pck_authority,
        tdx_platform().pck,
        tdx_platform().tcb_signing,
    )
    for authority in authorities:
        certificate = x509.load_der_x509_certificate(authority.der)
        assert "SIMULATED" in certificate.subject.rfc4514_string()
        assert "SIMULATED" in certificate.issuer.rfc4514_string()
    for root in (snp_platform().ark, tdx_platform().root):
        name = root.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        assert str(name).startswith("SIMULATED")


def test_the_kinds_are_their_own():  # evidence-production.md E126
    assert {snp_tee().kind, tdx_tee().kind} == {TeeKind.SIMULATED_SNP, TeeKind.SIMULATED_TDX}
    assert all(tee.quote(REPORT_DATA).kind is tee.kind for tee in (snp_tee(), tdx_tee()))
    assert {kind for kind in TeeKind if kind.simulated} == {TeeKind.SIMULATED_SNP, TeeKind.SIMULATED_TDX}


@pytest.mark.parametrize("product", PRODUCTS)
def test_no_default_root_of_amds(product: Product):  # evidence-production.md E127
    platform = snp_platform(product)
    assert spki_digest(platform.ark.certificate) not in AMD_ROOTS
    evidence = snp_evidence(platform, platform.report(REPORT_DATA, ReportFields(MEASUREMENT)))
    with pytest.raises(ChainRefused):
        verify_snp(*evidence, at=AT)


def test_no_default_root_of_intels():  # evidence-production.md E127
    quote = TdxQuote.parse(tdx_platform().quote(REPORT_DATA, QuoteFields(MEASUREMENT)))
    with pytest.raises(NotGenuine):
        verify_tdx(quote, TdxCollateral.parse(collateral_json(tdx_platform())), at=AT)
    theirs = dcap_qvl.QuoteCollateralV3(**tdx_platform().collateral)
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(quote.raw, theirs, int(AT.timestamp()))


@pytest.mark.parametrize("policy", builtin_names())
@pytest.mark.parametrize("kind", ["snp", "tdx"])
def test_no_default_policy_believes_it(policy: str, kind: str):  # evidence-production.md E127
    tee, root = (snp_tee(), snp_platform().ark) if kind == "snp" else (tdx_tee(), tdx_platform().root)
    bundle = identity_bundle(tee, NONCE, KEYSET, CONFIG)
    verified = verify_bundle(bundle, at=AT, nonce=NONCE, simulated_root=root.der)
    appraisal = appraise_bundle(verified, reference_values(tee), builtin(policy), nonce=NONCE)
    assert [claim.code for claim in appraisal.unmet] == [f"{kind}.root"], "and for no other reason"


@pytest.mark.parametrize("kind", ["snp", "turin", "tdx"])
def test_the_devnets_own_policy_accepts_it(kind: str):  # evidence-production.md E125
    tee = {"snp": snp_tee, "turin": lambda: snp_tee(Product.TURIN), "tdx": tdx_tee}[kind]()
    challenge = base64.b64encode(NONCE).decode()
    for bundle in (
        identity_bundle(tee, NONCE, KEYSET, CONFIG),
        release_bundle(tee, challenge, {"kty": "EC"}, KEYSET, measured_config=CONFIG),
    ):
        verified = verify_bundle(bundle, at=AT, nonce=NONCE, simulated_root=tee.root.der)
        policy = parse(policy_document(tee))
        assert appraise_bundle(verified, reference_values(tee), policy, nonce=NONCE).unmet == ()
        assert not appraise_bundle(verified, reference_values(tee), policy, nonce=None).accepted
        assert not appraise_bundle(verified, reference_values(tee), policy, nonce=bytes(32)).accepted
        assert not appraise_bundle(verified, ReferenceValues.none(), policy, nonce=NONCE).accepted


def test_a_root_of_one_devnet_is_nothing_to_another():
    stranger = SimulatedSnp.create(b"a stranger", VALIDITY)
    bundle = identity_bundle(snp_tee(), NONCE, KEYSET, CONFIG)
    with pytest.raises(ChainRefused):
        verify_bundle(bundle, at=AT, simulated_root=stranger.ark.der)


def test_nothing_that_ships_names_the_devnet():  # evidence-production.md E128
    """Not as an import (tests/test_imports.py judges those) and not as a module in a string either."""
    for room in ("foundation", "vsock_bridge", "measurements", "attestation", "appliance", "image_build"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                    assert not node.value.startswith("devnet."), path


# --- where a kernel would be --------------------------------------------------------------------------------


def tsm() -> FakeTsm:
    """A kernel whose driver answers with simulated SNP reports, under the genuine driver's name."""

    def sign(report_data: bytes) -> tuple[bytes, bytes]:
        evidence = snp_tee().quote(report_data)
        return evidence.report, evidence.auxblob

    return FakeTsm("sev_guest", sign)


def bundle_through(tee: Tee) -> EvidenceBundle:
    return identity(tee, NONCE, KEYSET, CONFIG)


def test_a_simulated_chip_behind_a_genuine_driver_is_found_out():  # evidence-production.md E126
    """The kind is then the genuine one, since the kernel says so; the root is not."""
    bundle = bundle_through(ConfigfsTee.detect(files=DirectFiles(tsm())))
    assert bundle.kind is TeeKind.SNP
    with pytest.raises(ChainRefused):
        verify_bundle(bundle, at=AT)
    with pytest.raises(NotGenuine) as caught:
        verify_bundle(bundle, at=AT, simulated_root=snp_platform().ark.der)
    assert caught.value.code == "bundle.kind", "the report data is right, so nothing else objects"
    relabelled = replace(bundle, kind=TeeKind.SIMULATED_SNP)
    with pytest.raises(NotGenuine) as caught:
        verify_bundle(relabelled, at=AT, simulated_root=snp_platform().ark.der)
    assert caught.value.code == "bundle.report-data", "the quote binds the kind it was asked for"


@pytest.mark.skipif(
    not Path("/dev/fuse").exists() or fuse.available() is not None, reason="a FUSE file system cannot be mounted here"
)
def test_from_a_mounted_configfs_to_a_verified_chain():
    """The whole path with real system calls: quote, certificate table, chain, signature, report data."""
    with fuse.mounted(tsm()) as folder:
        bundle = bundle_through(ConfigfsTee.detect(folder))
    platform = snp_platform()
    evidence = SnpEvidence.parse(bundle.report, bundle.certificates[TableEntry.VCEK])
    collateral = SnpCollateral.parse(
        [bundle.certificates[TableEntry.ASK], bundle.certificates[TableEntry.ARK]], bundle.crls
    )
    roots = with_simulated([("devnet", Product.GENOA, spki_digest(platform.ark.certificate))])
    verified = verify_snp(evidence, collateral, at=AT, roots=roots)
    statement = Statement(Purpose.IDENTITY, TeeKind.SNP, NONCE, KEYSET.digest, CONFIG)
    assert verified.report_data == identity_report_data(statement)
