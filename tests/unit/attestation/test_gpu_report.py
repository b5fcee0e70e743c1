"""NVIDIA reports: parsed to the byte, verified proof by proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import BindingRefused, EvidenceRefused, FormatRefused
from attestation.evidence.gpu_report import REPORT_BYTES_MAX, GpuReport
from attestation.verify.gpu import verify_gpu, verify_gpu_with_root_ca, verify_nonce
from tests.unit.attestation.forge_gpu import DICE, FWID, MEASUREMENTS, NONCE, OPAQUE, block, certify, unsigned
from tests.unit.attestation.forge_tdx import NOW, Identity, new_key
from tests.unit.attestation.gpu_samples import BIOS_VERSION, DEVICE, judge


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
