"""The evidence bundle: one encoding, bounds, and every claim that its report may turn out not to bind."""

from __future__ import annotations

import base64
import sys
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
    Revoked,
    SignatureRefused,
)
from attestation.evidence import evidence_bundle as module
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.certificates import read_certificate
from attestation.evidence.evidence_bundle import DeviceEvidence, EvidenceBundle, MalformedBundle, ReleaseTranscript
from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import TeeKind
from attestation.evidence.snp_report import Product
from attestation.report_data import (
    Purpose,
    Statement,
    additional_evidence,
    identity_device_nonce,
    release_device_nonce,
    release_report_data,
)
from attestation.tee import produce
from attestation.verify.ec_chain import spki_digest
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.gpu import verify_gpu_with_root_ca
from attestation.verify.pins import SnpRoot
from attestation.verify.verified import Seal, TrustAnchor
from attestation.verify.verified_bundle import VerifiedBundle
from attestation.verify.verified_gpu import VerifiedGpu
from devnet.tee import SimulatedTee, identity_bundle, release_bundle
from foundation import cbor
from tests.little_tee import AT, CONFIG, KEYSET, NONCE, snp_platform, snp_tee, tdx_platform, tdx_tee
from tests.unit.attestation.forge_gpu import Device

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
        return release_bundle(tee, nonce, KEY, KEYSET, measured_config=CONFIG)
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
def test_what_is_written_is_read_back(kind: str, make: Callable[[str], EvidenceBundle]):  # evidence-production.md E122
    bundle = make(kind)
    raw = bundle.encode()
    assert EvidenceBundle.parse(raw) == bundle
    assert EvidenceBundle.parse(raw).encode() == raw


def test_a_bundle_with_devices_and_without_anything_optional():  # evidence-production.md E122
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
def test_a_member_that_is_wrong(change: dict[str, object]):  # evidence-production.md E122, E123
    value = {name: member for name, member in {**members(), **change}.items() if member is not None}
    with pytest.raises(FormatRefused):
        EvidenceBundle.parse(cbor.encode(value))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("certificates", {"vcek": b"x"}), ("crls", [b"x"])])
def test_what_belongs_to_a_report_beside_a_quote_is_refused(name: str, value: object):  # evidence-production.md E123
    with pytest.raises(MalformedBundle, match=name):
        EvidenceBundle.parse(cbor.encode(members("tdx") | {name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["version", "kind", "report", "nonce", "keyset", "measured_config"])
def test_what_is_always_there(name: str):  # evidence-production.md E122
    value = {key: member for key, member in members().items() if key != name}
    with pytest.raises(MalformedBundle, match=name):
        EvidenceBundle.parse(cbor.encode(value))  # type: ignore[arg-type]


KIB, MIB = 1024, 1024 * 1024
BOUNDS: dict[str, tuple[str, int, Callable[[int], dict[str, object]]]] = {
    "report": ("snp", 32 * KIB, lambda n: {"report": bytes(n)}),
    "certificate": ("snp", 8 * KIB, lambda n: {"certificates": {"ark": bytes(n)}}),
    "list": ("snp", 256 * KIB, lambda n: {"crls": [bytes(n)]}),
    "lists": ("snp", 4, lambda n: {"crls": [b"x"] * n}),
    "collateral": ("tdx", MIB, lambda n: {"collateral": bytes(n)}),
    "event log": ("tdx", 4 * MIB, lambda n: {"event_log": bytes(n)}),
    "devices": ("snp", 8, lambda n: {"devices": [[b"r", b"c", []]] * n}),
    "device report": ("snp", 16 * KIB, lambda n: {"devices": [[bytes(n), b"c", []]]}),
    "device chain": ("snp", 32 * KIB, lambda n: {"devices": [[b"r", bytes(n), []]]}),
    "manifests": ("snp", 4, lambda n: {"devices": [[b"r", b"c", [b"m"] * n]]}),
    "manifest": ("snp", MIB, lambda n: {"devices": [[b"r", b"c", [bytes(n)]]]}),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_every_member_has_its_bound(name: str):  # evidence-production.md E123
    kind, most, member = BOUNDS[name]
    EvidenceBundle.parse(cbor.encode(members(kind) | member(most)))  # type: ignore[arg-type]
    with pytest.raises(MalformedBundle):
        EvidenceBundle.parse(cbor.encode(members(kind) | member(most + 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\xa0", b"\xa1\x67version\x01", bytes(100)])
def test_what_is_no_bundle(raw: bytes):
    with pytest.raises(MalformedBundle):
        EvidenceBundle.parse(raw)


def test_a_bundle_has_a_bound_before_it_is_read():  # evidence-production.md E122
    with pytest.raises(MalformedBundle, match="shape"):
        EvidenceBundle.parse(b"\x5a" + (8 * MIB - 5).to_bytes(4, "big") + bytes(8 * MIB - 5))
    with pytest.raises(MalformedBundle, match="size"):
        EvidenceBundle.parse(bytes(8 * MIB + 1))


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
# evidence-production.md E119
def test_a_claim_the_report_does_not_bind(kind: str, change: Callable[[EvidenceBundle], EvidenceBundle]):
    assert isinstance(refused(kind, change(identity(kind))), BindingRefused)


@pytest.mark.parametrize("change", list(claims_changed().values())[:4], ids=list(claims_changed())[:4])
# evidence-production.md E120
def test_a_claim_a_release_does_not_bind(kind: str, change: Callable[[EvidenceBundle], EvidenceBundle]):
    assert isinstance(refused(kind, change(release(kind))), BindingRefused)


def test_a_release_cannot_be_shown_as_identity(kind: str):  # evidence-production.md E120
    assert refused(kind, replace(release(kind), release=None)).code == "bundle.report-data"


@pytest.mark.parametrize("field", ["nonce", "tee_public_key", "additional_evidence"])
def test_every_string_of_the_handshake_is_bound(kind: str, field: str):  # evidence-production.md E120
    bundle = release(kind)
    assert bundle.release is not None
    value = {
        "nonce": base64.b64encode(bytes(32)).decode(),
        "tee_public_key": {**KEY, "x": "CCCC"},
        "additional_evidence": bundle.release.additional_evidence.replace("}", " }"),
    }[field]
    changed = replace(bundle, release=replace(bundle.release, **{field: value}))  # type: ignore[arg-type]
    assert isinstance(refused(kind, changed), BindingRefused)


def test_a_key_put_in_place_of_the_cells_own(kind: str):
    """The host answers the challenge with its own key and the cell's quote: the report binds the cell's."""
    bundle = release(kind)
    assert bundle.release is not None
    mine = replace(bundle, release=replace(bundle.release, tee_public_key={**KEY, "y": "MINE"}))
    assert refused(kind, mine).code == "bundle.report-data"


@pytest.mark.parametrize(
    "change",
    [{"keyset": b"\x0d" * 32}, {"measured_config": bytes(32)}, {"kind": TeeKind.SNP}, {"devices": b"\x0e" * 32}],
)
# evidence-production.md E124
def test_a_statement_that_was_quoted_but_is_not_this_bundles(kind: str, change: dict[str, object]):
    assert refused(kind, release(kind, change)).code == "bundle.statement"


def test_the_nonce_asked_for(kind: str):  # evidence-production.md E124
    assert refused(kind, identity(kind), nonce=bytes(32)).code == "bundle.nonce"
    assert verify(kind, identity(kind), nonce=None).statement.nonce == NONCE


def test_a_simulated_kind_cannot_be_relabelled(kind: str):  # evidence-production.md E126
    genuine = {"snp": TeeKind.SNP, "tdx": TeeKind.TDX}[kind]
    relabelled = replace(identity(kind), kind=genuine)
    # A simulated root is not even tried for a quote that says TDX; for a report that says SNP the two disagree.
    assert refused(kind, relabelled).code == {"snp": "bundle.kind", "tdx": "tdx.pck_chain.root"}[kind]
    with pytest.raises(ChainRefused):
        verify_bundle(relabelled, at=AT)


def test_hardware_cannot_pass_as_simulated(kind: str, monkeypatch: pytest.MonkeyPatch):  # evidence-production.md E126
    """The devnet's root stands in for the vendor's: pinned, and not simulated."""
    root = TrustAnchor("the vendor's", spki_digest(read_certificate(root_of(kind))), simulated=False)
    judges = sys.modules[verify_bundle.__module__]
    monkeypatch.setattr(judges, "AMD_ROOTS", {root.spki_sha256: SnpRoot(Product.GENOA, root)})
    if kind == "tdx":
        verified = verify(kind, identity(kind)).evidence
        monkeypatch.setattr(judges, "verify_tdx", lambda *_, **__: replace(verified, root=root))
    with pytest.raises(BindingRefused, match=r"bundle\.kind"):
        verify_bundle(identity(kind), at=AT)


def test_no_hardware_root_signs_a_simulated_bundle(kind: str):  # evidence-production.md E127
    with pytest.raises(ChainRefused):
        verify_bundle(identity(kind), at=AT)


def test_a_quote_does_not_stand_for_a_report():
    posing = replace(identity("snp"), kind=TeeKind.SIMULATED_TDX, certificates={}, crls=())
    assert isinstance(refused("snp", posing), FormatRefused)


def test_a_device_nobody_measured(kind: str):
    with pytest.raises(EvidenceRefused):
        verify(kind, replace(identity(kind), devices=(DeviceEvidence(b"report", b"chain"),)))


GPUS = (Device(), Device())


@pytest.fixture
def simulated_gpus(monkeypatch: pytest.MonkeyPatch):
    """The roots of two simulated devices are believed, as NVIDIA's is; all else about a device is real."""

    def judged(report: GpuReport, chain: bytes, *, at: datetime) -> VerifiedGpu:
        root = next(gpu.root.spki for gpu in GPUS if gpu.chain() == chain)
        return verify_gpu_with_root_ca(report, chain, at=at, root_spki=root)

    monkeypatch.setattr(sys.modules[verify_bundle.__module__], "verify_gpu", judged)


def shown(gpu: Device, nonce: bytes) -> DeviceEvidence:
    return DeviceEvidence(gpu.report(nonce=nonce), gpu.chain())


ASKED = identity_device_nonce(NONCE, KEYSET.digest)


def with_devices(kind: str, *devices: DeviceEvidence) -> EvidenceBundle:
    return produce.identity(TEES[kind](), NONCE, KEYSET, CONFIG, devices=devices)


def sound(kind: str, bundle: EvidenceBundle) -> EvidenceBundle:
    """With the collateral a verifier of TDX needs."""
    return replace(bundle, collateral=identity(kind).collateral)


@pytest.mark.usefixtures("simulated_gpus")
def test_every_device_answers_the_challenge(kind: str):  # evidence-production.md E121
    one, two = (shown(gpu, ASKED) for gpu in GPUS)
    verified = verify(kind, sound(kind, with_devices(kind, one, two)), nonce=NONCE)
    assert [device.nonce for device in verified.devices] == [ASKED, ASKED]
    assert verified.device_nonce == ASKED
    stale = shown(GPUS[1], bytes(32))
    assert refused(kind, sound(kind, with_devices(kind, one, stale))).code == "bundle.device-nonce"
    assert refused(kind, sound(kind, with_devices(kind, one, one))).code == "bundle.device-twice"


@pytest.mark.usefixtures("simulated_gpus")
def test_a_device_of_a_release_answers_its_handshake(kind: str):  # evidence-production.md E121
    challenge = base64.b64encode(NONCE).decode()
    for nonce, code in ((release_device_nonce(challenge, KEY), None), (ASKED, "bundle.device-nonce")):
        device = shown(GPUS[0], nonce)
        bundle = sound(
            kind, produce.release(TEES[kind](), challenge, KEY, KEYSET, measured_config=CONFIG, devices=(device,))
        )
        if code is None:
            assert len(verify(kind, bundle).devices) == 1
        else:
            assert refused(kind, bundle).code == code


@pytest.mark.usefixtures("simulated_gpus")
def test_a_device_is_neither_added_nor_left_out_nor_exchanged(kind: str):  # evidence-production.md E121
    one, two = (shown(gpu, ASKED) for gpu in GPUS)
    bundle = sound(kind, with_devices(kind, one))
    for devices in ((), (two,), (one, two)):
        assert refused(kind, replace(bundle, devices=devices)).code == "bundle.report-data"


@pytest.mark.usefixtures("simulated_gpus")
def test_of_several_faults_the_earliest_is_named():  # evidence-production.md E124
    bundle = with_devices("snp", shown(GPUS[0], bytes(32)))
    faults: list[tuple[Callable[[EvidenceBundle], EvidenceBundle], str]] = [
        (lambda b: b, "bundle.device-nonce"),
        (lambda b: replace(b, measured_config=bytes(32)), "bundle.report-data"),
        (lambda b: replace(b, release=ReleaseTranscript("n", KEY, "a")), "report-data.additional"),
        (lambda b: replace(b, kind=TeeKind.SNP), "bundle.kind"),
        (lambda b: replace(b, devices=(DeviceEvidence(b"report", b"chain"),)), "gpu.request"),
        (lambda b: replace(b, report=b.report[:0x98] + b"\xff" + b.report[0x99:]), "snp.signature"),
    ]
    for spoil, code in faults:
        bundle = spoil(bundle)
        refusal = refused("snp", bundle, nonce=bytes(32))
        assert refusal.code == code
        assert (refusal.stage == "binding") == (code.startswith(("bundle.", "report-data.")))


def test_a_foreign_statement_is_named_before_its_report_data(kind: str):  # evidence-production.md E124
    bundle = release(kind, {"measured_config": bytes(32)})
    assert bundle.release is not None
    mine = replace(bundle, release=replace(bundle.release, tee_public_key={**KEY, "y": "MINE"}))
    assert refused(kind, mine).code == "bundle.statement"


@pytest.mark.usefixtures("simulated_gpus")
def test_the_log_is_judged_before_the_devices():  # evidence-production.md E124
    bundle = sound("tdx", with_devices("tdx", DeviceEvidence(b"report", b"chain")))
    forged = replace(bundle, event_log=tdx_tee().log.replace(b"the kernel", b"the keznel"))
    assert refused("tdx", forged).code.startswith("eventlog.")
    assert refused("tdx", bundle).code.startswith("gpu.")


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
    tee = replace(tdx_tee(), platform=replace(tdx_platform(), pck_revoked=True))
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
