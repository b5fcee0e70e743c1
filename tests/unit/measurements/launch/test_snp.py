"""SNP launch digests: published ones come out again, and no other firmware, file or number gives the same.

measure.md M1 to M8.
"""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sevsnpmeasure import guest
from sevsnpmeasure.sev_mode import SevMode

from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import FIRMWARE_BYTES_MAX, Firmware
from measurements.launch.sev import KernelHashes, Section, SectionKind, hash_table_address, sections
from measurements.launch.snp import PROCESSORS, SnpLaunch, Vmm, signature_of
from tests.firmware import HASHES_AT, SEV_HASHES, SEV_RESET, SEV_SECTIONS, LittleFirmware, u32

VECTORS = Path(__file__).resolve().parents[5] / "shared" / "vectors" / "attestation"
CASES = VECTORS / "launch" / "snp_cases.json"
FIXTURES = VECTORS / "endorsements" / "launch"
FILES = (b"kernel", b"initrd", "console=ttyS0")
MILAN = signature_of("EPYC-Milan")


def launch(firmware: LittleFirmware | None = None, hashes: KernelHashes | None = None) -> SnpLaunch:
    return SnpLaunch.of(Firmware.parse((firmware or LittleFirmware()).build()), hashes)


def refusal(code: str, **changed: object) -> None:
    with pytest.raises(LaunchRefused) as caught:
        launch(LittleFirmware(**changed))  # type: ignore[arg-type]  # the fields of the little firmware
    assert caught.value.code == code
    assert caught.value.stage == "launch"


def test_published_digests_come_out_again() -> None:
    if not CASES.is_file():
        pytest.skip(f"the published launch digests are not at {CASES}")
    cases = json.loads(CASES.read_text(encoding="utf-8"))
    assert len(cases) >= 9
    for case in cases:
        firmware = Firmware.parse((FIXTURES / Path(case["ovmf"]).name).read_bytes())
        hashes = None if case["kernel"] is None else KernelHashes.of(b"", b"", case["append"])
        vmm = Vmm(case.get("vmm_type", "qemu"))
        made = SnpLaunch.of(firmware, hashes, vmm).digests(
            case["vcpu_sig"] or 0, case["guest_features"], [case["vcpus"]]
        )
        assert made[case["vcpus"]].hex() == case["digest"], case


@given(
    st.binary(max_size=64),
    st.binary(max_size=64),
    st.text("abc =,", max_size=32),
    st.sampled_from([each.signature for each in PROCESSORS]),
    st.integers(1, 9),
    st.sampled_from([1, 0x21]),
)
def test_the_sum_of_our_parsing_and_their_hashing_is_their_whole_path(
    tmp_path_factory: pytest.TempPathFactory,
    kernel: bytes,
    initrd: bytes,
    cmdline: str,
    signature: int,
    vcpus: int,
    features: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    paths = {name: folder / f"snp-{name}" for name in ("firmware", "kernel", "initrd")}
    for path, content in zip(paths.values(), (LittleFirmware().build(), kernel, initrd), strict=True):
        path.write_bytes(content)
    theirs = guest.calc_launch_digest(SevMode.SEV_SNP, vcpus, signature, *map(str, paths.values()), cmdline, features)
    ours = launch(hashes=KernelHashes.of(kernel, initrd, cmdline)).digests(signature, features, [vcpus])
    assert ours[vcpus] == theirs


def test_one_chain_gives_the_same_as_each_number_alone() -> None:
    made = launch(hashes=KernelHashes.of(*FILES))
    together = made.digests(MILAN, 1, [8, 1, 4, 2, 2])
    assert list(together) == [1, 2, 4, 8]
    assert all(made.digests(MILAN, 1, [count])[count] == digest for count, digest in together.items())
    assert len(set(together.values())) == 4


def test_every_input_counts() -> None:
    def digest(firmware: LittleFirmware, hashes: KernelHashes | None, *how: int) -> bytes:
        signature, features = how or (MILAN, 1)
        return SnpLaunch.of(Firmware.parse(firmware.build()), hashes).digests(signature, features, [1])[1]

    little = LittleFirmware()
    variants = [
        digest(little, KernelHashes.of(*FILES)),
        digest(little, None),
        digest(little, KernelHashes.of(b"Kernel", *FILES[1:])),
        digest(little, KernelHashes.of(FILES[0], b"Initrd", FILES[2])),
        digest(little, KernelHashes.of(*FILES[:2], "console=ttyS1")),
        digest(LittleFirmware(pages=5), KernelHashes.of(*FILES)),
        digest(LittleFirmware(sev_sections=tuple(reversed(SEV_SECTIONS))), KernelHashes.of(*FILES)),
        digest(little, KernelHashes.of(*FILES), signature_of("EPYC-Genoa"), 1),
        digest(little, KernelHashes.of(*FILES), MILAN, 0x21),
    ]
    assert len(set(variants)) == len(variants)


def test_names_of_one_signature_stand_together() -> None:
    assert signature_of("EPYC-v4") == signature_of("EPYC")
    names = [name for each in PROCESSORS for name in each.types]
    assert {"EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"} <= set(names)
    assert len(names) == len(set(names))
    with pytest.raises(LaunchRefused, match=r"snp\.vcpu-type"):
        signature_of("qemu64")


# -- the table of digests


def test_the_table_is_qemus_to_the_byte() -> None:
    hashes = KernelHashes.of(*FILES)
    table = hashes.table()
    assert len(table) == KernelHashes.TABLE_BYTES
    assert table[16:18] == (168).to_bytes(2, "little")
    assert [table[at : at + 32] for at in (36, 86, 136)] == [hashes.cmdline, hashes.initrd, hashes.kernel]
    firmware = Firmware.parse(LittleFirmware().build())
    assert hash_table_address(firmware) == HASHES_AT
    (page,) = hashes.pages(firmware, Section(0x810000, 0x1000, SectionKind.KERNEL_HASHES))
    assert page == bytes(0x400) + table + bytes(4096 - 0x400 - len(table))


@pytest.mark.parametrize("line", ["two\nlines", "tab\there", "\x00", "höre"], ids=["lines", "tab", "zero", "letter"])
def test_a_command_line_has_one_encoding(line: str) -> None:
    with pytest.raises(LaunchRefused, match=r"cmdline\.text"):
        KernelHashes.of(b"", b"", line)


def test_a_table_where_nothing_is_measured_is_refused() -> None:
    elsewhere = {"hashes": (0x820000, 0x400)}
    with pytest.raises(LaunchRefused, match=r"sev\.hashes"):
        launch(LittleFirmware(**elsewhere), KernelHashes.of(*FILES))  # type: ignore[arg-type]
    with pytest.raises(LaunchRefused, match=r"snp\.hashes"):
        launch(LittleFirmware(sev_sections=SEV_SECTIONS[:-1]), KernelHashes.of(*FILES))
    with pytest.raises(LaunchRefused, match=r"sev\.hashes"):  # too small for the table
        launch(LittleFirmware(hashes=(HASHES_AT, 100)), KernelHashes.of(*FILES))


# -- parsing


def test_the_sections_are_those_of_the_metadata() -> None:
    found = sections(Firmware.parse(LittleFirmware().build()))
    assert [(each.address, each.size, each.kind.value) for each in found] == list(SEV_SECTIONS)


@pytest.mark.parametrize("size", [0, 1, 4095, 4097, FIRMWARE_BYTES_MAX + 4096])
def test_an_image_is_whole_pages(size: int) -> None:
    with pytest.raises(LaunchRefused, match=r"firmware\.size"):
        Firmware.parse(bytes(size))


def test_a_table_that_is_none_is_refused() -> None:
    refusal("firmware.table", table_name=UUID(int=7))
    refusal("firmware.entry", more_entries=[(SEV_RESET, u32(1))])
    whole = bytearray(LittleFirmware().build())
    for size in (0, 17, 20, 0xFFFF):
        whole[-50:-48] = size.to_bytes(2, "little")
        with pytest.raises(LaunchRefused, match=r"firmware\.(table|entry)"):
            Firmware.parse(bytes(whole))


def test_an_entry_that_points_outside_is_refused() -> None:
    image = LittleFirmware().build()
    at = image.rindex(SEV_HASHES.bytes_le)
    firmware = Firmware.parse(image)
    for offset in (0, len(image) + 1, 0xFFFFFFFF):
        other = Firmware(image, {**firmware.entries, UUID("dc886566-984a-4798-a75e-5585a7bf67cc"): u32(offset)})
        with pytest.raises(LaunchRefused, match=r"firmware\.sev-metadata"):
            sections(other)
    assert at
    with pytest.raises(LaunchRefused, match=r"firmware\.sev-metadata"):
        sections(Firmware(image, {}))


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("sev.metadata", {"sev_head": b"ASEX" + u32(16 + 60, 1, 5)}),
        ("sev.metadata", {"sev_head": b"ASEV" + u32(16 + 60, 2, 5)}),
        ("sev.metadata", {"sev_head": b"ASEV" + u32(16 + 60, 1, 6)}),
        ("sev.metadata", {"sev_head": b"ASEV" + u32(16 + 65 * 12, 1, 65)}),
        ("sev.metadata", {"sev_head": b"ASEV" + u32(0xFFFFFFFF, 1, 0x15555554)}),
        ("sev.section", {"sev_sections": ((0x800001, 0x1000, 1),)}),
        ("sev.section", {"sev_sections": ((0x800000, 0x1001, 1),)}),
        ("sev.section", {"sev_sections": ((0x800000, 0, 1),)}),
        ("sev.section", {"sev_sections": ((0xFFFFF000, 0x2000, 1),)}),
        ("sev.section", {"sev_sections": ((0x800000, 0x1000, 5),)}),
        ("sev.section", {"sev_sections": ((0x800000, 0x2000, 1), (0x801000, 0x1000, 2))}),
    ],
)
def test_metadata_that_breaks_a_rule_is_refused(code: str, changed: dict[str, object]) -> None:
    refusal(code, **changed)


@pytest.mark.parametrize(("counts", "features"), [([], 1), ([0], 1), ([513], 1), ([1], 0), ([1], 0x20), ([1], 1 << 64)])
def test_a_machine_that_cannot_be_is_refused(counts: list[int], features: int) -> None:
    with pytest.raises(LaunchRefused, match=r"snp\.(vcpus|guest-features)"):
        launch().digests(MILAN, features, counts)
