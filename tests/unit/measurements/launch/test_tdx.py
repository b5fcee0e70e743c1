"""MRTD, Authenticode and the registers: against a second way to compute them, a signed kernel and a published log.

measure.md M9 to M16.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from attestation.evidence.event_log import parse_dstack
from measurements.launch.authenticode import authenticode
from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import Firmware
from measurements.launch.mrtd import PageOrder, mrtd
from measurements.launch.rtmr import JudgedBy, predicted_registers, program_events, replayed
from measurements.launch.tdvf import Attribute, TdvfKind, tdvf_sections
from tests.firmware import LittleFirmware, LittleProgram, u32

VECTORS = Path(__file__).resolve().parents[5] / "shared" / "vectors" / "attestation"
LOG = VECTORS / "eventlog" / "dstack-quote-report.json"
SECTIONS = LittleFirmware().tdvf_sections


def parsed(**changed: object) -> Firmware:
    return Firmware.parse(LittleFirmware(**changed).build())  # type: ignore[arg-type]  # its fields


# -- MRTD


def by_hand(order: PageOrder) -> bytes:
    """The little firmware's MRTD, spelled out record by record from its numbers."""
    image = LittleFirmware().build()
    chain = hashlib.sha384()

    def add(address: int) -> None:
        chain.update(b"MEM.PAGE.ADD\0\0\0\0" + address.to_bytes(8, "little") + bytes(104))

    def extend(page: int) -> None:
        for at in range(page, page + 4096, 256):
            chain.update(b"MR.EXTEND\0\0\0\0\0\0\0" + at.to_bytes(8, "little") + bytes(104))
            start = at - 0xFFFFD000
            chain.update((image[0x1000:0x3000] + bytes(0x1000))[start : start + 256])

    volume = (0xFFFFD000, 0xFFFFE000, 0xFFFFF000)
    if order is PageOrder.INTERLEAVED:
        for page in volume:
            add(page)
            extend(page)
    else:
        for page in volume:
            add(page)
        for page in volume:
            extend(page)
    for page in (0xFFFFC000, 0x809000, 0x80A000):
        add(page)
    return chain.digest()


@pytest.mark.parametrize("order", PageOrder)
def test_mrtd_in_both_orders(order: PageOrder) -> None:
    assert mrtd(parsed(), order) == by_hand(order)


def test_the_orders_differ_and_what_is_not_extended_does_not_count() -> None:
    assert mrtd(parsed(), PageOrder.INTERLEAVED) != mrtd(parsed(), PageOrder.PAGES_FIRST)
    image = bytearray(LittleFirmware().build())
    image[10] ^= 1  # the configuration volume: its pages count, their content does not
    assert mrtd(Firmware.parse(bytes(image)), PageOrder.INTERLEAVED) == by_hand(PageOrder.INTERLEAVED)
    image[0x1000] ^= 1
    assert mrtd(Firmware.parse(bytes(image)), PageOrder.INTERLEAVED) != by_hand(PageOrder.INTERLEAVED)


def test_sections_are_those_of_the_descriptor() -> None:
    found = tdvf_sections(parsed())
    assert [each.kind for each in found] == [
        TdvfKind.FIRMWARE,
        TdvfKind.CONFIGURATION,
        TdvfKind.HAND_OFF_BLOCK,
        TdvfKind.PERMANENT_MEMORY,
    ]
    assert [each.attributes for each in found] == [Attribute.EXTEND, 0, 0, Attribute.AUGMENT]
    assert [len(each.content) for each in found] == [0x2000, 0x1000, 0, 0]


VOLUME = SECTIONS[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"tdvf_sections": ()},
        {"tdvf_sections": SECTIONS[1:]},  # no firmware volume
        {"tdvf_sections": (VOLUME, (0x1000, 0x1000, 0x1000, 0x1000, 0, 0))},  # two
        {"tdvf_head": b"TDVX" + u32(16 + 128, 1, 4)},
        {"tdvf_head": b"TDVF" + u32(16 + 128, 2, 4)},
        {"tdvf_head": b"TDVF" + u32(16 + 128, 1, 5)},
        {"tdvf_head": b"TDVF" + u32(0xFFFFFFFF, 1, 0x07FFFFFF)},
        {"tdvf_sections": (VOLUME, (0, 0, 1, 0x1000, 3, 0))},
        {"tdvf_sections": (VOLUME, (0, 0, 0x1000, 0, 3, 0))},
        {"tdvf_sections": (VOLUME, (0, 0, 0x1000, 1 << 31, 3, 0))},
        {"tdvf_sections": (VOLUME, (0, 0, 1 << 52, 0x1000, 3, 0))},
        {"tdvf_sections": (VOLUME, (0x4000, 1, 0x1000, 0x1000, 3, 0))},
        {"tdvf_sections": (VOLUME, (0, 0x2000, 0x1000, 0x1000, 3, 0))},
        {"tdvf_sections": (VOLUME, (0, 0, 0x1000, 0x1000, 7, 0))},
        {"tdvf_sections": (VOLUME, (0, 0, 0x1000, 0x1000, 3, 4))},
        {"tdvf_sections": (VOLUME, (0, 0, 0x1000, 0x1000, 3, 3))},
        {"tdvf_sections": (VOLUME, (0, 0, 0xFFFFC000, 0x2000, 3, 0))},  # into the volume
    ],
)
def test_a_descriptor_that_breaks_a_rule_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(LaunchRefused, match=r"launch: tdvf\."):
        tdvf_sections(parsed(**changed))


# -- Authenticode


def test_what_a_signature_changes_does_not_count_and_all_else_does() -> None:
    plain = LittleProgram().build()
    digest = authenticode(plain)
    signed = LittleProgram(certificates=bytes(range(64))).build()
    assert authenticode(signed) == digest
    assert authenticode(plain, "sha256") != digest
    checksum, entry = 64 + 24 + 64, 64 + 24 + 144
    for at in range(len(plain)):
        other = bytearray(plain)
        other[at] ^= 0x80
        try:
            same = authenticode(bytes(other)) == digest
        except LaunchRefused:
            continue
        assert same == (checksum <= at < checksum + 4 or entry <= at < entry + 4), at


def test_the_order_of_rows_does_not_count_but_gaps_and_overlaps_are_refused() -> None:
    assert len(authenticode(LittleProgram(sections=((1536, 512), (512, 1024))).build())) == 48
    assert len(authenticode(LittleProgram(behind=b"more", certificates=bytes(8)).build())) == 48
    for sections in (((512, 1024), (2048, 512)), ((512, 1024), (1024, 512)), ((600, 100),)):
        with pytest.raises(LaunchRefused, match=r"pe\.format"):
            authenticode(LittleProgram(sections=sections).build())
    with pytest.raises(LaunchRefused, match=r"pe\.format"):
        authenticode(LittleProgram(certificates=bytes(8)).build() + b"tail")
    with pytest.raises(LaunchRefused, match=r"pe\.format"):
        authenticode(LittleProgram(magic=0x10B).build())


# -- registers


def test_a_published_logs_register_is_the_one_its_kernel_leads_to() -> None:
    if not LOG.is_file():
        pytest.skip(f"the published event log is not at {LOG}")
    log = parse_dstack(LOG.read_bytes())
    first, *_ = [event for event in log.events if event.rtmr == 1]
    events = program_events(first.digest)
    assert [(event.kind, event.digest) for event in log.events if event.rtmr == 1] == [
        (event.kind, event.digest) for event in events
    ]
    assert replayed(event.digest for event in events) == log.replay()[1]
    stub = predicted_registers(LittleProgram().build(), b"i", "")[2]
    assert [event.kind for event in log.events if event.rtmr == 2] == [event.kind for event in stub.events]


def test_the_stub_logs_the_command_line_in_utf16_and_then_the_initrd() -> None:
    rtmr0, rtmr1, rtmr2, rtmr3 = predicted_registers(LittleProgram().build(), b"initrd", "console=ttyS0")
    options = hashlib.sha384("console=ttyS0 initrd=initrd\0".encode("utf-16-le")).digest()
    initrd = hashlib.sha384(b"initrd").digest()
    assert [event.digest for event in rtmr2.events] == [options, initrd]
    once = hashlib.sha384(bytes(48) + options).digest()
    assert rtmr2.value == hashlib.sha384(once + initrd).digest()
    assert rtmr1.events[0].digest == authenticode(LittleProgram().build())
    assert (rtmr0.judged_by, rtmr0.value) == (JudgedBy.EVENT_LOG, None)
    assert rtmr3.value == bytes(48)


def test_without_an_initrd_there_is_one_event() -> None:
    (event,) = predicted_registers(LittleProgram().build(), b"", "quiet")[2].events
    assert event.digest == hashlib.sha384("quiet\0".encode("utf-16-le")).digest()


def test_the_reason_stands_where_a_value_cannot() -> None:
    text = json.dumps([each.about for each in predicted_registers(LittleProgram().build(), b"", "")])
    assert "event log" in text
    assert "ACPI" in text
