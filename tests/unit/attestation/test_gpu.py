"""NVIDIA reports and manifests: parsed to the byte, verified proof by proof, compared, judged."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import BindingRefused, EvidenceRefused, FormatRefused, PolicyMalformed
from attestation.evidence.canonical_xml import canonical, parse_xml
from attestation.evidence.gpu_report import REPORT_BYTES_MAX, GpuReport
from attestation.evidence.gpu_rim import GpuRim
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import Standing
from attestation.verify.gpu import compare_with_rims, verify_gpu, verify_gpu_with_root_ca, verify_nonce
from attestation.verify.gpu_rim import verify_rim
from attestation.verify.verified import Seal
from attestation.verify.verified_gpu import RimKind, VerifiedGpu, VerifiedRim
from measurements.reference import ReferenceValues
from tests.unit.attestation import published
from tests.unit.attestation.forge_gpu import (
    DICE,
    FWID,
    MEASUREMENTS,
    NONCE,
    OPAQUE,
    Device,
    RimMaker,
    block,
    certify,
    unsigned,
)
from tests.unit.attestation.forge_tdx import NOW, Identity, new_key
from tests.unit.attestation.published import named, of_kind

DEVICE = Device()
MAKER = RimMaker()
DRIVER = {n: (MEASUREMENTS[n],) for n in range(20)}
VBIOS = {n: (MEASUREMENTS[n],) for n in range(20, 40)}
BIOS_VERSION = "96.00.9f.00.02"


def judge(report: bytes, chain: bytes | None = None, at: datetime = NOW) -> VerifiedGpu:
    parsed = GpuReport.parse(report)
    return verify_gpu_with_root_ca(parsed, chain or DEVICE.chain(), at=at, root_spki=DEVICE.root.spki)


def refusal(*given: Any) -> tuple[str, str]:
    with pytest.raises(EvidenceRefused) as refused:
        judge(*given)
    return refused.value.stage, refused.value.code


def test_a_sound_report_is_genuine() -> None:  # evidence-gpu.md E98, E106
    verified = judge(DEVICE.report())
    assert verified.root.simulated
    assert (verified.product, verified.driver_version, verified.vbios_version) == (
        "GH100",
        "550.1",
        BIOS_VERSION.upper(),
    )
    assert verified.board == "G520_0200_885"
    assert verified.nonce == NONCE
    assert verified.firmware_id_bound
    assert verified.device_id == DEVICE.identity.spki
    assert dict(verified.measurements) == dict(enumerate(MEASUREMENTS))
    assert verified.rims is None


def test_the_nonce_is_the_requests_and_not_the_devices_own() -> None:  # evidence-gpu.md E100
    report = GpuReport.parse(DEVICE.report())
    assert (report.request_nonce, report.response_nonce) == (NONCE, bytes(32))
    assert judge(DEVICE.report()).nonce == NONCE


@pytest.mark.parametrize("kept", [slice(0, 4), slice(1, 5), slice(2, 5)])
def test_a_chain_has_five_certificates(kept: slice) -> None:  # evidence-gpu.md E99
    pems = [one.pem for one in (DEVICE.signer, DEVICE.identity, DEVICE.provisioner, DEVICE.family, DEVICE.root)]
    assert refusal(DEVICE.report(), "".join(pems[kept]).encode()) == ("chain", "gpu.chain")
    assert refusal(DEVICE.report(), "".join([*pems, pems[-1]]).encode()) == ("chain", "gpu.chain")


@pytest.mark.parametrize(
    ("change", "code"),
    [({"ca": None}, "role"), ({"end": NOW - timedelta(1)}, "validity"), ({"forged": True}, "signature")],
)
def test_every_certificate_of_the_chain_is_checked(change: dict[str, Any], code: str) -> None:  # evidence-gpu.md E99
    device = replace(DEVICE)
    arguments: dict[str, Any] = {"ca": 1, **change}
    device.__dict__["provisioner"] = certify("SIM Provisioner", device.family, arguments.pop("ca"), **arguments)
    with pytest.raises(EvidenceRefused) as refused:
        verify_gpu_with_root_ca(GpuReport.parse(device.report()), device.chain(), at=NOW, root_spki=device.root.spki)
    assert (refused.value.stage, refused.value.code) == ("chain", f"gpu.chain.{code}")


def test_a_simulated_device_is_nothing_under_nvidias_root() -> None:  # evidence-gpu.md E99
    with pytest.raises(EvidenceRefused) as refused:
        verify_gpu(GpuReport.parse(DEVICE.report()), DEVICE.chain(), at=NOW)
    assert (refused.value.stage, refused.value.code) == ("chain", "gpu.chain.root")


@pytest.mark.parametrize("at", [4, 60, 45 + 40 * 55 + 3, -110, -1])
def test_a_changed_byte_breaks_the_signature(at: int) -> None:  # evidence-gpu.md E100
    data = bytearray(DEVICE.report())
    data[at] ^= 1
    assert refusal(bytes(data)) == ("signature", "gpu.signature")


LEAVES: dict[str, tuple[Callable[[], Identity], tuple[str, str]]] = {
    "forged": (lambda: DEVICE.leaf(forged=True), ("chain", "gpu.chain.signature")),
    "of another issuer": (
        lambda: certify("GH100 A01 GSP FMC LF", DEVICE.provisioner, None),
        ("chain", "gpu.chain.signature"),
    ),
    "late": (lambda: DEVICE.leaf(end=NOW - timedelta(1)), ("chain", "gpu.chain.validity")),
    "early": (lambda: DEVICE.leaf(start=NOW + timedelta(1)), ("chain", "gpu.chain.validity")),
    "a smaller key": (lambda: DEVICE.leaf(key=new_key()), ("chain", "gpu.chain.key")),
    "another firmware": (lambda: DEVICE.leaf(extra=[(DICE, bytes(60), False)]), ("binding", "gpu.firmware_id")),
    "no firmware id": (lambda: DEVICE.leaf(extra=[]), ("binding", "gpu.firmware_id")),
    "a firmware id elsewhere": (lambda: DEVICE.leaf(extra=[("1.2.3", FWID, False)]), ("binding", "gpu.firmware_id")),
    "no product": (lambda: DEVICE.leaf(name="nameless"), ("chain", "gpu.chain.product")),
    "a strange product": (lambda: DEVICE.leaf(name="g\u00e9100 A01"), ("chain", "gpu.chain.product")),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_that_is_not_the_devices_is_refused(name: str) -> None:  # evidence-gpu.md E99, E101
    make, expected = LEAVES[name]
    leaf = make()
    signer = DEVICE.signer if name == "a smaller key" else leaf
    assert refusal(DEVICE.report(signer), DEVICE.chain(leaf)) == expected


@pytest.mark.parametrize("oid", [DICE, f"{DICE}.1"])
def test_the_firmware_id_stands_in_either_extension(oid: str) -> None:  # evidence-gpu.md E101
    leaf = DEVICE.leaf(extra=[(oid, b"\x30\x40" + FWID, False)])
    assert judge(DEVICE.report(leaf), DEVICE.chain(leaf)).firmware_id_bound


def test_firmware_that_states_no_id_is_not_bound() -> None:  # evidence-gpu.md E101
    for opaque in ({**OPAQUE, 20: bytes(48)}, {k: v for k, v in OPAQUE.items() if k != 20}):
        assert not judge(DEVICE.report(opaque=opaque)).firmware_id_bound
    half = {**OPAQUE, 20: FWID[:24]}
    assert refusal(DEVICE.report(opaque=half)) == ("binding", "gpu.firmware_id")


def test_a_nonce_that_was_not_asked_for_is_refused() -> None:  # evidence-gpu.md E100
    verified = judge(DEVICE.report())
    verify_nonce(verified, [bytes(32), NONCE])
    with pytest.raises(BindingRefused, match=r"gpu\.nonce"):
        verify_nonce(verified, [bytes(32)])


REPORT = unsigned() + bytes(96)


def put(at: int, value: bytes) -> bytes:
    return REPORT[:at] + value + REPORT[at + len(value) :]


def with_record(record: bytes, count: int) -> bytes:
    response = b"\x11\x60\0\0" + bytes([count]) + len(record).to_bytes(3, "little") + record
    return REPORT[:37] + response + bytes(32) + b"\0\0" + bytes(96)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (put(0, b"\x12"), "gpu.request"),
        (put(1, b"\xe1"), "gpu.request"),
        (put(2, b"\0"), "gpu.request"),
        (put(36, b"\1"), "gpu.slot"),
        (put(37, b"\x12"), "gpu.response"),
        (put(38, b"\x61"), "gpu.response"),
        (put(41, b"\x27"), "gpu.record.trailing"),
        (put(41, b"\x29"), "gpu.record.truncated"),
        (put(45, b"\2"), "gpu.index"),
        (put(46, b"\2"), "gpu.specification"),
        (REPORT + b"\0", "gpu.trailing"),
        (REPORT[:-1], "gpu.truncated"),
        (b"", "gpu.truncated"),
        (bytes(REPORT_BYTES_MAX + 1), "gpu.size"),
        (with_record(block(1, bytes(32)), 1), "gpu.value"),
        (with_record(block(1, bytes(48))[:2] + b"\x34" + block(1, bytes(48))[3:] + b"\0", 1), "gpu.block.trailing"),
        (unsigned(opaque={3: b"x"})[:-5] + b"\3\0\1\0\3\0\1\0", "gpu.truncated"),
    ],
)
def test_what_does_not_fit_is_refused(data: bytes, code: str) -> None:  # evidence-gpu.md E98
    with pytest.raises(FormatRefused) as refused:
        GpuReport.parse(data)
    assert refused.value.code == code


def test_an_opaque_field_comes_once() -> None:  # evidence-gpu.md E98
    twice = b"\3\0\1\0x" * 2
    data = unsigned(opaque={})[:-2] + len(twice).to_bytes(2, "little") + twice + bytes(96)
    with pytest.raises(FormatRefused, match=r"gpu\.opaque"):
        GpuReport.parse(data)


def test_versions_that_cannot_be_read_are_empty() -> None:
    parsed = GpuReport.parse(unsigned(opaque={3: b"\xff", 6: b"1"}) + bytes(96))
    assert (parsed.driver_version, parsed.vbios_version) == ("", "")
    assert GpuReport.parse(unsigned(opaque={3: b"a\nb"}) + bytes(96)).driver_version == ""
    assert not GpuReport.parse(REPORT).nvdec0_disabled
    assert GpuReport.parse(unsigned(opaque={11: b"\x55"}) + bytes(96)).nvdec0_disabled


@given(st.integers(0, len(REPORT)), st.binary(max_size=6), st.integers(0, 6))
def test_nothing_but_a_refusal_leaves_the_parser(at: int, inserted: bytes, removed: int) -> None:
    try:
        GpuReport.parse(REPORT[:at] + inserted + REPORT[at + removed :])
    except FormatRefused:
        return


def rim(data: bytes, at: datetime = NOW) -> VerifiedRim:
    return verify_rim(GpuRim.parse(data), at=at, root_spki=MAKER.root.spki)


def rim_refusal(data: bytes, at: datetime = NOW) -> tuple[str, str]:
    with pytest.raises(EvidenceRefused) as refused:
        rim(data, at)
    return refused.value.stage, refused.value.code


def test_a_sound_manifest_is_read_and_believed() -> None:  # evidence-gpu.md E102
    verified = rim(MAKER.manifest({1: [b"\1" * 48, b"\2" * 48], 2: [b"\3" * 48]}, idle=[2]))
    assert (verified.product, verified.version, verified.tag_id) == ("GH100", "550.1", "sim")
    assert dict(verified.measurements) == {1: frozenset({b"\1" * 48, b"\2" * 48})}
    with pytest.raises(TypeError):
        replace(verified, seal=Seal())
    with pytest.raises(TypeError):
        replace(judge(DEVICE.report()), seal=Seal())


MANIFEST = MAKER.manifest({1: [b"\1" * 48]})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"01" * 48, b"02" * 48, ("signature", "gpu.rim.digest")),
        (b"GH100", b"GH200", ("signature", "gpu.rim.digest")),
        (b"</r:Payload>", b"\n</r:Payload>", ("signature", "gpu.rim.digest")),
        (b"ds:SignedInfo>", b"ds:SignedInfo >", ("signature", "")),
    ],
)
# evidence-gpu.md E103
def test_a_changed_manifest_is_refused(old: bytes, new: bytes, expected: tuple[str, str]) -> None:
    data = MANIFEST.replace(old, new)
    assert data != MANIFEST
    if expected[1]:
        assert rim_refusal(data) == expected
    else:  # white space inside a tag is no change of the document
        assert rim(data)


def test_the_digest_itself_is_signed() -> None:  # evidence-gpu.md E103
    other = MAKER.manifest({1: [b"\2" * 48]})
    info = slice(other.index(b"<ds:SignedInfo>"), other.index(b"<ds:SignatureValue>"))
    mine = slice(MANIFEST.index(b"<ds:SignedInfo>"), MANIFEST.index(b"<ds:SignatureValue>"))
    swapped = other[: info.start] + other[info] + MANIFEST[mine.stop :]
    assert rim_refusal(swapped) == ("signature", "gpu.rim.signature")


def test_a_manifest_needs_the_whole_chain_to_the_pinned_root() -> None:  # evidence-gpu.md E103
    with pytest.raises(EvidenceRefused) as refused:
        verify_rim(GpuRim.parse(MANIFEST), at=NOW)
    assert refused.value.code == "gpu.rim.chain.root"
    three = MAKER.manifest({1: [b"\1" * 48]}, chain=MAKER.chain[:3])
    assert rim_refusal(three) == ("chain", "gpu.rim.chain")
    swapped = MAKER.manifest({1: [b"\1" * 48]}, chain=(MAKER.chain[0], MAKER.chain[2], *MAKER.chain[2:]))
    assert rim_refusal(swapped)[0] == "chain"
    assert rim_refusal(MANIFEST, NOW + timedelta(days=5000)) == ("collateral", "gpu.rim.chain.validity")
    garbage = MANIFEST.replace(base64.b64encode(MAKER.chain[0].der), b"AAAA")
    assert rim_refusal(garbage) == ("chain", "gpu.rim.chain")


@pytest.mark.parametrize(
    "edit",
    [
        ("<SoftwareIdentity", "<r:SoftwareIdentit"),
        ("r:Meta", "r:Mata"),
        ('product="GH100"', ""),
        ('tagId="sim"', ""),
        ("</r:Payload>", "</r:Payload><r:Payload/>"),
        ('index="1"', 'index="256"'),
        ('index="1"', 'index="-1"'),
        ('index="1"', ""),
        ('active="True"', 'active="yes"'),
        ('type="Measurement"', 'type="File"'),
        ("r:Resource", "r:File"),
        ('alternatives="1"', 'alternatives="2"'),
        ('alternatives="1"', 'alternatives="65"'),
        ("h:Hash0", "Hash0"),
        ("01" * 48, "01" * 47),
        ("01" * 48, "zz" * 48),
    ],
)
def test_a_manifest_of_another_shape_is_refused(edit: tuple[str, str]) -> None:  # evidence-gpu.md E102
    measurements = {1: [b"\1" * 48]}
    if edit[0].startswith("<Soft"):
        data = MANIFEST.replace(b"<SoftwareIdentity", b"<SoftwareIdentitx").replace(
            b"</SoftwareIdentity", b"</SoftwareIdentitx"
        )
    else:
        data = MAKER.manifest(measurements, edit=edit)
        assert data != MANIFEST
    with pytest.raises(FormatRefused):
        GpuRim.parse(data)


def test_an_index_comes_once_active_or_not() -> None:  # evidence-gpu.md E102
    edit = ('index="2"', 'index="1"')
    with pytest.raises(FormatRefused):
        GpuRim.parse(MAKER.manifest({1: [b"\1" * 48], 2: [b"\2" * 48]}, idle=[2], edit=edit))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'xml-c14n11"/><ds:SignatureMethod', b'xml-c14n12"/><ds:SignatureMethod'),
        (b"#ecdsa-sha384", b"#ecdsa-sha256"),
        (b'URI=""', b'URI="#x"'),
        (b'URI=""', b""),
        (b"#enveloped-signature", b"#other"),
        (b'<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>', b""),
        (b"</ds:Transforms>", b'<ds:Transform Algorithm="x"/></ds:Transforms>'),
        (b"more#sha384", b"more#sha256"),
        (b"</ds:SignedInfo>", b'<ds:Reference URI="x"/></ds:SignedInfo>'),
        (b"<ds:SignatureValue>", b"<ds:SignatureValue>*"),
    ],
)
def test_one_profile_of_signatures_is_accepted(old: bytes, new: bytes) -> None:  # evidence-gpu.md E102
    data = MANIFEST.replace(old, new, 1)
    assert data != MANIFEST
    with pytest.raises(FormatRefused) as refused:
        GpuRim.parse(data)
    assert refused.value.code == "gpu.rim"


def test_a_signature_has_one_place() -> None:  # evidence-gpu.md E102
    start, end = (MANIFEST.index(b"<ds:Signature "), MANIFEST.index(b"</ds:Signature>") + len(b"</ds:Signature>"))
    signature = MANIFEST[start:end]
    body = MANIFEST[:start] + MANIFEST[end:]
    for data in (
        body,
        MANIFEST[:end] + signature + MANIFEST[end:],
        body.replace(b"<r:Payload>", b"<r:Payload>" + signature),
    ):
        with pytest.raises(FormatRefused):
            GpuRim.parse(data)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<!DOCTYPE a><a/>",
        "<a><!-- x --></a>",
        "<a><?x y?></a>",
        "<a><![CDATA[x]]></a>",
        "<a",
        "",
        "<a/><b/>",
        '<a xml:lang="x"/>',
        "<p:a/>",
        '<a p:b="c"/>',
        '<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>',
        '<a b="1" b="2"/>',
        "<a>" * 33 + "</a>" * 33,
        "<!-- x --><a/>",
        '<a xmlns:p=""/>',
    ],
)
def test_xml_beyond_elements_and_text_is_refused(text: str) -> None:  # evidence-gpu.md E102
    with pytest.raises(FormatRefused):
        parse_xml("test", text.encode())


# Left: what is written; right: its canonical form, worked out by hand from the recommendation.
CANONICAL = [
    ("<a/>", "<a></a>"),
    ("<?xml version=\"1.0\"?>\n<a  b = '1' ></a >\n", '<a b="1"></a>'),
    ('<a z="1" b="2" xmlns="u" xmlns:q="v" q:a="3"/>', '<a xmlns="u" xmlns:q="v" b="2" z="1" q:a="3"></a>'),
    ('<p:a xmlns:p="u"><p:b xmlns:p="u"/></p:a>', '<p:a xmlns:p="u"><p:b></p:b></p:a>'),
    ('<a xmlns="u"><b xmlns=""/></a>', '<a xmlns="u"><b xmlns=""></b></a>'),
    ('<a>x&amp;&lt;&gt;"&#13;\r\ny</a>', '<a>x&amp;&lt;&gt;"&#xD;\ny</a>'),
    ("<a b='&lt;&amp;&quot;&#9;&#10;&#13;x\ty>'/>", '<a b="&lt;&amp;&quot;&#x9;&#xA;&#xD;x y>"></a>'),
]


@pytest.mark.parametrize(("written", "expected"), CANONICAL)
def test_the_canonical_form_is_the_recommendations(written: str, expected: str) -> None:  # evidence-gpu.md E102
    assert canonical(parse_xml("test", written.encode())).decode() == expected


def test_a_part_keeps_the_namespaces_it_stood_in() -> None:
    tree = parse_xml("test", b'<a xmlns="u" xmlns:p="v"><b/><c/></a>')
    first, second = tree.children()
    assert canonical(first) == b'<b xmlns="u" xmlns:p="v"></b>'
    assert canonical(tree, without=second) == b'<a xmlns="u" xmlns:p="v"><b></b></a>'


def compared(*manifests: bytes, report: bytes | None = None) -> VerifiedGpu:
    data = report or DEVICE.report()
    return compare_with_rims(judge(data), [rim(one) for one in manifests], GpuReport.parse(data))


def test_a_report_is_held_against_its_manifests() -> None:  # evidence-gpu.md E104
    both = compared(MAKER.manifest(DRIVER), MAKER.manifest(VBIOS, version=BIOS_VERSION)).rims
    assert both is not None
    assert both.kinds == {RimKind.DRIVER, RimKind.VBIOS}
    assert (both.matched, both.differing, both.uncovered) == (frozenset(range(40)), frozenset(), frozenset())
    one = compared(MAKER.manifest({0: [MEASUREMENTS[0]], 1: [MEASUREMENTS[0]], 50: [bytes(48)]})).rims
    assert one is not None
    assert (one.matched, one.differing, one.uncovered) == ({0}, {1, 50}, frozenset(range(2, 40)))


def test_a_decoder_that_is_off_is_not_compared() -> None:  # evidence-gpu.md E104
    off = DEVICE.report(opaque={**OPAQUE, 11: b"\x55"})
    found = compared(MAKER.manifest({35: [bytes(48)]}), report=off).rims
    assert found is not None
    assert not found.differing
    assert 35 not in found.uncovered
    on = compared(MAKER.manifest({35: [bytes(48)]})).rims
    assert on is not None
    assert on.differing == {35}


@pytest.mark.parametrize(
    ("manifests", "code"),
    [
        ([MAKER.manifest(DRIVER, version="551.0")], "gpu.rim.version"),
        ([MAKER.manifest(DRIVER, product="GB100")], "gpu.rim.product"),
        ([MAKER.manifest(DRIVER), MAKER.manifest(VBIOS)], "gpu.rim"),
        ([MAKER.manifest(DRIVER), MAKER.manifest(DRIVER, version=BIOS_VERSION)], "gpu.rim"),
    ],
)
def test_a_manifest_for_something_else_is_refused(manifests: list[bytes], code: str) -> None:  # evidence-gpu.md E104
    with pytest.raises(BindingRefused) as refused:
        compared(*manifests)
    assert refused.value.code == code


def test_only_the_report_that_was_verified_is_compared() -> None:
    other = GpuReport.parse(DEVICE.report(nonce=bytes(32)))
    with pytest.raises(BindingRefused, match=r"gpu\.report"):
        compare_with_rims(judge(DEVICE.report()), [], other)


TRUSTING = f'[gpu]\nsimulated_roots = ["{DEVICE.root.spki.hex()}"]\n'
REFERENCES = ReferenceValues.of({"gpu.nonce": [NONCE]})


def policy(text: str, base: str = "strict") -> document.Policy:
    return document.parse(f'name = "x"\nabout = "x"\nextends = "{base}"\n{text}'.encode())


def full() -> document.Policy:
    return policy(
        TRUSTING + f'devices = ["{DEVICE.identity.spki.hex()}"]\ndriver_versions = ["550.1"]\n'
        f'vbios_versions = ["{BIOS_VERSION.upper()}"]\n'
    )


def unmet(evidence: VerifiedGpu, chosen: document.Policy | None = None) -> set[str]:
    return {claim.code for claim in appraise(evidence, REFERENCES, chosen or full()).unmet}


def sound() -> VerifiedGpu:
    return compared(MAKER.manifest(DRIVER), MAKER.manifest(VBIOS, version=BIOS_VERSION))


def test_a_sound_report_meets_every_claim_but_the_one_that_needs_a_network() -> None:
    appraisal = appraise(sound(), REFERENCES, full())
    assert appraisal.accepted
    assert {c.code for c in appraisal.claims if c.standing is not Standing.MET} == {"gpu.revocation"}


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("gpu.product", {"product": "GB100"}),
        ("gpu.device", {"device_id": bytes(32)}),
        ("gpu.nonce", {"nonce": bytes(32)}),
        ("gpu.firmware-id", {"firmware_id_bound": False}),
        ("gpu.driver", {"driver_version": ""}),
        ("gpu.vbios", {"vbios_version": "1"}),
    ],
)
def test_one_change_leaves_one_claim_unmet(code: str, changes: dict[str, Any]) -> None:  # evidence-gpu.md E106 to E108
    assert unmet(replace(sound(), **changes)) == {code}


def test_manifests_are_wanted_and_heeded() -> None:  # evidence-gpu.md E109
    assert unmet(judge(DEVICE.report())) == {"gpu.rims", "gpu.measurements", "gpu.measurements.uncovered"}
    wrong = compared(MAKER.manifest({**DRIVER, 0: (bytes(48),)}), MAKER.manifest(VBIOS, version=BIOS_VERSION))
    assert unmet(wrong) == {"gpu.measurements"}
    # Even a policy that asks for no manifest heeds one that was brought.
    assert unmet(wrong, policy(TRUSTING, "platform")) == {"gpu.measurements"}
    assert not unmet(judge(DEVICE.report()), policy(TRUSTING, "platform"))
    uncovered = compared(MAKER.manifest(DRIVER), MAKER.manifest({20: (MEASUREMENTS[20],)}, version=BIOS_VERSION))
    assert unmet(uncovered) == {"gpu.measurements.uncovered"}
    known = policy(TRUSTING + f"uncovered_measurements = {list(range(21, 40))}\n")
    assert not unmet(uncovered, known)


def test_a_simulated_device_and_revocation_are_refused_unless_named() -> None:  # evidence-gpu.md E105, E107
    for name in document.builtin_names():
        assert "gpu.root" in unmet(sound(), document.builtin(name))
    assert unmet(sound(), policy(TRUSTING + 'revocation = "required"\n')) == {"gpu.revocation"}


@pytest.mark.parametrize("name", document.builtin_names())
def test_the_builtin_policies_take_one_product(name: str) -> None:  # evidence-gpu.md E106
    section = document.builtin(name).gpu
    assert section is not None
    assert section.products == {"GH100"}


AT = datetime(2026, 1, 1, tzinfo=UTC)


@published.NEEDED
@pytest.mark.parametrize("entry", of_kind("nvidia-report"), ids=named)
def test_a_real_report_is_genuine(entry: dict[str, Any]) -> None:  # evidence-gpu.md E98, E99, E101
    verified = verify_gpu(GpuReport.parse(published.read(entry["file"])), published.read(entry["chain"]), at=AT)
    assert not verified.root.simulated
    assert verified.nonce.hex() == entry["request_nonce"]
    assert len(verified.measurements) == entry["n_measurement_blocks"]
    assert entry["device"].startswith(verified.product)
    accepted = appraise(verified, REFERENCES, document.builtin("platform")).accepted
    assert accepted == (verified.product == "GH100" and verified.firmware_id_bound)


@published.NEEDED
@pytest.mark.parametrize("entry", of_kind("nvidia-report-negative"), ids=named)
def test_a_spoiled_report_is_refused(entry: dict[str, Any]) -> None:  # evidence-gpu.md E100
    chains = [entry["chain"]] if "chain" in entry else sorted({e["chain"] for e in of_kind("nvidia-report")})
    report = GpuReport.parse(published.read(entry["file"]))
    for chain in chains:
        with pytest.raises(EvidenceRefused) as refused:
            verify_gpu(report, published.read(chain), at=AT)
        assert refused.value.stage == "signature"


@published.NEEDED
def test_a_real_manifest_is_nvidias_and_a_spoiled_one_is_not() -> None:  # evidence-gpu.md E103
    folder = published.FOLDER / "endorsements" / "nvidia" / "rim"
    inside = {"NV_GPU_DRIVER_GH100_550.144.03.xml": AT}
    for path in sorted(folder.iterdir()):
        at = inside.get(path.name, datetime(2024, 1, 1, tzinfo=UTC))
        assert verify_rim(GpuRim.parse(path.read_bytes()), at=at).product == "GH100"
    spoiled = of_kind("nvidia-rim-negative")[0]["file"]
    with pytest.raises(EvidenceRefused) as refused:
        verify_rim(GpuRim.parse(published.read(spoiled)), at=AT)
    assert refused.value.stage == "signature"


@published.NEEDED
@pytest.mark.parametrize(
    ("device", "manifest", "at", "matched"),
    [
        ("gh100-f628fc43", "NV_GPU_DRIVER_GH100_550.144.03.xml", AT, 20),
        ("gh100-30cddcd0", "1010_0200_882_96005E0001_PROD.swidtag", datetime(2024, 1, 1, tzinfo=UTC), 12),
    ],
)
def test_a_real_report_measures_what_its_real_manifest_states(
    device: str, manifest: str, at: datetime, matched: int
) -> None:  # evidence-gpu.md E104
    report = GpuReport.parse(published.read(f"gpu/{device}/report.bin"))
    verified = verify_gpu(report, published.read(f"gpu/{device}/chain.pem"), at=at)
    stated = verify_rim(GpuRim.parse(published.read(f"endorsements/nvidia/rim/{manifest}")), at=at)
    found = compare_with_rims(verified, [stated], report).rims
    assert found is not None
    assert (len(found.matched), found.differing) == (matched, frozenset())


@pytest.mark.parametrize(
    "line",
    [
        'simulated_roots = { unchecked = "why" }',
        'products = { unchecked = "why" }',
        'simulated_roots = ["00"]',
        f'devices = ["{"00" * 33}"]',
        f'devices = ["{"00" * 31}"]',
        f'nonce = ["{"00" * 31}"]',
        f'nonce = ["{"00" * 33}"]',
        'rims = ["firmware"]',
        "uncovered_measurements = [-1]",
        "uncovered_measurements = [256]",
        'driver_versions = [""]',
        'firmware_id = "forbidden"',
    ],
)
def test_a_field_of_another_kind_is_refused(line: str) -> None:
    with pytest.raises(PolicyMalformed):
        policy(f"[gpu]\n{line}")


def test_every_index_may_be_known() -> None:
    section = policy("[gpu]\nuncovered_measurements = [0, 255]").gpu
    assert section is not None
    assert section.uncovered_measurements == {0, 255}


def test_the_appraisal_says_what_was_expected_and_what_came() -> None:
    claims = {claim.code: claim for claim in appraise(sound(), REFERENCES, full()).claims}
    assert claims["gpu.nonce"].expected == NONCE.hex()
    assert claims["gpu.rims"].got == "driver, vbios"
    assert claims["gpu.measurements"].got == "40 as stated"
    assert claims["gpu.measurements.uncovered"].got == "none"
    assert claims["gpu.firmware-id"].got == "the same"
    assert claims["gpu.root"].expected == "NVIDIA's root, or one of 1 named simulated roots"
    assert "simulated" in claims["gpu.root"].got
    bare = {claim.code: claim for claim in appraise(judge(DEVICE.report()), ReferenceValues.none(), full()).claims}
    assert bare["gpu.nonce"].expected == "one of 0 reference values"
    assert bare["gpu.rims"].got == "none"
    assert bare["gpu.measurements"].got == "not compared"
    wrong = compared(MAKER.manifest({0: [bytes(48)], 1: [MEASUREMENTS[1]]}))
    told = {claim.code: claim for claim in appraise(wrong, REFERENCES, full()).claims}
    assert told["gpu.measurements"].got == "1 as stated, different at 0"
    assert not told["gpu.measurements"].collateral
    assert told["gpu.rims"].collateral


def test_only_missing_manifests_could_still_be_brought() -> None:
    without = policy(TRUSTING + 'uncovered_measurements = { unchecked = "why" }\nrevocation = "required"')
    assert appraise(sound(), REFERENCES, without).wants_only_collateral
