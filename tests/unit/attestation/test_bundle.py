"""The evidence bundle: one encoding, bounds, and every claim that its report may turn out not to bind."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import (
    BindingRefused,
    ChainRefused,
    CollateralMissing,
    EvidenceRefused,
    FormatRefused,
    NotGenuine,
    Revoked,
    SignatureRefused,
)
from attestation.evidence import bundle as module
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.bundle import DeviceEvidence, EvidenceBundle, MalformedBundle, ReleaseTranscript
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import TeeKind
from attestation.report_data import Purpose, Statement, additional_evidence, release_report_data
from attestation.verify.bundle import verify_bundle
from attestation.verify.verified import Seal
from attestation.verify.verified_bundle import VerifiedBundle
from devnet.tee import SimulatedTee, identity_bundle, release_bundle
from foundation import cbor
from tests.little_tee import AT, CONFIG, KEYSET, NONCE, snp_platform, snp_tee, tdx_platform, tdx_tee

KEY = {"alg": "ECDH-ES+A256KW", "crv": "P-256", "kty": "EC", "x": "AAAA", "y": "BBBB"}
TEES: dict[str, Callable[[], SimulatedTee]] = {"snp": snp_tee, "tdx": tdx_tee}


def root_of(kind: str) -> bytes:
    return snp_platform().ark.der if kind == "snp" else tdx_platform().root.der


def identity(kind: str) -> EvidenceBundle:
    return identity_bundle(TEES[kind](), NONCE, KEYSET, CONFIG)


def release(kind: str, statement_change: dict[str, object] | None = None) -> EvidenceBundle:
    tee = TEES[kind]()
    nonce = base64.b64encode(NONCE).decode()
    if statement_change is None:
        return release_bundle(tee, nonce, KEY, KEYSET, CONFIG)
    statement = Statement(Purpose.RELEASE, tee.kind, NONCE, KEYSET.digest, CONFIG)
    sent = additional_evidence(replace(statement, **statement_change))  # type: ignore[arg-type]
    evidence = tee.quote(release_report_data(nonce, KEY, sent))
    return replace(identity(kind), report=evidence.report, release=ReleaseTranscript(nonce, KEY, sent))


def verify(kind: str, bundle: EvidenceBundle, **options: object) -> VerifiedBundle:
    return verify_bundle(bundle, at=AT, **{"simulated_root": root_of(kind), **options})  # type: ignore[arg-type]


def refused(kind: str, bundle: EvidenceBundle, **options: object) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as caught:
        verify(kind, bundle, **options)
    return caught.value


@pytest.fixture(params=["snp", "tdx"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# --- the file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [identity, release])
def test_what_is_written_is_read_back(kind: str, make: Callable[[str], EvidenceBundle]):
    bundle = make(kind)
    raw = bundle.encode()
    assert EvidenceBundle.parse(raw) == bundle
    assert EvidenceBundle.parse(raw).encode() == raw


def test_a_bundle_with_devices_and_without_anything_optional():
    full = replace(identity("snp"), devices=(DeviceEvidence(b"r", b"c"), DeviceEvidence(b"r", b"c", (b"m",))))
    assert EvidenceBundle.parse(full.encode()) == full
    bare = replace(identity("snp"), certificates={}, crls=())
    assert EvidenceBundle.parse(bare.encode()) == bare


def members(kind: str = "snp") -> dict[str, object]:
    value = cbor.decode(release(kind).encode())
    assert isinstance(value, dict)
    return value  # type: ignore[return-value]


WRONG: dict[str, dict[str, object]] = {
    "another version": {"version": 2},
    "true for a version": {"version": True},
    "no version": {"version": None},
    "an unknown kind": {"kind": "sgx"},
    "a kind of another type": {"kind": 1},
    "no report": {"report": b""},
    "a report too long": {"report": bytes(module.REPORT_BYTES_MAX + 1)},
    "a short nonce": {"nonce": bytes(15)},
    "a long nonce": {"nonce": bytes(65)},
    "text for a nonce": {"nonce": "x" * 32},
    "a keyset that is none": {"keyset": b"\x80"},
    "a short configuration": {"measured_config": bytes(31)},
    "an unknown member": {"surprise": 1},
    "no certificates in the map": {"certificates": {}},
    "an unknown certificate": {"certificates": {"leaf": b"x"}},
    "a list among certificates": {"certificates": {"crl": b"x"}},
    "a certificate too long": {"certificates": {"vcek": bytes(module.CERTIFICATE_BYTES_MAX + 1)}},
    "no lists in the list": {"crls": []},
    "five lists": {"crls": [b"x"] * 5},
    "a number among lists": {"crls": [1]},
    "collateral beside SNP": {"collateral": b"x"},
    "a log beside SNP": {"event_log": b"x"},
    "empty collateral": {"collateral": b""},
    "no devices": {"devices": []},
    "a device of one part": {"devices": [[b"r"]]},
    "nine devices": {"devices": [[b"r", b"c", []]] * 9},
    "a device without a chain": {"devices": [[b"r", b"", []]]},
    "five manifests": {"devices": [[b"r", b"c", [b"m"] * 5]]},
    "a release of two parts": {"release": ["n", {"k": "v"}]},
    "a release without a key": {"release": ["n", {}, "a"]},
    "a key of bytes": {"release": ["n", {"k": b"v"}, "a"]},
    "a key with numbers": {"release": ["n", {1: "v"}, "a"]},
    "a nonce too long": {"release": ["n" * 129, {"k": "v"}, "a"]},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_a_member_that_is_wrong(change: dict[str, object]):
    value = {name: member for name, member in {**members(), **change}.items() if member is not None}
    with pytest.raises(FormatRefused):
        EvidenceBundle.parse(cbor.encode(value))  # type: ignore[arg-type]


def test_certificates_beside_a_quote_are_refused():
    value = members("tdx") | {"certificates": {"vcek": b"x"}}
    with pytest.raises(MalformedBundle, match="certificates"):
        EvidenceBundle.parse(cbor.encode(value))  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\xa0", b"\xa1\x67version\x01", bytes(100)])
def test_what_is_no_bundle(raw: bytes):
    with pytest.raises(MalformedBundle):
        EvidenceBundle.parse(raw)


def test_a_bundle_has_a_bound_before_it_is_read():
    with pytest.raises(MalformedBundle, match="size"):
        EvidenceBundle.parse(bytes(module.BUNDLE_BYTES_MAX + 1))


@given(st.binary(max_size=300))
def test_only_the_declared_refusal_leaves(raw: bytes):
    with suppress(FormatRefused):
        EvidenceBundle.parse(raw)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_changed_byte_is_refused_or_is_another_bundle(data: st.DataObject):
    raw = bytearray(identity("snp").encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        parsed = EvidenceBundle.parse(bytes(raw))
    except FormatRefused:
        return
    assert parsed.encode() == bytes(raw)
    assert parsed != identity("snp")


# --- what it binds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [identity, release])
def test_a_sound_bundle(kind: str, make: Callable[[str], EvidenceBundle]):
    verified = verify(kind, make(kind), nonce=NONCE)
    assert verified.keyset == KEYSET
    assert verified.statement.measured_config == CONFIG
    assert verified.statement.purpose is (Purpose.IDENTITY if make is identity else Purpose.RELEASE)
    assert verified.evidence.root.simulated


def claims_changed() -> dict[str, Callable[[EvidenceBundle], EvidenceBundle]]:
    other_keys = Keyset((replace(KEYSET.keys[0], raw=b"\x09" * 32), KEYSET.keys[1]))
    transcript = ReleaseTranscript("n", KEY, "a")
    return {
        "another nonce": lambda b: replace(b, nonce=bytes(32)),
        "another keyset": lambda b: replace(b, keyset=other_keys),
        "a key less": lambda b: replace(b, keyset=Keyset(KEYSET.keys[:1])),
        "another configuration": lambda b: replace(b, measured_config=bytes(32)),
        "identity passed off as release": lambda b: replace(b, release=transcript),
    }


@pytest.mark.parametrize("change", claims_changed().values(), ids=list(claims_changed()))
def test_a_claim_the_report_does_not_bind(kind: str, change: Callable[[EvidenceBundle], EvidenceBundle]):
    assert isinstance(refused(kind, change(identity(kind))), BindingRefused)


@pytest.mark.parametrize("change", list(claims_changed().values())[:4], ids=list(claims_changed())[:4])
def test_a_claim_a_release_does_not_bind(kind: str, change: Callable[[EvidenceBundle], EvidenceBundle]):
    assert isinstance(refused(kind, change(release(kind))), BindingRefused)


def test_a_release_cannot_be_shown_as_identity(kind: str):
    assert refused(kind, replace(release(kind), release=None)).code == "bundle.report-data"


@pytest.mark.parametrize("field", ["nonce", "tee_public_key", "additional_evidence"])
def test_every_string_of_the_handshake_is_bound(kind: str, field: str):
    bundle = release(kind)
    assert bundle.release is not None
    value = {"nonce": base64.b64encode(bytes(32)).decode(), "tee_public_key": {**KEY, "x": "CCCC"},
             "additional_evidence": bundle.release.additional_evidence.replace("}", " }")}[field]
    changed = replace(bundle, release=replace(bundle.release, **{field: value}))  # type: ignore[arg-type]
    assert isinstance(refused(kind, changed), BindingRefused)


def test_a_key_put_in_place_of_the_cells_own(kind: str):
    """The host answers the challenge with its own key and the cell's quote: the report binds the cell's."""
    bundle = release(kind)
    assert bundle.release is not None
    mine = replace(bundle, release=replace(bundle.release, tee_public_key={**KEY, "y": "MINE"}))
    assert refused(kind, mine).code == "bundle.report-data"


@pytest.mark.parametrize("change", [
    {"keyset": b"\x0d" * 32}, {"measured_config": bytes(32)}, {"kind": TeeKind.SNP},
    {"devices": b"\x0e" * 32},
])
def test_a_statement_that_was_quoted_but_is_not_this_bundles(kind: str, change: dict[str, object]):
    assert refused(kind, release(kind, change)).code == "bundle.statement"


def test_the_nonce_asked_for(kind: str):
    assert refused(kind, identity(kind), nonce=bytes(32)).code == "bundle.nonce"
    assert verify(kind, identity(kind), nonce=None).statement.nonce == NONCE


def test_a_simulated_kind_cannot_be_relabelled(kind: str):
    genuine = {"snp": TeeKind.SNP, "tdx": TeeKind.TDX}[kind]
    relabelled = replace(identity(kind), kind=genuine)
    with pytest.raises(NotGenuine):
        verify(kind, relabelled)
    with pytest.raises(ChainRefused):
        verify_bundle(relabelled, at=AT)


def test_no_hardware_root_signs_a_simulated_bundle(kind: str):
    with pytest.raises(ChainRefused):
        verify_bundle(identity(kind), at=AT)


def test_a_quote_does_not_stand_for_a_report():
    posing = replace(identity("snp"), kind=TeeKind.SIMULATED_TDX, certificates={}, crls=())
    assert isinstance(refused("snp", posing), FormatRefused)


def test_a_device_nobody_measured(kind: str):
    with pytest.raises(EvidenceRefused):
        verify(kind, replace(identity(kind), devices=(DeviceEvidence(b"report", b"chain"),)))


# --- what a verifier still finds through the bundle -------------------------------------------------------


def test_a_changed_report_is_not_signed(kind: str):
    bundle = identity(kind)
    report = bytearray(bundle.report)
    report[0x98 if kind == "snp" else 200] ^= 1
    assert isinstance(refused(kind, replace(bundle, report=bytes(report))), SignatureRefused)


def test_missing_collateral(kind: str):
    bare = replace(identity(kind), certificates={}, crls=(), collateral=b"")
    assert isinstance(refused(kind, bare), CollateralMissing)


def test_collateral_out_of_date(kind: str):
    late = datetime(2036, 6, 1, tzinfo=UTC)
    with pytest.raises((CollateralMissing, ChainRefused)):
        verify_bundle(identity(kind), at=late, simulated_root=root_of(kind))


def test_a_revoked_chip():
    platform = snp_platform().revoking(snp_platform().vcek)
    bundle = replace(identity("snp"), crls=(platform.crl,))
    assert isinstance(refused("snp", bundle), Revoked)


def test_a_revoked_platform():
    tee = replace(tdx_tee(), platform=tdx_platform().revoking_pck())
    assert isinstance(refused("tdx", identity_bundle(tee, NONCE, KEYSET, CONFIG)), Revoked)


def test_an_event_log_of_another_start():
    bundle = identity("tdx")
    other = replace(bundle, event_log=b"")
    assert verify("tdx", other).evidence.event_log is None  # type: ignore[union-attr]
    assert verify("tdx", bundle).evidence.event_log is not None  # type: ignore[union-attr]
    forged = replace(bundle, event_log=bundle.event_log.replace(b"the kernel", b"the keznel"))
    assert isinstance(refused("tdx", forged), BindingRefused)


def test_a_simulated_root_that_is_no_certificate():
    assert isinstance(refused("snp", identity("snp"), simulated_root=b"not a certificate"), FormatRefused)


def test_verified_bundles_are_made_in_one_place():
    verified = verify("snp", identity("snp"))
    with pytest.raises(TypeError):
        replace(verified, seal=Seal())


def test_certificates_are_named_by_what_they_are():
    assert set(identity("snp").certificates) == {TableEntry.ARK, TableEntry.ASK, TableEntry.VCEK}
