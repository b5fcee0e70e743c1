"""A simulated chip that came as a file reports as the platform it was cut from, and nothing but such a file is one."""

from __future__ import annotations

import json

import pytest

from attestation.evidence.auxblob import CertificateTable, TableEntry
from attestation.evidence.kinds import TeeKind
from attestation.tee.errors import TeeRefused
from devnet.chip import ChipTee, chip_file
from devnet.tee import simulated_snp
from tests.little_tee import snp_platform

MEASUREMENT = bytes(range(48))


def test_a_chip_from_a_disk_is_the_platforms_own() -> None:
    platform = snp_platform()
    chip = ChipTee.parse(chip_file(platform, MEASUREMENT) + bytes(512))
    there = simulated_snp(platform, MEASUREMENT).quote(bytes(64))
    here = chip.quote(bytes(64))
    assert (here.kind, here.report) == (TeeKind.SIMULATED_SNP, there.report)
    table = CertificateTable.parse(chip.certificates).values
    assert (table[TableEntry.VCEK], table[TableEntry.ARK]) == (platform.vcek.der, platform.ark.der)


def test_it_signs_64_bytes_and_no_other_number() -> None:
    with pytest.raises(TeeRefused, match=r"report\.data-length"):
        ChipTee.parse(chip_file(snp_platform(), MEASUREMENT)).quote(bytes(63))


@pytest.mark.parametrize(
    "change",
    [{"tee": "snp"}, {"more": 1}, {"product": "Milano"}, {"seed": "x"}, {"measurement": 7}, {"certificates": None}],
)
def test_other_files_are_refused(change: dict[str, object]) -> None:
    fields = json.loads(chip_file(snp_platform(), MEASUREMENT))
    with pytest.raises(TeeRefused, match=r"chip\.file"):
        ChipTee.parse(json.dumps({**fields, **change}).encode())


@pytest.mark.parametrize("raw", [b"", bytes(512), b"[]", b"[" * 5000, b"\xff", b"{}"])
def test_no_file_at_all_is_refused(raw: bytes) -> None:
    with pytest.raises(TeeRefused, match=r"chip\.file"):
        ChipTee.parse(raw)
