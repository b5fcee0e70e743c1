"""A firmware image of a few pages that has everything the two kinds of machine look for, built field by field.

It has no code in it: it is measured and parsed, never started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

TABLE = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
SEV_METADATA = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
SEV_RESET = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
SEV_HASHES = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
TDVF_METADATA = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
ASEV, TDVF = b"ASEV", b"TDVF"

SEV_SECTIONS = (
    (0x800000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x80F000, 0x1000, 4),
    (0x810000, 0x1000, 16),
)
HASHES_AT = 0x810400


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


@dataclass(frozen=True)
class LittleFirmware:
    """Change a field, get the image with that field changed."""

    pages: int = 4
    sev_sections: Sequence[tuple[int, int, int]] = SEV_SECTIONS
    tdvf_sections: Sequence[tuple[int, int, int, int, int, int]] = (
        (0x1000, 0x2000, 0xFFFFD000, 0x3000, 0, 1),
        (0, 0x1000, 0xFFFFC000, 0x1000, 1, 0),
        (0, 0, 0x809000, 0x2000, 2, 0),
        (0, 0, 0x100000, 0x1000, 4, 2),
    )
    hashes: tuple[int, int] = (HASHES_AT, 0x400)
    sev_head: bytes | None = None
    tdvf_head: bytes | None = None
    more_entries: Sequence[tuple[UUID, bytes]] = ()
    table_name: UUID = TABLE

    def build(self) -> bytes:
        sev = self._sev()
        tdvf = self._tdvf()
        body = bytearray((7 * number + number // 4096) % 251 for number in range(self.pages * 4096))
        end = len(body)
        sev_at, tdvf_at = 2048, 2048 - 512  # before the end
        body[end - sev_at : end - sev_at + len(sev)] = sev
        body[end - tdvf_at : end - tdvf_at + len(tdvf)] = tdvf
        entries = [
            (TDVF_METADATA, u32(tdvf_at)),
            (SEV_METADATA, u32(sev_at)),
            (SEV_HASHES, u32(*self.hashes)),
            (SEV_RESET, u32(0x80B004)),
            *self.more_entries,
        ]
        table = b"".join(entry(name, value) for name, value in entries)
        table += (len(table) + 18).to_bytes(2, "little") + self.table_name.bytes_le
        body[end - 32 - len(table) : end - 32] = table
        return bytes(body)

    def _sev(self) -> bytes:
        rows = b"".join(u32(*row) for row in self.sev_sections)
        return (self.sev_head or ASEV + u32(16 + len(rows), 1, len(self.sev_sections))) + rows

    def _tdvf(self) -> bytes:
        rows = b"".join(
            u32(offset, size) + u64(address, memory) + u32(kind, attributes)
            for offset, size, address, memory, kind, attributes in self.tdvf_sections
        )
        return (self.tdvf_head or TDVF + u32(16 + len(rows), 1, len(self.tdvf_sections))) + rows


def entry(name: UUID, value: bytes) -> bytes:
    return value + (18 + len(value)).to_bytes(2, "little") + name.bytes_le


@dataclass(frozen=True)
class LittleProgram:
    """A PE32+ file that UEFI would hash; what is in it is not code."""

    sections: Sequence[tuple[int, int]] = ((512, 1024), (1536, 512))  # where in the file, how long
    certificates: bytes = b""
    behind: bytes = b""
    magic: int = 0x20B
    headers: int = 512

    def build(self) -> bytes:
        end = max((start + size for start, size in self.sections), default=self.headers)
        body = bytearray((13 * number) % 241 for number in range(end)) + self.behind
        place = (len(body), len(self.certificates)) if self.certificates else (0, 0)
        head = bytearray(self.headers)
        head[0:2], head[0x3C:0x40] = b"MZ", u32(64)
        head[64:68], head[64 + 6 : 64 + 8] = b"PE\0\0", len(self.sections).to_bytes(2, "little")
        head[64 + 20 : 64 + 22] = (240).to_bytes(2, "little")
        optional = 64 + 24
        head[optional : optional + 2] = self.magic.to_bytes(2, "little")
        head[optional + 60 : optional + 68] = u32(self.headers, 0xDEADBEEF)
        head[optional + 108 : optional + 112] = u32(16)
        head[optional + 144 : optional + 152] = u32(*place)
        for number, (start, size) in enumerate(self.sections):
            row = optional + 240 + 40 * number
            head[row : row + 40] = b".part\0\0\0" + u32(size, 4096, size, start) + bytes(16)
        body[: self.headers] = head
        return bytes(body) + self.certificates
