"""Reference integrity manifests: their form, their signature, and a report held against them."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from attestation.errors import BindingRefused, EvidenceRefused, FormatRefused
from attestation.evidence.canonical_xml import parse_xml
from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.gpu_rim import GpuRim
from attestation.verify.gpu import compare_with_rims
from attestation.verify.gpu_rim import verify_rim
from attestation.verify.verified import Seal
from attestation.verify.verified_gpu import RimKind
from tests.unit.attestation.forge_gpu import MEASUREMENTS, OPAQUE
from tests.unit.attestation.forge_tdx import NOW
from tests.unit.attestation.gpu_samples import BIOS_VERSION, DEVICE, DRIVER, MAKER, VBIOS, compared, judge, rim


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
