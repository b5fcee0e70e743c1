"""ACPI tables as a host writes them: one more beside QEMU's own, or all of them anew.

    ["-acpitable", "file=..."]                          one more
    WholeSet(dsdt, fadt, madt).words(folder)            all: QEMU's own are switched off, and ours take their place

The firmware lays what it is given, and measures none of it on SEV-SNP. What the tables hold is for `acpi_attacks`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 36
FADT_FACS, FADT_DSDT, FADT_GPE0, FADT_GPE0_BYTES, FADT_X_FACS, FADT_X_DSDT, FADT_X_GPE0 = 36, 40, 80, 92, 132, 140, 220
MADT_ENTRIES: Final = 44
TABLES_FILE, RSDP_FILE, LOADER_FILE = "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"
_ALLOCATE, _POINT, _SUM = 1, 2, 3
_HIGH, _F_SEGMENT = 1, 2


def table(signature: bytes, body: bytes, revision: int = 2) -> bytes:
    head = signature + struct.pack("<IBB", HEAD_BYTES + len(body), revision, 0) + b"HOSTILTABLE   "
    return summed(head + struct.pack("<I4sI", 1, b"HOST", 1) + body)


def summed(raw: bytes) -> bytes:
    """With the checksum that its bytes ask for."""
    found = bytearray(raw)
    found[9] = 0
    found[9] = -sum(found) & 0xFF
    return bytes(found)


def is_table(raw: bytes) -> bool:
    return len(raw) >= HEAD_BYTES and struct.unpack_from("<I", raw, 4) == (len(raw),) and sum(raw) & 0xFF == 0


# -- byte code


def store(address: int, data: bytes) -> bytes:
    """AML: an operation region in memory, a field over it, and a buffer stored into the field."""
    region, field = b"RGN0", b"FLD0"
    opened = b"\x5b\x80" + region + b"\0" + _dword(address) + _dword(len(data))
    listed = region + b"\x01" + field + _length(8 * len(data), itself=False)
    buffer = _dword(len(data)) + data
    return opened + b"\x5b\x81" + _length(len(listed)) + listed + b"\x70\x11" + _length(len(buffer)) + buffer + field


def _dword(value: int) -> bytes:
    return b"\x0c" + struct.pack("<I", value)


def _length(count: int, *, itself: bool = True) -> bytes:
    """PkgLength, which counts its own bytes unless it stands for bits of a field."""
    for size in range(1, 5):
        whole = count + size if itself else count
        if size == 1 and whole < 0x40:
            return bytes([whole])
        if size > 1 and whole < 1 << (4 + 8 * (size - 1)):
            return bytes([(size - 1) << 6 | whole & 15]) + (whole >> 4).to_bytes(size - 1, "little")
    raise ValueError(f"{count} is too long for a package")


# -- all tables anew


@dataclass(frozen=True, slots=True)
class WholeSet:
    """What a host hands to the firmware instead of QEMU's own tables."""

    dsdt: bytes
    fadt: bytes
    madt: bytes
    facs: bytes

    def words(self, folder: Path) -> list[str]:
        """For the emulator's command line."""
        words = ["-machine", "acpi=off"]
        for name, content in self._files().items():
            path = folder / name.replace("/", "-")
            path.write_bytes(content)
            words += ["-fw_cfg", f"name={name},file={path}"]
        return words

    def _files(self) -> dict[str, bytes]:
        blob, places = bytearray(), {}
        for name in ("facs", "dsdt", "fadt", "madt"):
            blob += bytes(-len(blob) % 64)
            places[name] = len(blob)
            blob += getattr(self, name)
        places["rsdt"] = rsdt = len(blob)
        listed = (places["fadt"], places["madt"])
        blob += table(b"RSDT", struct.pack("<2I", *listed), 1)
        fadt = places["fadt"]
        struct.pack_into("<II", blob, fadt + FADT_FACS, places["facs"], places["dsdt"])
        struct.pack_into("<Q", blob, fadt + FADT_X_FACS, 0)
        struct.pack_into("<Q", blob, fadt + FADT_X_DSDT, places["dsdt"])
        steps = [
            _step(_ALLOCATE, _file(RSDP_FILE) + struct.pack("<IB", 16, _F_SEGMENT)),
            _step(_ALLOCATE, _file(TABLES_FILE) + struct.pack("<IB", 64, _HIGH)),
            *(
                _pointed(TABLES_FILE, at, size)
                for at, size in (
                    (fadt + FADT_FACS, 4),
                    (fadt + FADT_DSDT, 4),
                    (fadt + FADT_X_DSDT, 8),
                    (rsdt + HEAD_BYTES, 4),
                    (rsdt + HEAD_BYTES + 4, 4),
                )
            ),
            _pointed(RSDP_FILE, 16, 4),
        ]
        for start, length in ((fadt, len(self.fadt)), (rsdt, HEAD_BYTES + 8)):
            blob[start + 9] = 0
            steps.append(_step(_SUM, _file(TABLES_FILE) + struct.pack("<3I", start + 9, start, length)))
        steps.append(_step(_SUM, _file(RSDP_FILE) + struct.pack("<3I", 8, 0, 20)))
        rsdp = b"RSD PTR \0HOSTIL\0" + struct.pack("<I", rsdt)
        return {RSDP_FILE: rsdp, TABLES_FILE: bytes(blob), LOADER_FILE: b"".join(steps)}


def _step(command: int, fields: bytes) -> bytes:
    return (struct.pack("<I", command) + fields).ljust(128, b"\0")


def _pointed(inside: str, at: int, size: int) -> bytes:
    """What stands there is an offset into the tables, and becomes an address."""
    return _step(_POINT, _file(inside) + _file(TABLES_FILE) + struct.pack("<IB", at, size))


def _file(name: str) -> bytes:
    return name.encode().ljust(56, b"\0")


def entries(madt: bytes) -> Sequence[tuple[int, int]]:
    """Kind and offset of each entry of a MADT."""
    found, at = [], MADT_ENTRIES
    while at + 2 <= len(madt):
        found.append((madt[at], at))
        at += max(madt[at + 1], 2)
    return found
