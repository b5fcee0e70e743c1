"""evidence.md E1 to E9: what a report is, and that nothing but a report is read as one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import FormatRefused
from attestation.evidence.snp_report import Cpuid, Firmware, KeyKind, PlatformInfo, Product, SnpReport, Tcb
from tests.unit.attestation.forge import Forge

REPORT = Forge().report()


def refused(raw: bytes) -> str:
    with pytest.raises(FormatRefused) as caught:
        SnpReport.parse(raw)
    assert caught.value.stage == "format"
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 1183, 1185, 1200, 4096])
def test_a_report_is_1184_bytes(size: int) -> None:  # evidence.md E1
    assert refused(REPORT[:1183].ljust(size, b"\0")[:size]) == "snp.report.size"


@pytest.mark.parametrize("version", [0, 1, 6, 2**32 - 1])
def test_other_versions_are_refused(version: int) -> None:  # evidence.md E2
    assert refused(Forge().report(version=version)) == "snp.report.version"


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_each_version_is_read(version: int) -> None:  # evidence.md E2, E5
    old = {} if version == 5 else {"launch_mitigations": 0, "current_mitigations": 0}
    report = SnpReport.parse(
        Forge().report(version=version, cpuid=bytes(3) if version == 2 else bytes([25, 17, 1]), **old)
    )
    assert report.cpuid == (None if version == 2 else Cpuid(25, 17, 1))
    assert report.current_mitigations == (0xB if version == 5 else None)
    assert report.launch_mitigations == (0xB if version == 5 else None)


RESERVED = [*range(0x04C, 0x050), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0), *range(0x330, 0x4A0)]


@pytest.mark.parametrize("offset", RESERVED)
def test_a_reserved_byte_that_is_set_is_refused(offset: int) -> None:  # evidence.md E3, E4
    raw = bytearray(REPORT)
    raw[offset] = 1
    assert refused(bytes(raw)) == "snp.report.reserved"


@pytest.mark.parametrize(
    ("version", "offsets"),
    [(2, range(0x188, 0x18B)), (2, range(0x1F8, 0x208)), (3, range(0x1F8, 0x208)), (4, range(0x1F8, 0x208))],
)
def test_what_a_later_version_uses_is_zero_before(version: int, offsets: range) -> None:  # evidence.md E3
    base = bytearray(Forge().report(version=version, cpuid=bytes(3), launch_mitigations=0, current_mitigations=0))
    SnpReport.parse(bytes(base))
    for offset in offsets:
        raw = bytearray(base)
        raw[offset] = 0x80
        assert refused(bytes(raw)) == "snp.report.reserved"


def test_every_other_signed_byte_may_take_any_value() -> None:
    """The tables of reserved spans cover no more than the rules say: KEY_INFO and VERSION aside."""
    for offset in range(0x2A0, 0x330):
        raw = bytearray(REPORT)
        raw[offset] ^= 0xFF
        SnpReport.parse(bytes(raw))
    for offset in set(range(0x004, 0x2A0)) - set(RESERVED) - set(range(0x048, 0x04C)):
        raw = bytearray(REPORT)
        raw[offset] ^= 0xFF
        SnpReport.parse(bytes(raw))


@pytest.mark.parametrize("key_info", [1 << 5, 1 << 31, 2 << 2, 3 << 2, 6 << 2])
def test_unknown_key_information_is_refused(key_info: int) -> None:  # evidence.md E3
    assert refused(Forge().report(key_info=key_info)) == "snp.report.key-info"


def test_key_information_is_read() -> None:
    report = SnpReport.parse(Forge().report(key_info=0b111))
    assert (report.author_key_enabled, report.chip_key_masked, report.key_kind) == (True, True, KeyKind.VLEK)
    report = SnpReport.parse(Forge().report(key_info=7 << 2))
    assert (report.author_key_enabled, report.chip_key_masked, report.key_kind) == (False, False, KeyKind.NONE)


def test_every_field_is_read_from_its_place() -> None:
    values = {
        "family_id": b"\x01" * 16,
        "image_id": b"\x02" * 16,
        "report_data": b"\x03" * 64,
        "measurement": b"\x04" * 48,
        "host_data": b"\x05" * 32,
        "id_key_digest": b"\x06" * 48,
        "author_key_digest": b"\x07" * 48,
        "report_id": b"\x08" * 32,
        "report_id_ma": b"\x09" * 32,
        "current_tcb": b"\x0a" * 8,
        "reported_tcb": b"\x0b" * 8,
        "chip_id": b"\x0c" * 64,
        "committed_tcb": b"\x0d" * 8,
        "launch_tcb": b"\x0e" * 8,
    }
    report = SnpReport.parse(
        Forge().report(
            **values,
            guest_svn=77,
            vmpl=3,
            algorithm=9,
            policy=0x1234_5678_9ABC_DEF0,
            platform=0x0FED_CBA9_8765_4321,
            current_firmware=0x013732,
            committed_firmware=0x023731,
            launch_mitigations=2**40,
            current_mitigations=2**41,
        )
    )
    assert {name: getattr(report, name) for name in values} == values
    assert (report.version, report.guest_svn, report.vmpl, report.signature_algorithm) == (5, 77, 3, 9)
    assert (report.policy.raw, report.platform.raw) == (0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321)
    assert (report.current_firmware, report.committed_firmware) == (Firmware(1, 55, 50), Firmware(2, 55, 49))
    assert str(report.current_firmware) == "1.55.50"
    assert (report.launch_mitigations, report.current_mitigations) == (2**40, 2**41)


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (16, "smt"),
        (17, "must_be_one"),
        (18, "migration_agent"),
        (19, "debug"),
        (20, "single_socket"),
        (21, "cxl"),
        (22, "aes_256_xts"),
        (23, "rapl_disabled"),
        (24, "ciphertext_hiding"),
        (25, "page_swap_disabled"),
    ],
)
def test_each_policy_bit_has_its_name(bit: int, name: str) -> None:
    policy = SnpReport.parse(Forge().report(policy=1 << bit)).policy
    names = [
        "smt",
        "must_be_one",
        "migration_agent",
        "debug",
        "single_socket",
        "cxl",
        "aes_256_xts",
        "rapl_disabled",
        "ciphertext_hiding",
        "page_swap_disabled",
    ]
    assert [other for other in names if getattr(policy, other)] == [name]
    assert (policy.unknown_bits, policy.abi) == (0, (0, 0))


@pytest.mark.parametrize(
    ("bit", "name"),
    list(
        enumerate(
            [
                "smt",
                "tsme",
                "ecc",
                "rapl_disabled",
                "ciphertext_hiding",
                "alias_check_complete",
                "iommu_write_safe",
                "trusted_io",
            ]
        )
    ),
)
def test_each_platform_bit_has_its_name(bit: int, name: str) -> None:
    info = PlatformInfo(1 << bit)
    names = [
        "smt",
        "tsme",
        "ecc",
        "rapl_disabled",
        "ciphertext_hiding",
        "alias_check_complete",
        "iommu_write_safe",
        "trusted_io",
    ]
    assert [other for other in names if getattr(info, other)] == [name]
    assert info.unknown_bits == 0


@pytest.mark.parametrize("bit", range(64))
def test_bits_without_a_name_are_kept(bit: int) -> None:  # evidence.md E7
    report = SnpReport.parse(Forge().report(policy=1 << bit, platform=1 << bit))
    assert report.policy.unknown_bits == (1 << bit if bit >= 26 else 0)
    assert report.platform.unknown_bits == (1 << bit if bit >= 8 else 0)


def test_the_abi_floor_is_read() -> None:
    assert SnpReport.parse(Forge().report(policy=0x0001_0137)).policy.abi == (1, 0x37)


def test_the_two_layouts_of_a_tcb() -> None:  # evidence.md E6
    assert Tcb.parse(bytes([1, 2, 0, 0, 0, 0, 3, 4]), Product.GENOA) == Tcb(1, 2, 3, 4)
    assert Tcb.parse(bytes([1, 2, 0, 0, 0, 0, 3, 4]), Product.MILAN) == Tcb(1, 2, 3, 4)
    assert Tcb.parse(bytes([9, 1, 2, 3, 0, 0, 0, 4]), Product.TURIN) == Tcb(1, 2, 3, 4, fmc=9)
    assert str(Tcb(1, 2, 3, 4)) == "bootloader 1 tee 2 snp 3 microcode 4"
    assert str(Tcb(1, 2, 3, 4, fmc=9)) == "fmc 9 bootloader 1 tee 2 snp 3 microcode 4"


@pytest.mark.parametrize(
    ("product", "offsets"), [(Product.MILAN, range(2, 6)), (Product.GENOA, range(2, 6)), (Product.TURIN, range(4, 7))]
)
def test_reserved_levels_are_zero(product: Product, offsets: range) -> None:  # evidence.md E6
    for offset in range(8):
        raw = bytearray(8)
        raw[offset] = 1
        if offset in offsets:
            with pytest.raises(FormatRefused, match=r"snp\.tcb\.reserved"):
                Tcb.parse(bytes(raw), product)
        else:
            Tcb.parse(bytes(raw), product)


LEVELS = st.tuples(*[st.integers(0, 255)] * 5)


@given(LEVELS, LEVELS)
def test_versions_are_compared_part_by_part(left: tuple[int, ...], right: tuple[int, ...]) -> None:  # evidence.md E6
    a, b = Tcb(*left), Tcb(*right)
    assert a.at_least(b) is all(x >= y for x, y in zip(left, right, strict=True))
    assert a.at_least(a)


def test_what_the_signature_covers() -> None:  # evidence.md E8
    report = SnpReport.parse(REPORT)
    assert report.signed == REPORT[:0x2A0]
    assert report.signature == (REPORT[0x2A0:0x2E8], REPORT[0x2E8:0x330])
    assert report.raw == REPORT


@given(st.binary(max_size=64) | st.binary(min_size=1184, max_size=1184))
def test_nothing_but_its_own_error_leaves_the_parser(raw: bytes) -> None:  # evidence.md E9
    with contextlib.suppress(FormatRefused):
        SnpReport.parse(raw)
