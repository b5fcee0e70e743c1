"""A simulated chip as a file: a guest gets it in place of a chip in hardware.

    {"certificates": HEX, "measurement": HEX, "product": "Genoa", "seed": HEX, "tee": "simulated-snp"}

Whoever starts the machine writes it, with the measurement of the very files the machine starts with
(`image_build.boot.text_disk`); the guest reads it from a disk. `certificates` is the table a host lays beside a report.
Whoever has the file *is* the chip: there is nothing to protect, and only a devnet's own policy believes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self

from attestation.evidence.kinds import Evidence, TeeKind
from attestation.evidence.snp_report import Product
from attestation.tee.errors import TeeRefused
from attestation.tee.tee import REPORT_DATA_BYTES
from devnet.sim_snp import Chip, PatchLevels, ReportFields, SimulatedSnp

FILE_BYTES_MAX: Final = 1 << 20
_TEE: Final = "simulated-snp"
_FIELDS: Final = frozenset({"certificates", "measurement", "product", "seed", "tee"})


@dataclass(frozen=True, slots=True)
class ChipTee:
    """`attestation.tee.tee.Tee` over a chip that came as a file."""

    chip: Chip
    fields: ReportFields
    certificates: bytes

    @property
    def kind(self) -> TeeKind:
        return TeeKind.SIMULATED_SNP

    def quote(self, report_data: bytes) -> Evidence:
        if len(report_data) != REPORT_DATA_BYTES:
            raise TeeRefused("report.data-length", expected=REPORT_DATA_BYTES, got=len(report_data))
        return Evidence(self.kind, self.chip.report(report_data, self.fields), self.certificates)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """From the file, or the disk that was made of it. Raises `TeeRefused` alone."""
        try:
            fields = json.loads(raw[:FILE_BYTES_MAX].rstrip(b"\0"))
            if not isinstance(fields, dict) or fields.keys() != _FIELDS or fields["tee"] != _TEE:
                raise ValueError("other fields")
            chip = Chip(Product(fields["product"]), bytes.fromhex(fields["seed"]), PatchLevels())
            measurement, certificates = (bytes.fromhex(fields[name]) for name in ("measurement", "certificates"))
        except (ValueError, TypeError, RecursionError):
            raise TeeRefused(
                "chip.file", expected="a simulated chip", got=f"{len(raw)} bytes of another form"
            ) from None
        return cls(chip, ReportFields(measurement), certificates)


def chip_file(platform: SimulatedSnp, measurement: bytes) -> bytes:
    """The chip of `platform` in a machine that was started with these files and no others."""
    if platform.tcb != PatchLevels():
        raise ValueError("a chip's file has no patch levels of its own")
    return json.dumps(
        {
            "certificates": platform.auxblob().hex(),
            "measurement": measurement.hex(),
            "product": platform.product.value,
            "seed": platform.seed.hex(),
            "tee": _TEE,
        },
        sort_keys=True,
    ).encode()


def in_machine(raw: bytes, measurement: bytes) -> bytes:
    """The same chip in a machine that was started with other files."""
    ChipTee.parse(raw)
    return json.dumps({**json.loads(raw), "measurement": measurement.hex()}, sort_keys=True).encode()
